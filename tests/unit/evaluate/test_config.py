"""The config of an evaluation: every choice composes, and what is wrong is named with its key."""

import pytest
from hydra import compose, initialize_config_module

from dsdr_verl.evaluate.manifest import deciding
from dsdr_verl.evaluate.settings import config_problems, ks_of, scoring_mark, scoring_options
from dsdr_verl.scoring.options import ScoringOptions

GOOD = ("model=tiny", "task=countdown_4")


def config(*overrides: str, good: bool = True):
    with initialize_config_module("dsdr_verl.conf.evaluate", version_base=None):
        return compose("evaluate", overrides=[*(GOOD if good else ()), "engine=cpu", *overrides])


@pytest.mark.parametrize("engine", ["cpu", "gpu"])
@pytest.mark.parametrize("sampling", ["paper_passk", "paper_avg16", "paper_pass1", "untempered", "greedy"])
def test_every_choice_composes(sampling, engine, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # GPUs may be there
    c = config(f"sampling={sampling}", f"engine={engine}")
    assert config_problems(c) == []
    assert c.engine.device == {"cpu": "cpu", "gpu": "cuda"}[engine]
    assert scoring_options(c) == ScoringOptions()


def test_presets_are_the_papers():
    numbers = {
        name: (c.n, c.sampling.temperature, c.sampling.top_p)
        for name in ("paper_passk", "paper_avg16", "paper_pass1")
        for c in [config(f"sampling={name}")]
    }
    assert numbers == {"paper_passk": (64, 0.7, 0.9), "paper_avg16": (16, 0.7, 0.9), "paper_pass1": (1, 0.1, 0.9)}
    assert config("sampling=paper_pass1", "n=8").n == 8, "the command line wins"
    assert config().n == 64


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model=null", "model is null; set it to a folder"),
        ("task=countdwn_4", "task is 'countdwn_4'; did you mean countdown_4?"),
        ("task=null", "task is null and files is null; set one of them"),
        ("n=0", "n is 0; set it to a whole number from 1 to 1000"),
        ("n=1001", "n is 1001"),
        ("ks=[1,65]", "ks has 65; set its members to whole numbers from 1 to n, which is 64"),
        ("max_tokens=many", "max_tokens is 'many'"),
        ("sampling.temperature=-1", "sampling.temperature is -1"),
        ("sampling.temperature=0", "n is 64, and at sampling.temperature=0 all samples are alike"),
        ("sampling.top_p=0", "sampling.top_p is 0"),
        ("sampling.top_k=0", "sampling.top_k is 0"),
        ("seed=-1", "seed is -1"),
        ("limit=0", "limit is 0"),
        ("level=95", "level is 95"),
        ("engine.replicas=0", "engine.replicas is 0"),
        ("engine.device=tpu", "engine.device is 'tpu'"),
        ("scoring.verifier.timeout=0", "scoring.verifier.timeout is 0"),
    ],
)
def test_one_change_is_one_problem(override, says):
    (problem,) = config_problems(config(override))
    assert says in problem


def test_paths(tmp_path):
    (tmp_path / "file").touch()
    both = config_problems(config("task=null", "files=[gone.parquet]", f"output={tmp_path}/file/in"))
    assert "files has 'gone.parquet', and there is no such file" in both[0]
    assert both[1].startswith("output is") and both[1].endswith("is no folder to write to; set it to another")
    assert "set one of them" in config_problems(config(f"files=[{tmp_path}/file]"))[0]


def test_cuda_needs_a_machine_that_has_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert "choose engine=cpu, or set RAY_ADDRESS" in config_problems(config("engine=gpu"))[0]


def test_ks():
    assert ks_of(config("n=12")) == [1, 2, 4, 8, 12]
    assert ks_of(config("ks=[8,2]")) == [1, 2, 8]


def test_what_decides_the_samples():
    def decides(*overrides):
        return deciding(config(*overrides), "model", "problems")

    for other in ("seed=1", "max_tokens=9", "sampling.top_p=0.5", "engine.dtype=bfloat16", "engine.args.block_size=16"):
        assert decides(other) != decides(), other
    for same in ("n=4", "engine.replicas=2", "engine.capacity.max_num_seqs=8", "scoring.verifier.strict=true"):
        assert decides(same) == decides(), same


def test_what_decides_the_scores():
    def mark(*overrides):
        return scoring_mark(scoring_options(config(*overrides)))

    assert mark("scoring.verifier.strict=true") != mark() != mark("scoring.formulas.notion=surface")
    assert mark("scoring.actors=4", "scoring.verifier.workers=2", "scoring.embedding.device=cuda") == mark()
