"""DSDR against GRPO on the same rollouts, the actor's update against plain PyTorch, and memory by process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import psutil

from tests.e2e.runs import Run, Started, log_tail

STAGES = ("gen", "old_log_prob", "adv", "dsdr", "update_actor", "update_weights", "step")
ROOT = Path(__file__).resolve().parents[2]


def section(profile: str, steps: int) -> str:
    """What `python -m tests.bench training` measures, in Markdown."""
    with tempfile.TemporaryDirectory(prefix="dsdr-bench-") as folder:
        return measure(Path(folder), profile, steps)


def measure(folder: Path, profile: str, steps: int) -> str:
    """Train three times: DSDR with real generation, then GRPO and DSDR on the rollouts that it kept."""
    generated, memory = train(folder, "generate", profile, steps, "dsdr")
    grpo, _ = train(folder, "grpo", profile, steps, "grpo")
    dsdr, _ = train(folder, "dsdr", profile, steps, "dsdr")
    plain = plain_tokens_per_second(folder, generated)

    seconds = {name: stage_medians(run) for name, run in {"generate": generated, "grpo": grpo, "dsdr": dsdr}.items()}
    step = seconds["generate"]["step"]
    own = seconds["generate"]["dsdr"]
    update = seconds["dsdr"]["update_actor"] - seconds["grpo"]["update_actor"]
    tokens = median(row["perf/total_num_tokens"] for row in dsdr.steps()[1:])
    updated = tokens / seconds["dsdr"]["update_actor"]
    cores, gib = psutil.cpu_count(), psutil.virtual_memory().total / 2**30
    lines = [
        "## Training",
        "",
        f"Written by `python -m tests.bench training --profile {profile} --steps {steps}` on {cores} cores and "
        f"{gib:.0f} GiB, without a GPU. Medians over steps 2 to {steps}; the machine is noisy, so look at the ratios.",
        "",
        "### DSDR against GRPO, seconds by stage",
        "",
        "The last two columns train on the very same rollouts, kept by the first run, so they do not generate.",
        "",
        "| stage | DSDR, generating | GRPO, same rollouts | DSDR, same rollouts |",
        "|---|---:|---:|---:|",
        *(
            f"| {stage} | {seconds['generate'].get(stage, 0):.3f} | {seconds['grpo'].get(stage, 0):.3f} "
            f"| {seconds['dsdr'].get(stage, 0):.3f} |"
            for stage in STAGES
        ),
        "",
        "`dsdr` is the part of `adv` that this package adds: scores read back, group reduction, weights written.",
        "",
        "| DSDR's extra critical-path time | seconds | share of a step |",
        "|---|---:|---:|",
        f"| group reduction and its reads and writes | {own:.3f} | {own / step:.2%} |",
        f"| local term in the update (difference of medians, within noise) | {update:+.3f} | {update / step:+.2%} |",
        "",
        "### The actor's update against plain PyTorch",
        "",
        f"Forward and backward in float32 of the same batches on the same cores: plain PyTorch {plain:.0f} tokens/s, "
        f"the FSDP2 worker's whole update (optimizer step included) {updated:.0f} tokens/s: ratio "
        f"{updated / plain:.2f}.",
        "",
        "### Peak memory by process",
        "",
        f"Proportional set size at the moment of the highest sum, {sum(memory.values()):.1f} GiB.",
        "",
        "| process | GiB |",
        "|---|---:|",
        *(f"| `{name}` | {size:.2f} |" for name, size in sorted(memory.items(), key=lambda x: -x[1]) if size > 0.05),
        "",
    ]
    return "\n".join(lines)


def train(folder: Path, name: str, profile: str, steps: int, algorithm: str) -> tuple[Run, dict[str, float]]:
    """One run, and its memory in GiB by kind of process when their sum was highest."""
    kept = ",".join(map(str, range(1, steps + 1)))
    started = Started(
        folder / name, f"run_dir={folder / name}", f"profile={profile}", f"+algorithm={algorithm}",
        f"trainer.total_training_steps={steps}", "trainer.save_freq=-1", "trainer.test_freq=-1",
        "trainer.val_before_train=false", "skip.rollout_tq.enable=true",
        f"skip.rollout_tq.dump_dir={folder / 'rollouts'}", f"skip.rollout_tq.steps=[{kept}]",
        "skip.rollout_tq.action=cache",
        "trainer.project_name=bench", "trainer.experiment_name=shared",
    )  # fmt: skip
    peak: dict[str, float] = {}
    while started.process.poll() is None:
        now = memory_by_process(started.processes())
        if sum(now.values()) > sum(peak.values()):
            peak = now
        time.sleep(10)  # looking costs time too
    run = started.wait()
    if run.returncode != 0:
        sys.exit(f"{run.output}\n{log_tail(run.folder)}")
    print(f"{name}: {stage_medians(run)}", flush=True)
    return run, peak


def memory_by_process(processes: list[psutil.Process]) -> dict[str, float]:
    sizes: dict[str, float] = defaultdict(float)
    for process in processes:
        try:
            command = process.cmdline()
            name = (  # a worker's title names the method it is in
                command[0]
                if command[0].startswith(("ray::", "VLLM::"))
                else " ".join(Path(c).name for c in command[:3])
            )
            if "zygote.serve" in command[-1]:
                name = "the verifier's zygote and workers"
            sizes[name.split(".")[0][:48]] += process.memory_full_info().pss / 2**30
        except (psutil.NoSuchProcess, psutil.AccessDenied, IndexError):
            continue
    return dict(sizes)


def stage_medians(run: Run) -> dict[str, float]:
    rows = run.steps()[1:]
    keys = [stage for stage in STAGES if f"timing_s/{stage}" in rows[0]]
    return {stage: round(median(row[f"timing_s/{stage}"] for row in rows), 4) for stage in keys}


def plain_tokens_per_second(folder: Path, run: Run) -> float:
    """In a process of its own, with the threads that the FSDP worker has."""
    from omegaconf import OmegaConf

    from dsdr_verl.data import models

    config = OmegaConf.load(run.folder / "config.yaml")
    threads = config.ray_kwargs.ray_init.runtime_env.env_vars.OMP_NUM_THREADS
    budget = config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu
    model = models.prepare(config.actor_rollout_ref.model.path)
    rollouts = sorted(str(path) for path in (folder / "rollouts").rglob("*.pt"))
    output = subprocess.run(
        [sys.executable, "-m", "tests.bench.plain", str(model), str(budget), *rollouts],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)}, check=True, capture_output=True, text=True, cwd=ROOT,
    ).stdout  # fmt: skip
    print(f"plain: {output}", flush=True)
    return json.loads(output.splitlines()[-1])["tokens_per_second"]
