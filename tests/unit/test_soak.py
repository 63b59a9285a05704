"""What a soak calls growth, on series that were made up: 10 s a sample, two hours."""

import json
import mmap
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter

from tests.soak import page, plot
from tests.soak.judge import FLAT, GROWS, NOT_JUDGED, UNSEEN, judge
from tests.soak.roles import role_of
from tests.soak.series import ALL, SAMPLES, TooFew, read, series_of
from tests.soak.slope import slope_of
from tests.soak.watch import End, Tail, memory_of, size_of

N = 630  # after the warm-up
HOURS = np.arange(N) * 10 / 3600


def noise(rng) -> np.ndarray:
    return rng.normal(size=N)


def autocorrelated(rng, phi: float = 0.95) -> np.ndarray:
    """With a memory of three minutes."""
    return lfilter([1], [1, -phi], rng.normal(size=N + 500))[500:]


def two_levels(rng) -> np.ndarray:
    """An arena that is taken and given back every seven minutes or so."""
    return 10.0 * (np.cumsum(rng.random(N) < 1 / 40) % 2) + noise(rng)


def sawtooth(rng, samples: int = 30) -> np.ndarray:
    """Garbage that is collected every five minutes, more or less."""
    lengths = rng.integers(0.7 * samples, 1.3 * samples, size=N)
    return np.concatenate([np.arange(length) for length in lengths])[rng.integers(samples) :][:N] + noise(rng)


@pytest.mark.parametrize("made_up", [noise, autocorrelated, two_levels, sawtooth])
@pytest.mark.parametrize("truth", [0.0, 40.0])
def test_the_interval_holds_the_truth(made_up, truth):
    found = [slope_of(HOURS, truth * HOURS + made_up(np.random.default_rng(seed))) for seed in range(200)]
    covered = np.mean([slope.low <= truth <= slope.high for slope in found])
    assert covered >= 0.9
    assert abs(np.mean([slope.estimate for slope in found]) - truth) < 1.0


def test_what_a_line_without_memory_would_say():
    """The test above can fail: values that are alike are not as many as they seem."""
    from scipy import stats

    covered = 0
    for seed in range(200):
        line = stats.linregress(HOURS, autocorrelated(np.random.default_rng(seed)))
        covered += abs(line.slope) <= 1.96 * line.stderr
    assert covered < 0.7 * 200


@pytest.mark.parametrize("made_up", [noise, autocorrelated, two_levels, sawtooth])
def test_a_leak_is_found(made_up):
    found = [slope_of(HOURS, 40 * HOURS + made_up(np.random.default_rng(seed))) for seed in range(50)]
    assert np.mean([slope.low > 0 for slope in found]) > 0.9
    assert all(slope.p < 0.025 for slope in found if slope.low > 0)


def test_a_leak_in_stairs_is_found():
    stairs = 64.0 * np.floor(HOURS / 0.25)  # an arena every quarter of an hour
    slope = slope_of(HOURS, stairs)
    assert slope.low > 0 and slope.estimate == pytest.approx(256, rel=0.1)


def test_one_step_up_is_no_leak():
    assert slope_of(HOURS, 100.0 + 5 * (HOURS > 0.8)).low < 0


def test_lines_without_noise():
    flat = slope_of(HOURS, np.full(N, 812.0))
    assert (flat.estimate, flat.low, flat.high, flat.p) == (0, 0, 0, 1)
    rising = slope_of(HOURS, 3 * HOURS)
    assert rising.low == pytest.approx(3) == rising.high and rising.p < 1e-6


def test_too_few_values():
    with pytest.raises(ValueError, match="19 values are too few for a slope: at least 20"):
        slope_of(HOURS[:19], HOURS[:19])


def samples(memory: np.ndarray, **others) -> list[dict]:
    """A run of one step a second whose worker has so much; the first sample is before the first step."""
    return [
        {
            "seconds": 10.0 * index, "step": 10 * index, "times": {"step": [0.9, 1.1]},
            "shm": 90.0, "folder": 0.1 * index, "session": 1.0,
            "processes": [
                {"role": "raylet", "pid": 1, "memory": 50.0, "shared": 9.0, "descriptors": 40, "threads": 30},
                {"role": "worker", "pid": 2, "memory": value, "shared": 9.0, "descriptors": 60, "threads": 20},
            ],
        }
        for index, value in enumerate(memory)
    ]  # fmt: skip


def verdicts(made_up: list[dict]) -> dict[tuple[str, str], str]:
    findings = judge(series_of(made_up))
    return {(finding.series.quantity.name, finding.series.role): finding.verdict for finding in findings}


def test_a_leak_of_one_role():
    rng = np.random.default_rng(0)
    found = verdicts(samples(1000 + 40 * HOURS + noise(rng)))
    assert found.pop(("memory", "worker")) == found.pop(("memory", ALL)) == GROWS
    assert found.pop(("run folder without checkpoints", ALL)) == found.pop(("Ray's session folder", ALL)) == NOT_JUDGED
    assert set(found.values()) == {FLAT} and ("memory", "raylet") in found and ("step time", ALL) in found


def test_growth_that_nobody_minds():
    found = verdicts(samples(1000 + 4 * HOURS + 0.1 * noise(np.random.default_rng(0))))
    assert found["memory", "worker"] == FLAT


def test_a_process_has_one_role():
    """A title names the class whose method runs, so that of a base class now and then."""
    made_up = samples(np.full(200, 900.0))
    for sample in made_up[::3]:
        sample["processes"][1]["role"] = "base"
    assert {series.role for series in series_of(made_up)} == {ALL, "raylet", "worker"}


