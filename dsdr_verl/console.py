"""What a person sees of a run: a bar, a line a step, a table at the end. The noise of the stack goes to `train.log`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dsdr_verl.progress import progress_bar

ERROR_LINE = re.compile(r"\b[A-Za-z_.]*(?:Error|Exception|Again|Killed): .+")
_TAIL = 200_000  # bytes of a log that are looked at

# Heading, metric key, format: one column of the line a step.
STEP_COLUMNS = (
    ("reward", "critic/score/mean", "{:.3f}"),
    ("pass", "dsdr/pass_rate", "{:.0%}"),
    ("entropy", "actor/entropy", "{:.3f}"),
    ("d correct", "dsdr/diversity/correct", "{:.3f}"),
    ("mixed", "dsdr/groups/mixed", "{:.0%}"),
    ("w_eff", "dsdr/coupling/effective_rollouts", "{:.2f}"),
    ("|grad|", "actor/grad_norm", "{:.2f}"),
    ("tokens", "response_length/mean", "{:.0f}"),
    ("s", "timing_s/step", "{:.1f}"),
)


class _Terminal(io.FileIO):
    """The run outlives it: a pipe's reader may end, a connection may be lost, a disk that it is sent to may be full."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def divert_output(log_path: Path) -> Console:
    """Send file descriptors 1 and 2, here and in child processes, to `log_path`; return a console on the real one."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush(), sys.stderr.flush()
    terminal = io.TextIOWrapper(io.BufferedWriter(_Terminal(os.dup(1), "w")), line_buffering=True)
    with open(log_path, "ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    width = None if terminal.isatty() else 110
    return Console(file=terminal, width=width, highlight=False)


def last_errors(log_path: Path, most: int = 4) -> list[str]:
    """The last distinct error lines of the log: what a process that is not the trainer said as it died.

    None of a log that cannot be read: what it is asked for may be a disk that has gone.
    """
    try:
        with open(log_path, "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL))
            tail = log.read(_TAIL).decode(errors="replace")
    except OSError:
        return []
    found = (match.group().strip()[:300] for match in ERROR_LINE.finditer(tail))
    return list(dict.fromkeys(reversed(list(found))))[:most][::-1]


class MetricsLog:
    """`metrics.jsonl`: one object a line, {"step": int, "kind": "step"|"validation", "metrics": {...}}."""

    def __init__(self, path: Path):
        self.path = path
        self._validated: set[int] = set()  # steps; a long run's file takes seconds to read

    def resume(self, step: int, rows: Sequence[dict]) -> None:
        """Forget what a run that resumes at `step` is about to do again, and what was cut off in the middle of a line.

        Args:
            rows: that its checkpoint has: the run may have ended before they were written here.
        """
        kept = {(row["step"], row["kind"]): row for row in self.rows() if row["step"] <= step}
        for row in rows:
            kept.setdefault((row["step"], row["kind"]), row)
        self._write(sorted(kept.values(), key=lambda row: (row["step"], row["kind"] == "step")))
        self._validated = {step for step, kind in kept if kind == "validation"}

    def append(self, kind: str, step: int, metrics: dict) -> None:
        """A validation that is repeated at the step where a run resumes replaces the one that was there."""
        if kind == "validation":
            if step in self._validated:
                self._write([row for row in self.rows() if (row["step"], row["kind"]) != (step, kind)])
            self._validated.add(step)
        with open(self.path, "a") as file:
            file.write(json.dumps(_row(kind, step, metrics)) + "\n")

    def rows(self) -> list[dict]:
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):  # the run, or its machine, was killed while it wrote this
                if isinstance(row := json.loads(line), dict) and row.keys() >= {"step", "kind", "metrics"}:
                    rows.append(row)
        return rows

    def _write(self, rows: list[dict]) -> None:
        scratch = self.path.with_name(f".{self.path.name}.part")
        scratch.write_text("".join(json.dumps(row) + "\n" for row in rows))
        scratch.replace(self.path)


def _row(kind: str, step: int, metrics: dict) -> dict:
    return {"step": step, "kind": kind, "metrics": {name: float(value) for name, value in metrics.items()}}


class RunConsole:
    """Renders the trainer's events and keeps `metrics.jsonl`."""

    def __init__(self, console: Console, run_dir: Path):
        self.console = console
        self.log = MetricsLog(run_dir / "metrics.jsonl")
        self._task = None
        self._training = False
        self._progress = progress_bar(console)

    def __enter__(self) -> RunConsole:
        self._progress.start()
        self._task = self._progress.add_task("starting Ray, vLLM and FSDP", total=None)
        return self

    def __exit__(self, *exception) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        self.console.print(plain(text), soft_wrap=True, markup=False)

    def on_event(self, event: dict) -> None:
        getattr(self, f"_on_{event['kind']}")(**{k: v for k, v in event.items() if k != "kind"})

    def _on_ready(self, step: int, total_steps: int, rows: Sequence[dict]) -> None:
        self.log.resume(step, rows)
        self._progress.update(self._task, description="training", total=total_steps, completed=step)
        self._training = True
        self.say(f"ready: {total_steps} steps" + (f", resuming after step {step}" if step else ""))
        if step >= total_steps:
            self.say(
                "this run was already complete; raise trainer.total_training_steps to go on, or start anew with "
                "another trainer.experiment_name or trainer.resume_mode=disable"
            )

    def _on_stage(self, name: str, step: int) -> None:
        if self._training:
            self._progress.update(self._task, description=name)

    def _on_step(self, step: int, metrics: dict) -> None:
        self.log.append("step", step, metrics)
        cells = [f"{title} {form.format(metrics[key])}" for title, key, form in STEP_COLUMNS if key in metrics]
        self.say(f"step {step:>4}  " + "  ".join(cells))
        self._progress.update(self._task, completed=step)

    def _on_validation(self, step: int, metrics: dict) -> None:
        self.log.append("validation", step, metrics)
        accuracy = {name: value for name, value in metrics.items() if "/acc/pass@" in name}
        self.say(f"validation at step {step}: " + "  ".join(f"{short(name)} {v:.1%}" for name, v in accuracy.items()))

    def _on_alarm(self, step: int, text: str) -> None:
        self.say(f"step {step:>4}  ALARM: {text}")

    def _on_left(self, step: int, folder: str) -> None:
        self.say(f"another way from step {step} was taken before; its checkpoint is kept as {folder}")

    def _on_suspect(self, step: int, folder: str) -> None:
        self.say(f"the weights of step {step} gave these numbers; their checkpoint is kept as {folder}")

    def _on_checkpoint(self, step: int) -> None:
        self.say(f"checkpoint of step {step} saved")

    def summary(self) -> None:
        """Accuracy and pass@k before and after."""
        validations = [row for row in self.log.rows() if row["kind"] == "validation"]
        if len(validations) < 2:
            return
        before, after = validations[0], validations[-1]
        table = Table(title="validation on held-out problems")
        table.add_column("metric")
        table.add_column(f"before (step {before['step']})", justify="right")
        table.add_column(f"after (step {after['step']})", justify="right")
        table.add_column("change", justify="right")
        for name in before["metrics"]:
            if "/acc/pass@" in name and name in after["metrics"]:
                x, y = before["metrics"][name], after["metrics"][name]
                table.add_row(Text(plain(short(name))), f"{x:.1%}", f"{y:.1%}", f"{100 * (y - x):+.1f} points")
        self.console.print(table)


def plain(text: str) -> str:
    """Without what a terminal would obey: names of sources come from data files."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def short(name: str) -> str:
    """`val-core/dsdr/arithmetic/acc/pass@4` → `dsdr/arithmetic pass@4`; pass@1 is the accuracy."""
    source, _, metric = name.removeprefix("val-core/").rsplit("/", 2)
    return f"{source} {'accuracy (pass@1)' if metric == 'pass@1' else metric}"
