"""One run with faults, and whether what came of each is allowed."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from dsdr_verl.trainer.checkpoints import flaw, steps_in
from tests.e2e.runs import TINY, Run, Started

INJECT = str(Path(__file__).parent / "inject")
STEPS = 24  # room for a fault at each stage, and for a watchdog to see what stands still
APART = 2  # steps between two faults, so that a verifier has come back
START = "start"  # the only stage that is no step's
LIMIT_S = 60  # from a fault to the end of its run
TRAIN = (
    "+algorithm=dsdr", "+rollouts=seeded", "trainer.save_freq=1", "trainer.test_freq=1",
    "trainer.max_actor_ckpt_to_keep=1", f"trainer.total_training_steps={STEPS}",
    "+ray_kwargs.ray_init.include_dashboard=false",
)  # fmt: skip
# The run folder ($0) on a file system of its own, that only this run sees, so that it can be filled.
OWN_DISK = """
mkdir -p "$0" && mount -t tmpfs -o size=200m tmpfs "$0" || exit 99
"$@"; code=$?
rm -f "$0/ballast"; cp -r "$0" "$0.kept"; exit $code
"""


@dataclass(frozen=True)
class Cell:
    fault: str
    kind: str
    stage: str

    def at(self, step: int) -> str:
        return f"{self.fault}/{self.kind}/{self.stage}/{0 if self.stage == START else step}"

    def __str__(self) -> str:
        return f"{self.fault} {self.kind} in {self.stage}"


@dataclass
class Outcome:
    """`what` is "goes on" or "ends"; `wrong` is what must not be, empty if all is well."""

    cell: Cell
    what: str
    seconds: float | None  # from the fault to the end
    said: str
    wrong: str

    def row(self) -> dict:
        return asdict(self)


def outcomes(folder: Path, cells: list[Cell]) -> list[Outcome]:
    """Strike each of `cells` in one run, from the second step on; those after its end have no outcome."""
    struck = folder / "struck.jsonl"
    faults = " ".join(cell.at(APART * place) for place, cell in enumerate(cells, start=1))
    run_dir = folder / "run"
    env = {"DSDR_TEST_FAULTS": faults, "DSDR_TEST_STRUCK": str(struck), "PYTHONPATH": INJECT}
    env["DSDR_TEST_FILL"] = str(run_dir / "ballast")
    disk = any(cell.fault == "disk" for cell in cells)
    within = ("unshare", "--mount", "sh", "-c", OWN_DISK, str(run_dir)) if disk else ()
    run = Started(folder, *TINY, f"run_dir={run_dir}", *TRAIN, env=env, within=within).wait(1200, to_leave=LIMIT_S)
    if disk:
        run_dir = run_dir.with_name("run.kept")
    ended = time.time() - (time.monotonic() - run.ended_at)
    rows = list(map(json.loads, struck.read_text().splitlines())) if struck.exists() else []
    if not rows:
        return [Outcome(cells[0], "ends", None, _said(run), f"no fault came; exit code {run.returncode}")]
    while run.returncode and rows[1:] and not rows[-1]["pids"]:
        rows.pop()  # the fault before it has ended its process
    found = [Outcome(Cell(row["fault"], row["kind"], row["stage"]), "goes on", None, "", "") for row in rows]
    for outcome, row in zip(found, rows, strict=True):
        if not row["pids"]:
            outcome.wrong = "there was no such process"
    last = found[-1]
    if run.returncode:
        last.what, last.seconds, last.said = "ends", round(ended - rows[-1]["at"], 1), _said(run)
    last.wrong = last.wrong or _wrong(run, run_dir, last, len(found) == len(cells))
    return found


def _wrong(run: Run, folder: Path, last: Outcome, all_came: bool) -> str:
    if last.what == "goes on":
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        if [row["step"] for row in rows if row["kind"] == "step"] != list(range(1, STEPS + 1)):
            return "steps are missing, or came twice"
        if not all_came:
            return "it was over before all faults came"
    elif (last.cell.kind, last.cell.fault) != ("driver", "kill"):  # which leaves nobody to say so
        if run.returncode != 1 or "the run has failed" not in run.output or "train.log" not in run.output:
            return f"it ended with {run.returncode}, and without a message"
        if last.seconds > LIMIT_S:
            return f"it took {last.seconds:.0f} s"
        kept = steps_in(folder / "checkpoints")
        if last.cell.stage != START and not any(flaw(path) is None for path in kept):
            return "no checkpoint is whole"
    if run.leftovers:
        return f"it has left {run.leftovers}"
    return ""


def _said(run: Run) -> str:
    lines = [line for line in run.output.splitlines() if "the run has failed" in line]
    return lines[-1].partition("failed: ")[2] if lines else ""
