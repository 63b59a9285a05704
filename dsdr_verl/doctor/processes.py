"""Whether verl has the plug-in in every kind of process that a run has; `probe` looks, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile

from dsdr_verl.doctor.findings import Asked, Findings, failed, ok
from dsdr_verl.doctor.resources import ray_temporary

KINDS = ("driver", "Ray task", "Ray actor", "vLLM worker")
SECONDS = 180
PROBE = "from dsdr_verl.doctor.probe import main; main()"


def plugin(asked: Asked) -> Findings:
    """A tiny Ray of its own, wherever RAY_ADDRESS points, that is gone afterwards."""
    answers, end = _probe(asked.hardware)
    for kind in KINDS:
        subject = f"plug-in: {kind}"
        answer = answers.get(kind)
        if answer is None:
            yield failed(subject, f"no answer: {end}", "mend what failed above, then look again")
        elif answer["cause"]:
            yield failed(subject, answer["cause"], answer["fix"])
        else:
            yield ok(subject, "verl knows dsdr")


def _probe(hardware: str) -> tuple[dict[str, dict], str]:
    """The answers by kind, and how it ended."""
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir=ray_temporary(), ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile("w+", errors="replace") as noise,
    ):
        process = subprocess.Popen(
            [sys.executable, "-c", PROBE, hardware, folder],
            stdout=subprocess.PIPE, stderr=noise, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=SECONDS)
            end = f"the process ended with {process.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            end = f"it took more than {SECONDS} s"
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        noise.seek(0)
        said = next((line for line in reversed(noise.read().splitlines()) if line.strip()), "nothing")
        answers = [json.loads(line) for line in output.splitlines()]
        return {answer["kind"]: answer for answer in answers}, f"{end}, and the last it said was: {said}"
