"""The locks agree with pyproject.toml, and hold what they promise."""

import re
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def lock(name: str) -> dict[str, str]:
    lines = (REPOSITORY / "requirements" / f"{name}.lock").read_text().splitlines()
    pins = [line.split(";")[0].strip() for line in lines if line.strip() and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.\-]+==[\w.+!\-]+", pin) for pin in pins), "every line pins one version"
    return {canonicalize_name(pin.split("==")[0]): pin.split("==")[1] for pin in pins}


@pytest.mark.parametrize(("name", "extras"), [("cpu", ("cpu", "dev")), ("gpu", ("gpu",))])
def test_lock_satisfies_pyproject(name, extras):
    pins = lock(name)
    wanted = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    for requirement in map(Requirement, wanted):
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is missing from {name}.lock: run make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} against {version}"


def test_gpu_lock_has_verls_pins():
    pins = lock("gpu")
    assert (pins["vllm"], pins["torch"], pins["transformers"]) == ("0.24.0", "2.11.0", "5.9.0")


def test_cpu_lock_is_without_cuda_and_the_parts_it_would_break_on():
    pins = lock("cpu")
    unwanted = {"torchvision", "torchaudio", "triton", "opencv-python-headless", "llama-cpp-python"}
    assert not unwanted & set(pins)
    assert not [name for name in pins if name.startswith(("nvidia-", "cuda-", "cupy"))]
    assert pins["torch"].endswith("+cpu")


def test_pre_commit_and_lock_have_the_same_ruff():
    hooks = (REPOSITORY / ".pre-commit-config.yaml").read_text()
    assert f"rev: v{lock('cpu')['ruff']}" in hooks
