"""The planner's arithmetic against numbers worked out by hand, and its command."""

import json
import os
import pickle

import pytest
from omegaconf import OmegaConf

from dsdr_verl import plan
from dsdr_verl.planning.batches import Batches, batches
from dsdr_verl.planning.estimate import estimate
from dsdr_verl.planning.memory import CONTEXT, ENCODER, GIB, WORKSPACE, activations, logits, memory
from dsdr_verl.planning.problems import check_problems, verl_problems
from dsdr_verl.planning.recipes import composed
from dsdr_verl.planning.shapes import SHAPES, ModelShape, shape_of
from dsdr_verl.planning.stages import GPUS
from dsdr_verl.planning.traffic import traffic

A100 = GPUS["a100-40gb"]
SMALL = ModelShape(layers=2, hidden=8, mlp=16, heads=2, kv_heads=1, vocab=100, positions=64, head_dim=4, tied=True)


pytestmark = pytest.mark.usefixtures("online")


@pytest.fixture(scope="session")
def recipe():
    return composed("qwen3_4b", "dsdr")


@pytest.fixture
def changed(recipe):
    packed = pickle.dumps(recipe)  # many times faster than copying

    def change(**keys):
        config = pickle.loads(packed)
        for key, value in keys.items():
            OmegaConf.update(config, key.replace("__", "."), value, force_add=True)
        return config

    return change


# ------------------------------------------------------------------------------------------------------------ shapes


@pytest.mark.parametrize(
    ("name", "billions"),
    [  # as their model cards say, to the digits given there
        ("Qwen/Qwen2.5-Math-1.5B", 1.54),
        ("Qwen/Qwen2.5-7B", 7.61),
        ("Qwen/Qwen2.5-32B", 32.8),
        ("Qwen/Qwen3-1.7B", 1.72),
        ("Qwen/Qwen3-4B", 4.02),
        ("Qwen/Qwen3-8B", 8.19),
        ("Qwen/Qwen3-32B", 32.8),
        ("meta-llama/Llama-3.1-8B", 8.03),
    ],
)
def test_parameters_are_the_published_ones(name, billions):
    assert SHAPES[name].parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_parameters_by_hand():
    # a layer: q and o 8·8 each, k and v 8·4 each, MLP 3·8·16, two norms of 8
    assert SMALL.layer_parameters == 64 + 64 + 32 + 32 + 384 + 16 == 592
    assert SMALL.parameters == 100 * 8 + 2 * 592 + 8 == 1992
    assert SMALL.kv_bytes == 2 * 2 * 2 * 4, "keys and values, 2 bytes, 2 layers, 4 wide"


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_transformers(kind, tied, tmp_path):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"num_hidden_layers": 3, "hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 6}
    sizes |= {"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 101, "max_position_embeddings": 77}
    config = AutoConfig.for_model(kind, tie_word_embeddings=tied, **sizes)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    config.save_pretrained(tmp_path)
    shape = shape_of(str(tmp_path))
    assert shape.parameters == sum(weight.numel() for weight in model.parameters())
    assert shape.positions == 77 and shape.tied == tied


def test_an_unknown_shape_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"model.path is 'a/b'.*Qwen/Qwen3-4B"):
        shape_of("a/b")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mixtral"}))
    with pytest.raises(ValueError, match="type 'mixtral'"):
        shape_of(str(tmp_path))


# ----------------------------------------------------------------------------------------------------------- batches


def test_batches_of_the_paper(changed):
    one, four = batches(changed()), batches(changed(trainer__nnodes=4))
    assert (one.rollouts, one.mini_batch, one.optimiser_steps) == (2048, 128, 16)
    assert (one.ranks, one.rollouts / one.ranks, one.mini_batch_per_rank, one.micro_batches) == (8, 256, 16, 16)
    assert (four.ranks, four.rollouts / four.ranks, four.mini_batch_per_rank, four.micro_batches) == (32, 64, 4, 4)
    assert one.longest == 9216 and one.longest_response == 8192


def test_micro_batches_hold_whole_sequences(changed):
    key = "actor_rollout_ref__actor__ppo_max_token_len_per_gpu"
    assert batches(changed(**{key: 2 * 9216})).micro_batches == 8
    assert batches(changed(**{key: 3 * 9216 - 1})).micro_batches == 8
    half = {key: 4608, "actor_rollout_ref__actor__ulysses_sequence_parallel_size": 2}
    assert (batches(changed(**half)).ranks, batches(changed(**half)).micro_batches) == (4, 32)


@pytest.mark.parametrize(
    ("ranks", "nearest"), [(8, (256, 16)), (24, (240, 15)), (40, (240, 15)), (48, (288, 18)), (256, (512, 32))]
)
def test_the_nearest_batch_that_ranks_can_share(ranks, nearest):
    batch = Batches(ranks, 8, ranks, ranks, 256, 2048, 128, 16, 9216, 8192, 9216)
    assert batch.nearest == nearest
    assert nearest[1] * 8 % ranks == nearest[0] * 8 % ranks == 0


# ------------------------------------------------------------------------------------------------------------ memory


