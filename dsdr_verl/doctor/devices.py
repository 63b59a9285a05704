"""Processors and GPUs, and whether torch was built for them. torch itself is not imported."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

from omegaconf import OmegaConf

import dsdr_verl.conf  # noqa: F401 - the resolver that says what hardware is when nothing is said
from dsdr_verl.doctor.findings import Asked, Findings, failed, ok, warning

INSTRUCTIONS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 BF16", "amx_tile": "AMX"}
SMI_SECONDS = 20


def default_hardware() -> str:
    """What the profile `hardware` is when nothing is said: cpu or gpu."""
    return OmegaConf.create({"hardware": "${dsdr_hardware:}"}).hardware


def hardware(asked: Asked) -> Findings:
    default = default_hardware()
    text = f"{asked.hardware} is looked at, {default} is what a run here takes by default"
    if asked.hardware == default:
        yield ok("hardware", text)
    else:
        yield warning("hardware", text, f"add hardware={asked.hardware} to the command of every run on this machine")


def cpu(asked: Asked) -> Findings:
    cores, subject = len(os.sched_getaffinity(0)), "cpu"
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    known = [name for flag, name in INSTRUCTIONS.items() if flags and flag in flags.group(1).split()]
    text = f"{cores} core{'s' * (cores > 1)}, {', '.join(known) or 'no AVX2'}"
    if cores < 2:
        yield warning(subject, text, "give this machine or container 2 cores, or expect steps twice as long")
    elif asked.hardware == "cpu" and flags and "AVX2" not in known:
        yield warning(subject, text, "take a processor with AVX2 or AVX-512, which the CPU build of vLLM is made for")
    else:
        yield ok(subject, text)


def compiler(asked: Asked) -> Findings:
    """vLLM compiles a part of itself at the first request; without a compiler its engine ends there."""
    name = os.environ.get("CXX", "g++")
    if found := shutil.which(name):
        yield ok("compiler", found)
    else:
        yield failed("compiler", f"there is no {name}", "install g++ (apt-get install g++), or name another in CXX")


def gpus(asked: Asked) -> Findings:
    """nvidia-smi, the GPUs it lists, CUDA of its driver against torch's."""
    subject, smi = "gpus", shutil.which("nvidia-smi")
    if asked.hardware == "cpu":
        yield ok(subject, "not needed with hardware=cpu")
        return
    if smi is None:
        fix = "install NVIDIA's driver (in a container: run it with --gpus all), or take hardware=cpu"
        yield failed(subject, "there is no nvidia-smi", fix)
        return
    # XML, as its table changes from one driver to the next
    asked_smi = subprocess.run([smi, "-q", "-x"], capture_output=True, text=True, timeout=SMI_SECONDS)
    if asked_smi.returncode:
        what = (asked_smi.stdout + asked_smi.stderr).strip() or "no message"
        fix = "mend or restart the driver until nvidia-smi lists the GPUs"
        yield failed(subject, f"nvidia-smi ended with {asked_smi.returncode}: {what}", fix)
        return
    root = ElementTree.fromstring(asked_smi.stdout)
    names = [gpu.findtext("product_name", "unnamed") for gpu in root.findall("gpu")]
    if not names:
        fix = "give this machine or container its GPUs (docker run --gpus all), or take hardware=cpu"
        yield failed(subject, "nvidia-smi lists no GPU", fix)
    else:
        yield from _visible(subject, names)
    yield from _cuda(root.findtext("cuda_version", ""))


def _visible(subject: str, names: list[str]) -> Findings:
    listed = f"{len(names)} ({', '.join(sorted(set(names)))})"
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        yield ok(subject, listed)
    elif chosen.split(",")[0].strip() in ("", "-1"):  # CUDA stops reading at the first that is no device
        fix = "unset CUDA_VISIBLE_DEVICES, or name the GPUs in it"
        yield failed(subject, f"{listed}, all hidden by CUDA_VISIBLE_DEVICES={chosen!r}", fix)
    else:
        yield ok(subject, f"{listed}, CUDA_VISIBLE_DEVICES={chosen}: set trainer.n_gpus_per_node to their number")


def _cuda(driver: str) -> Findings:
    subject = "cuda"
    try:
        # a few assignments, where importing torch takes seconds
        version = metadata.distribution("torch").locate_file("torch/version.py")
        built = runpy.run_path(str(version)).get("cuda")
    except (metadata.PackageNotFoundError, FileNotFoundError):
        yield failed(subject, "torch is not installed", "run make -B setup HARDWARE=gpu")
        return
    if not built:
        yield failed(subject, "torch was built without CUDA", "run make clean setup HARDWARE=gpu")
        return
    text = f"the driver goes up to CUDA {driver}, torch was built for {built}"
    try:
        can, needs = (tuple(int(part) for part in number.split(".")[:2]) for number in (driver, str(built)))
    except ValueError:
        yield failed(subject, text, "update NVIDIA's driver to one whose nvidia-smi tells its CUDA version")
        return
    if can[0] < needs[0]:
        yield failed(subject, text, f"update NVIDIA's driver to one for CUDA {needs[0]} or later")
    elif can < needs:
        fix = f"update NVIDIA's driver to one for CUDA {built}, if kernels compiled at run time fail to load"
        yield warning(subject, text, fix)
    else:
        yield ok(subject, text)