def test_what_is_not_known():
    found = verdicts(samples(1000 + 300 * autocorrelated(np.random.default_rng(0), 0.99)))
    assert found["memory", "worker"] == UNSEEN


def test_many_series_that_do_not_grow():
    """One in forty intervals lies above 0 by chance."""
    alarms, above = 0, 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        made_up = samples(np.zeros(200))
        for sample in made_up:
            like, *_ = sample["processes"]
            sample["processes"] = [like | {"role": f"role{i}", "memory": 100 + 50 * rng.normal()} for i in range(40)]
        findings = judge(series_of(made_up))
        alarms += any(finding.verdict == GROWS for finding in findings)
        above += any(finding.slope.low > 0 for finding in findings)
    assert above >= 4 and alarms <= 1


def test_a_step_at_the_start_is_not_counted():
    memory = 1000 + 2000 * (np.arange(720) > 60) + noise(np.random.default_rng(0)).mean()
    assert verdicts(samples(memory))["memory", "worker"] == FLAT
    assert series_of(samples(memory))[0].warm_up == 0.25
    (total, *_) = series_of(samples(memory[:101]))
    assert total.warm_up == pytest.approx(0.15 * 990 / 3600), "of a short run less"


def test_time_from_step_to_step():
    made_up = samples(np.zeros(4))
    made_up[2] |= {"step": 10, "times": {}}  # nothing new
    clock = series_of(made_up)[0]
    assert clock.values.tolist() == [1000.0] and clock.hours.tolist() == [20 / 3600]


def test_a_role_that_comes_and_goes():
    made_up = samples(np.full(5, 7.0))
    del made_up[3]["processes"][1]
    found = {(s.quantity.name, s.role): s.values.tolist() for s in series_of(made_up)}
    assert found["memory", "worker"] == [7, 7, 0, 7] and found["processes", ALL] == [2, 2, 1, 2]


@pytest.mark.parametrize("count", [0, 1, 2, 15])
def test_too_few_samples(count):
    with pytest.raises(TooFew, match="samples after the"):
        judge(series_of(samples(np.zeros(count))))


def test_a_torn_file(tmp_path):
    lines = [json.dumps(sample) for sample in samples(np.zeros(3))]
    (tmp_path / SAMPLES).write_text("\n".join(lines)[:-40])
    assert [sample["step"] for sample in read(tmp_path / SAMPLES)] == [0, 10]


def test_news_of_a_file(tmp_path):
    news = Tail(tmp_path / "metrics.jsonl")
    assert news.rows() == []
    with open(news.path, "w") as file:
        for text, rows in (('{"a": 1}\n{"a"', [{"a": 1}]), (": 2}", []), ("\n", [{"a": 2}])):
            file.write(text)
            file.flush()
            assert news.rows() == rows


@pytest.mark.parametrize(
    ("command", "role"),
    [
        (["ray::TaskRunnerV1.run"], "ray::TaskRunnerV1"),
        (["ray::WorkerDict.actor_rollout_update_actor", ""], "ray::WorkerDict"),
        (["ray::IDLE"], "ray::IDLE"),
        (["VLLM::Worker"], "VLLM::Worker"),
        (["/x/bin/python", "-m", "dsdr_verl.main_ppo", "profile=tiny"], "driver"),
        (["/x/python", "-c", "from dsdr_verl.scoring.zygote.serve import *"], "verifier"),
        (["/x/raylet/raylet", "--raylet_socket_name=/tmp/ray/x.py"], "raylet"),
        (["/x/gcs/gcs_server", "--log_dir=/tmp"], "gcs_server"),
        (["/x/python", "-u", "/x/dashboard/agent.py", "--node-ip=1"], "dashboard/agent.py"),
        (["/x/python", "-u", "/x/runtime_env/agent/main.py"], "agent/main.py"),
        ([], "unknown"),
    ],
)
def test_roles(command, role):
    assert role_of(command) == role


def test_memory_of_a_process():
    before, _ = memory_of("self")
    block = mmap.mmap(-1, 64 * 2**20, flags=mmap.MAP_PRIVATE)  # not malloc's, which may have as much to give again
    block[::4096] = b"x" * (len(block) // 4096)
    assert memory_of("self")[0] - before == pytest.approx(64, abs=4)


def test_size_of_a_folder(tmp_path):
    for name in ("a", "b/c", "checkpoints/d"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(2**20))
    assert size_of(tmp_path, but=tmp_path / "checkpoints") == 2


def test_how_it_ended(tmp_path):
    assert End.read(tmp_path) is None
    assert End(True, 130, 4.0, []).problems() == []
    assert End(True, -9, 120.0, ["7 raylet"]).problems() == [
        "left behind: 7 raylet", "the run was stopped, and ended with -9, not 130",
    ]  # fmt: skip
    assert End(False, 1, 0.0, []).problems() == ["the run ended by itself, with 1"]


def test_the_page_and_the_picture(tmp_path):
    findings = judge(series_of(samples(1000 + 40 * HOURS + noise(np.random.default_rng(0)))))
    text = page.report(findings, End(True, 130, 4.0, []))
    rows = [line for line in text.splitlines() if line.startswith("| memory")]
    assert len(rows) == 2 and all(row.endswith("**grows** |") for row in rows)
    assert "| memory | worker | MiB | 10" in rows[1] and "+40" in rows[1]
    assert "not known" in page.report(findings, None)
    assert "- **left behind: x**" in page.report(findings, End(True, 130, 4.0, ["x"]))
    picture = Path(tmp_path / "soak.png")
    plot.draw(findings, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
