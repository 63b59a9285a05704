"""After a sync that replaces every weight, vLLM's log-probs are the model's; and a sync that fails ends."""

import asyncio
import os
import threading

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

pytestmark = pytest.mark.e2e

# fp32: rounding only. bf16: 8 bits of mantissa in every activation.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}
TOKENS = [3, 17, 40, 9, 55, 21, 8, 30, 61, 2, 44, 13]


def random_model(tied: bool, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=128, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=128, tie_word_embeddings=tied,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).float()
    with torch.no_grad():
        for parameter in model.parameters():
            # far from initialisation and from any other seed: a stale copy of one tensor shows
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def token_log_probs(model: LlamaForCausalLM, dtype: torch.dtype) -> torch.Tensor:
    ids = torch.tensor([TOKENS])
    with torch.no_grad():
        logits = model.to(dtype)(ids).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(-1, ids[0, 1:, None]).squeeze(-1)


def vllm_log_probs(llm) -> torch.Tensor:
    from vllm import SamplingParams

    output = llm.generate(
        [{"prompt_token_ids": TOKENS}],
        SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False),
        use_tqdm=False,
    )[0]
    return torch.tensor(
        [entry[token].logprob for token, entry in zip(TOKENS[1:], output.prompt_logprobs[1:], strict=True)]
    )


def send(model: LlamaForCausalLM, handle: str) -> None:
    from dsdr_verl.platform.vllm_rollout import WatchedSender

    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    # 1 MiB buckets: the model takes several
    asyncio.run(WatchedSender(handle, 1, call=None).async_send_weights(iter(weights.items())))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_vllm_has_the_trainers_weights(tmp_path, monkeypatch, tied, dtype):
    job = f"test{os.getpid()}{'tied' if tied else 'untied'}{dtype}"
    for name, value in {
        "VERL_PLATFORM": "cpu", "VERL_REPLICA_RANK": "0", "VERL_RAY_JOB_ID": "01000000", "DSDR_RUN": job,
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "WARNING", "OMP_NUM_THREADS": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    random_model(tied, seed=0).save_pretrained(tmp_path)

    import verl  # noqa: F401 - loads the plug-in
    from vllm import LLM

    llm = LLM(
        str(tmp_path), skip_tokenizer_init=True, dtype=dtype, enforce_eager=True, max_model_len=64, max_num_seqs=4,
        max_num_batched_tokens=64, enable_prefix_caching=False, distributed_executor_backend="mp",
        worker_extension_cls="dsdr_verl.platform.vllm_worker.CPUWorkerExtension",
    )  # fmt: skip
    handle = f"ipc:///tmp/rl-colocate-zmq-{job}-01000000-replica-0-rank-0.sock"
    try:
        previous = None
        for seed in (1, 2):
            model = random_model(tied, seed)
            sender = threading.Thread(target=send, args=(model, handle))
            sender.start()
            llm.collective_rpc("update_weights_from_ipc", timeout=60, kwargs={"use_shm": True})
            sender.join(timeout=60)
            assert not sender.is_alive()
            expected = token_log_probs(model, getattr(torch, dtype))
            actual = vllm_log_probs(llm)
            torch.testing.assert_close(actual, expected, atol=TOLERANCE[dtype], rtol=0)
            if previous is not None:
                assert (actual - previous).abs().max() > 0.5, (
                    "the two models must differ by far more than the tolerance"
                )
            previous = actual
    finally:
        llm.llm_engine.engine_core.shutdown()
