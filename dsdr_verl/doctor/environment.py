"""Environment variables that keep the plug-in out or pick the wrong platform, and secrets: there or not, no more."""

from __future__ import annotations

import os

from dsdr_verl.doctor.findings import Asked, Findings, failed, ok

PLATFORM = {"cpu": "cpu", "gpu": "nvidia"}  # verl's names
SECRETS = {
    "WANDB_API_KEY": "wandb logs into the run folder, for `wandb sync` later",
    "HF_TOKEN": "gated and private models cannot be fetched",
}


def plugin_filter(asked: Asked) -> Findings:
    name = "VERL_USE_EXTERNAL_PLUGINS"
    value = os.environ.get(name, "auto")
    policy = value.strip().lower()
    if policy == "auto" or "dsdr" in (plugin.strip() for plugin in policy.split(",")):
        yield ok(name, f"{value}: verl loads the plug-in")
    else:
        yield failed(name, f"{value!r} keeps dsdr out of every process", f"unset {name}, or add dsdr to it")


def platform(asked: Asked) -> Findings:
    """Not set is right: `hardware=cpu` sets it by itself, and verl detects GPUs."""
    name, right = "VERL_PLATFORM", PLATFORM[asked.hardware]
    value = os.environ.get(name, "").strip().lower()
    if value in ("", right):
        yield ok(name, value or "not set: a run sets it, or verl finds out")
    else:
        fix = f"unset {name}, or set it to {right}"
        yield failed(name, f"{value!r}, and hardware={asked.hardware} needs {right!r}", fix)


def secrets(asked: Asked) -> Findings:
    for name, without in SECRETS.items():
        yield ok(name, "set" if os.environ.get(name) else f"not set: {without}")