def test_memory_of_a_gpu_by_hand(changed):
    config, P = changed(), 4_022_468_096  # Qwen3-4B
    shape = SHAPES["Qwen/Qwen3-4B"]
    assert shape.parameters == P
    room = memory(config, shape, batches(config), A100.memory)
    update = room.phases["update"]
    assert update["trainer: weights"] == update["trainer: gradients"] == P / 2, "4 bytes over 8 GPUs"
    assert update["trainer: AdamW moments"] == P, "8 bytes over 8 GPUs"
    assert update["trainer: logits"] == 8 * 9216 * 151_936
    assert update["trainer: gathered layers"] == 2 * (388_956_160 + 2 * 100_930_816) + 6 * 388_956_160
    generation = room.phases["generation"]
    assert generation["vLLM: weights"] == 2 * P
    assert generation["vLLM: KV cache"] == room.cache == 32 * GIB - 2 * P - WORKSPACE
    assert room.peak("generation") == pytest.approx(32 * GIB + CONTEXT), "all of the trainer is offloaded"
    assert room.cached_sequences == pytest.approx(room.cache / (9216 * 147_456)), "2 · 2 bytes · 36 layers · 1024"
    assert room.phases["weight sync"]["trainer: one full tensor"] == 4 * 151_936 * 2560
    assert room.checkpoint == 12 * P
    assert room.host == 4 * P * 8 + 12 * P + 8 * 1.5 * GIB, "a whole copy in each process, and what is offloaded"


def test_offload_moves_the_trainer_to_the_host(changed):
    def room(offload):
        keys = {f"actor_rollout_ref__actor__fsdp_config__{part}_offload": offload for part in ("param", "optimizer")}
        config = changed(**keys)
        return memory(config, shape_of("Qwen/Qwen3-4B"), batches(config), A100.memory)

    on, off = room(True), room(False)
    states = 12 * 4_022_468_096 / 8
    for phase in ("generation", "weight sync"):
        assert off.peak(phase) - on.peak(phase) == pytest.approx(states)
    assert off.peak("update") == on.peak("update")
    assert on.host - off.host == pytest.approx(8 * states)


def test_more_gpus_shard_the_trainer_and_nothing_else(changed):
    shape = SHAPES["Qwen/Qwen3-4B"]
    one, two = changed(), changed(trainer__nnodes=2)
    one, two = (memory(config, shape, batches(config), A100.memory) for config in (one, two))
    assert one.peak("update") - two.peak("update") == pytest.approx(16 * shape.parameters / 16)
    assert one.cache == two.cache


def test_activations_by_hand():
    # a token's bytes in a layer: 2 · (5·8 + 2·8 + 2·4 + 4·16); checkpoints are 2 layers' inputs of 2 · 8 bytes
    layer = 2 * (40 + 16 + 8 + 64)
    assert activations(SMALL, 10, checkpointing=True) == 10 * (2 * 16 + 2 * layer)
    assert activations(SMALL, 10, checkpointing=False) == 10 * 3 * layer
    assert logits(SMALL, 10) == 8 * 10 * 100


def test_scoring_on_a_gpu_takes_some_of_the_first(changed):
    config = changed(scoring__embedding__device="cuda", scoring__actors=3, trainer__nnodes=2)
    room = memory(config, SHAPES["Qwen/Qwen3-4B"], batches(config), A100.memory)
    assert all(parts["scoring"] == 2 * ENCODER for parts in room.phases.values()), "3 actors on 2 nodes: 2 on one"


# -------------------------------------------------------------------------------------------------- traffic and time


def test_traffic_by_hand(changed):
    moved = traffic(SMALL, batches(changed()))
    assert moved.sync_gathered == 4 * 1992 * 7 / 8 and moved.sync_copied == 4 * 1992
    assert moved.micro_batch == 8 * 1992 * 7 / 8


def test_stages_by_hand(recipe):
    P, gpu = 4_022_468_096, A100
    stage = estimate(recipe, gpu, response=3000).stages
    prompt, context = 512, 512 + 1500
    assert stage.tokens == 2048 * 3512
    room = 32 * GIB - 2 * P - WORKSPACE
    assert stage.concurrency == room // (context * 147_456) == 79
    iteration = (2 * P + 79 * context * 147_456) / (1.555e12 * 0.6) + 4e-3
    assert stage.generation == pytest.approx(256 * 3000 / 79 * iteration)
    assert stage.tail == pytest.approx(8192 * ((2 * P + context * 147_456) / (1.555e12 * 0.6) + 4e-3))
    assert stage.log_prob == pytest.approx(2 * P * 2048 * (prompt + 3000) / 8 / (312e12 * 0.35))
    assert stage.update == pytest.approx(4 * stage.log_prob)
    assert stage.sync == pytest.approx(4 * P * 7 / 8 / (300e9 * 0.7) + 4 * P / (1.555e12 * 0.7))
    assert stage.step == pytest.approx(stage.generation + stage.log_prob + stage.update + stage.sync)


