"""Sweeps: which runs there are, that they start, fail, stop and go on, with a stand-in for training."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from dsdr_verl.sweep import __main__ as command
from dsdr_verl.sweep import launch
from dsdr_verl.sweep.grid import Sweep, compose_problems, jobs_of, read_sweep

RECIPES = sorted(Path("recipe").glob("*/sweep.yaml"))
# A run that says what it was asked for, and ends as its seed says.
RUN = """
import pathlib, sys
values = dict(argument.split("=", 1) for argument in sys.argv[1:])
folder = pathlib.Path(values["run_dir"].strip("'"))
(folder / "attempts").open("a").write(values["seed"])
fixed = (folder.parent / "fixed").exists()
if values["seed"] == "2" and not fixed:
    sys.exit("the run has failed: out of luck")
if values["seed"] == "3" and not fixed:
    import os
    os.kill(os.getppid(), 2)  # as Ctrl-C would the sweep
    import time
    time.sleep(60)
"""


def sweep(folder="out", **changes) -> Sweep:
    grids = [["+algorithm=grpo,dsdr", "seed=range(1,4)"]]
    return Sweep(**{"folder": folder, "grids": grids, "minutes": 2, "machine": "2 cores"} | changes)


def write(path: Path, **changes) -> Path:
    path.write_text(json.dumps(json.loads(sweep(**changes).model_dump_json())))  # JSON is YAML
    return path


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr(
        command,
        "launch_all",
        partial(launch.launch_all, start=partial(launch.launch, command=[sys.executable, "-c", RUN])),
    )


def test_runs_of_a_grid_in_order():
    jobs = jobs_of(sweep(common=["profile=tiny"]))
    assert [job.name for job in jobs] == [
        "grpo-seed1",
        "grpo-seed2",
        "grpo-seed3",
        "dsdr-seed1",
        "dsdr-seed2",
        "dsdr-seed3",
    ]
    assert jobs[4].overrides == ("profile=tiny", "+algorithm=dsdr", "seed=2")
    assert jobs[4].folder == Path("out/dsdr-seed2")


def test_overrides_pick_among_the_values_of_a_grid_and_win_over_common():
    some = sweep(common=["trainer.test_freq=5"], grids=[["+algorithm=base", "seed=1"], *sweep().grids])
    (job,) = jobs_of(some, ["+algorithm=dsdr", "seed=2", "trainer.test_freq=7"])
    assert job.name == "dsdr-seed2" and job.overrides == ("trainer.test_freq=7", "+algorithm=dsdr", "seed=2")
    assert [job.name for job in jobs_of(some, ["+algorithm=base,dsdr", "seed=3,1"])] == [
        "base-seed1",
        "dsdr-seed1",
        "dsdr-seed3",
    ]
    swept = jobs_of(some, ["seed=1", "+algorithm=dsdr", "algorithm.dsdr.tau=1,10"])
    assert [job.name for job in swept] == ["dsdr-seed1-tau1", "dsdr-seed1-tau10"]


def test_grids_are_not_multiplied_with_each_other():
    jobs = jobs_of(sweep(grids=[["+algorithm=dsdr"], ["+algorithm=dsdr", "algorithm.dsdr.tau=1,10"]]))
    assert [job.name for job in jobs] == ["dsdr", "dsdr-tau1", "dsdr-tau10"]


def test_a_value_may_hold_commas_and_quotes():
    (job,) = jobs_of(sweep(grids=[["+algorithm=dsdr"]]), ["trainer.logger=[tensorboard,wandb]", "run='a b'", "~task"])
    assert job.overrides[:-1] == ("trainer.logger=[tensorboard,wandb]", "run='a b'", "~task") and job.name == "dsdr"


@pytest.mark.parametrize(
    ("grid", "overrides", "message"),
    [
        (["seed=interval(0,1)"], [], r"seed=interval.*list the values"),
        (["seed=(1"], [], "seed"),
        (["seed=1,2"], ["run_dir=x"], "run_dir is the sweep's to set"),
        (["seed=1,2"], ["seed=3"], "no grid has a run with all of seed=3"),
        (["data.path='a/b','a_b'"], [], "two different runs would be"),
    ],
)
def test_grids_that_are_refused(grid, overrides, message):
    with pytest.raises(ValueError, match=message):
        jobs_of(sweep(grids=[grid]), overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grids: []", "folder: Field required.*grids"),
        ("a: [", "no sweep to read"),
        ("3", "the file"),
        (None, "no sweep to read"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    path = tmp_path / "sweep.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_sweep(path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
def test_every_recipe_composes(path):
    assert path.parent.joinpath("README.md").is_file()
    jobs = jobs_of(read_sweep(path))
    assert len(jobs) > 3 and compose_problems(jobs) == []


def test_the_recipes_are_the_papers():
    names = {path.parent.name: [job.name for job in jobs_of(read_sweep(path))] for path in RECIPES}
    assert sorted(names) == ["ablation", "main_table", "sensitivity", "study"]
    assert len(names["main_table"]) == 12 and "dsdr-qwen3_4b" in names["main_table"]
    values = {"lambda_d": (0.001, 0.01, 0.1), "lambda_l": (0.002, 0.01), "tau": (1, 10)}
    assert names["sensitivity"] == [f"{option}{value}" for option, some in values.items() for value in some]
    arms = {name.split("-")[-1] for name in names["study"]}
    assert arms == {"base", "grpo", "dapo", "dsdr", "dsdr_wo_gd", "dsdr_wo_gc", "dsdr_uniform", "diver_style"}
    assert len(names["study"]) == 8 * 5 and "seed5-dsdr" in names["study"]


def test_what_cannot_be_composed_is_told_before_anything_starts(tmp_path, capsys):
    path = write(tmp_path / "sweep.yaml", folder=str(tmp_path / "out"), grids=[["+algorithm=dsdr,nonsense"]])
    assert command.main([str(path)]) == 2
    error = capsys.readouterr().err
    assert "1 of 2 runs cannot be composed" in error and "nonsense" in error
    assert not (tmp_path / "out").exists()


def test_a_failure_does_not_end_the_others_and_finished_runs_are_skipped(tmp_path, stand_in, capsys):
    path = write(tmp_path / "sweep.yaml", folder=str(tmp_path / "out"), grids=[["+algorithm=grpo,dsdr", "seed=1,2"]])
    assert command.main([str(path)]) == 1
    shown = capsys.readouterr().out
    assert "4 runs" in shown and "0 of them finished; the others take about 8 minutes" in shown
    assert shown.count("finished") >= 2 and "out of luck" in shown
    attempts = {folder.name: (folder / "attempts").read_text() for folder in sorted((tmp_path / "out").glob("*-*"))}
    assert attempts == {"dsdr-seed1": "1", "dsdr-seed2": "2", "grpo-seed1": "1", "grpo-seed2": "2"}

    (tmp_path / "out" / "fixed").touch()
    assert command.main([str(path)]) == 0
    assert "2 of them finished; the others take about 4 minutes" in capsys.readouterr().out
    attempts = {folder.name: (folder / "attempts").read_text() for folder in sorted((tmp_path / "out").glob("*-*"))}
    assert attempts == {"dsdr-seed1": "1", "dsdr-seed2": "22", "grpo-seed1": "1", "grpo-seed2": "22"}


def test_ctrl_c_stops_the_run_and_the_sweep_and_the_same_command_goes_on(tmp_path, stand_in, capsys):
    path = write(tmp_path / "sweep.yaml", folder=str(tmp_path / "out"), grids=[["+algorithm=grpo,dsdr", "seed=3"]])
    assert command.main([str(path)]) == 130
    shown = capsys.readouterr().out
    assert "stopped; the same command goes on" in shown and "not finished" in shown
    (tmp_path / "out" / "fixed").touch()
    assert command.main([str(path)]) == 0
    assert (tmp_path / "out" / "grpo-seed3" / "attempts").read_text() == "33"


def test_other_settings_in_the_same_folder_are_refused(tmp_path, stand_in, capsys):
    path = write(tmp_path / "sweep.yaml", folder=str(tmp_path / "out"), grids=[["+algorithm=grpo", "seed=1"]])
    assert command.main([str(path)]) == 0
    assert command.main([str(path), "trainer.test_freq=7"]) == 2
    error = capsys.readouterr().err
    assert "holds a run with other settings (trainer.test_freq=7)" in error and "--folder" in error
    assert command.main([str(path), "trainer.test_freq=7", "--folder", str(tmp_path / "other")]) == 0


def test_a_broken_record_is_named(tmp_path, capsys):
    path = write(tmp_path / "sweep.yaml", folder=str(tmp_path / "out"), grids=[["+algorithm=grpo", "seed=1"]])
    (tmp_path / "out" / "grpo-seed1").mkdir(parents=True)
    (tmp_path / "out" / "grpo-seed1" / launch.RECORD).write_text("{")
    assert command.main([str(path)]) == 2
    assert "sweep.json is broken" in capsys.readouterr().err


def test_a_run_that_outlives_its_sweep_keeps_the_folder(tmp_path):
    folder = tmp_path / "out"
    with launch.locked(folder) as lock:
        run = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[lock])
    try:
        with (
            pytest.raises(ValueError, match="in use by another sweep, or by a run that outlived it"),
            launch.locked(folder),
        ):
            pass
    finally:
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    with launch.locked(folder):
        pass


def test_hydras_own_multirun_is_refused(tmp_path):
    found = subprocess.run(
        [sys.executable, "-m", "dsdr_verl.main_ppo", "-m", "+algorithm=grpo,dsdr"],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert found.returncode == 2 and "python -m dsdr_verl.sweep" in found.stderr
    assert list(tmp_path.iterdir()) == []
