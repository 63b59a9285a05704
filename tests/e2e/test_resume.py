"""A run that is killed, at whatever moment, and started again by the same command is the run that was never killed."""

import json

import pytest

from tests.chaos.cell import INJECT
from tests.e2e.runs import TINY, Started, abandoned, log_tail, run

pytestmark = pytest.mark.e2e
STEPS = 5
EXACT = (
    "+algorithm=dsdr", "+rollouts=seeded", "trainer.logger=[wandb]", "trainer.save_freq=2", "trainer.test_freq=2",
    f"trainer.total_training_steps={STEPS}", "actor_rollout_ref.actor.optim.lr_warmup_steps=4",
)  # fmt: skip
# (process, stage, step) of each kill, in turn. The first of each is before any checkpoint is whole; 2 goes at step 4.
KILLS = {
    "between steps": [("all", *at) for at in (("seal", 2), ("validation", 4), ("removal", 2), ("weight_sync", 5))],
    "in a step": [
        ("all", *at) for at in (("generation", 2), ("scoring", 3), ("log_prob", 3), ("advantage", 4), ("update", 5))
    ],
    "one process": [
        ("trainer_rank", "update", 2), ("vllm_worker", "weight_sync", 3), ("driver", "validation", 4),
        ("raylet", "generation", 5),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return run(tmp_path_factory.mktemp("uninterrupted"), *EXACT)


@pytest.fixture
def nothing_is_left():
    """Of killed runs whose every process was killed at once: the next run removes it."""
    before = abandoned()
    yield
    assert abandoned() <= before


def kill(folder, kind: str, stage: str, step: int) -> None:
    struck = folder / f"struck-{stage}.jsonl"
    env = {"DSDR_TEST_FAULTS": f"kill/{kind}/{stage}/{step}", "DSDR_TEST_STRUCK": str(struck), "PYTHONPATH": INJECT}
    no_dashboard = "+ray_kwargs.ray_init.include_dashboard=false"
    ended = Started(folder, *TINY, f"run_dir={folder}", no_dashboard, *EXACT, env=env).wait()
    expected = -9 if kind in ("all", "driver") else 1
    assert ended.returncode == expected and struck.exists(), (
        f"{kind} was not killed at {stage} of step {step}\n{ended.output}\n{log_tail(folder)}"
    )


def numbers(finished) -> dict[tuple[int, str], dict[str, float]]:
    """Every row but for what a clock has measured."""
    rows = [json.loads(line) for line in (finished.folder / "metrics.jsonl").read_text().splitlines()]
    keys = [(row["step"], row["kind"]) for row in rows]
    assert len(keys) == len(set(keys)), "no row twice"
    timed = ("timing", "perf", "actor/perf", "training/step_time")
    return {
        key: {n: v for n, v in row["metrics"].items() if not n.startswith(timed) and "seconds" not in n}
        for key, row in zip(keys, rows, strict=True)
    }


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("kills", KILLS.values(), ids=KILLS)
def test_killed_at_every_stage(uninterrupted, tmp_path, kills):
    for kind, stage, step in kills:
        kill(tmp_path, kind, stage, step)
    finished = run(tmp_path, *EXACT)
    whole, resumed = numbers(uninterrupted), numbers(finished)
    assert list(whole) == list(resumed) and len(whole) == STEPS + STEPS // 2 + 1
    for key, metrics in whole.items():
        assert metrics.keys() == resumed[key].keys()
        for name, value in metrics.items():
            # what is between vLLM and the trainer is rounding itself
            least = 1e-5 if name.startswith(("training/rollout", "rollout_corr")) else 1e-6
            assert resumed[key][name] == pytest.approx(value, rel=1e-4, abs=least), (key, name)
    # by time; the first was killed before it had anything to go on from
    _, *ids = [path.name.rpartition("-")[2] for path in sorted((tmp_path / "wandb").glob("offline-run-*"))]
    assert len(ids) == len(kills) and len(set(ids)) == 1
    assert [path.name for path in (tmp_path / "checkpoints").glob("global_step_*")] == [f"global_step_{STEPS}"]