def test_scoring_agrees_with_the_performance_page(changed):
    """docs/performance.md: 7.4 cores with `chunk` and 0.5 with `truncate`, for 4,096 tokens within 300 s."""
    for long, cores in (("truncate", 0.51), ("chunk", 7.4)):
        stage = estimate(changed(scoring__embedding__long=long), A100, response=4096).stages
        assert stage.scoring / 300 == pytest.approx(cores, rel=0.01)


def test_the_longest_response_bounds_generation(changed):
    many = estimate(changed(trainer__nnodes=16), A100).stages
    assert many.generation == many.tail > 0


@pytest.mark.parametrize(
    ("model", "nodes", "tensor_parallel", "response", "tokens_a_gpu"),
    [  # NVIDIA's figures for NeMo RL 0.4 on H100 (docs/scaling.md)
        ("meta-llama/Llama-3.1-8B", 2, 1, 910, 1562),
        ("Qwen/Qwen3-32B", 4, 4, 3056, 540),
    ],
)
def test_published_runs_are_within_a_factor_of_two(changed, model, nodes, tensor_parallel, response, tokens_a_gpu):
    config = changed(
        trainer__nnodes=nodes,
        actor_rollout_ref__model__path=model,
        actor_rollout_ref__actor__ppo_mini_batch_size=64,
        actor_rollout_ref__rollout__tensor_model_parallel_size=tensor_parallel,
        data__max_prompt_length=300,
        data__max_response_length=3796,
    )
    found = estimate(config, GPUS["h100-80gb"], response)
    assert 0.5 < found.stages.throughput / found.batch.gpus / tokens_a_gpu < 2


# ---------------------------------------------------------------------------------------------------------- problems


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"actor_rollout_ref__rollout__gpu_memory_utilization": 0.97}, ("generation takes about", "38.0 can be used")),
        ({"actor_rollout_ref__rollout__gpu_memory_utilization": 0.2}, ("vLLM's cache holds 0.0",)),
        ({"actor_rollout_ref__actor__ppo_max_token_len_per_gpu": 36864}, ("update takes about", "ulysses")),
        ({"data__max_response_length": 65536}, ("the model has 40960 positions",)),
        ({"trainer__nnodes": 32}, ("256 data-parallel ranks cannot share", "ppo_mini_batch_size=32")),
        ({"scoring__num_gpus": 0.1}, ("scoring.num_gpus is 0.1", "wait for ever")),
        ({"scoring__actors": 1, "scoring__embedding__long": "chunk"}, ("scoring.actors is 1", "raise it to 4")),
        ({"actor_rollout_ref__model__path": "Qwen/Qwen2.5-32B"}, ("weight sync takes about",)),
    ],
)
def test_what_does_not_fit_is_said(changed, change, parts):
    found = estimate(changed(**change), A100).problems
    assert [problem for problem in found if all(part in problem for part in parts)], found


def test_verls_own_validation_is_asked(changed):
    assert verl_problems(changed()) == []
    (problem,) = verl_problems(changed(actor_rollout_ref__actor__loss_agg_mode="median"))
    assert problem.startswith("verl: ") and "median" in problem


def test_checks_see_a_cluster_and_leave_the_environment(changed, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert check_problems(changed(trainer__nnodes=2)) == []
    assert "RAY_ADDRESS" not in os.environ


# ----------------------------------------------------------------------------------------------------------- command


def test_command_prints_a_plan(capsys):
    assert plan.main(["qwen3_1_7b", "--arm", "grpo", "--nodes", "2", "trainer.save_freq=5"]) == 0
    out = capsys.readouterr().out
    for part in ("qwen3_1_7b, grpo", "1.721 B parameters", "2 node(s) × 8", "2,048 rollouts", "16 of 128", "fits"):
        assert part in out


def test_command_says_what_does_not_fit(capsys):
    assert plan.main(["qwen3_4b", "--gpu-memory-gib", "24"]) == 1
    assert "GiB of a GPU's 24" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["qwen"], "There are qwen25_math_1_5b, qwen3_1_7b, qwen3_4b"),
        (["qwen3_4b", "--arm", "ppo"], "there is no arm 'ppo'"),
        ([], "name a recipe: qwen25_math_1_5b"),
        (["--all", "qwen3_4b"], "--all is every recipe; leave out qwen3_4b"),
        (["--all", "actor_rollout_ref.actor.ppo_mini_batch_size=0"], "ppo_mini_batch_size is 0; set it to"),
        (["qwen3_4b", "no.such=1"], "no.such"),
        (["qwen3_4b", "--nodes", "0"], "trainer.nnodes is 0; set it to a whole number of at least 1"),
        (["qwen3_4b", "trainer.nnodes=many"], "trainer.nnodes is 'many'"),
        (["qwen3_4b", "actor_rollout_ref.model.path=some/model"], "whose shape is not known"),
    ],
)
def test_command_on_what_cannot_be_planned(arguments, said, capsys):
    assert plan.main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err and not captured.out


def test_command_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        plan.main(["--help"])
    out = capsys.readouterr().out
    assert "qwen3_4b" in out and "dsdr_wo_gd" in out and "--gpu-memory-gib" in out
