"""The locks agree with pyproject.toml, and hold what they promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def hashed(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by package."""
    text = (REPOSITORY / "requirements" / f"{name}.lock").read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        pin, *hashes = line.split()
        assert re.fullmatch(r"[\w.\-]+==[\w.+!\-]+", pin), f"{line} pins no version"
        found[canonicalize_name(pin.split("==")[0])] = (pin.split("==")[1], hashes)
    return found


def lock(name: str) -> dict[str, str]:
    """Versions by package, with what is installed apart from the lock."""
    pins = {package: version for package, (version, _) in hashed(name).items()}
    apart = REPOSITORY / "requirements" / f"{name}-torch.txt"
    lines = apart.read_text().splitlines() if apart.is_file() else []
    return pins | dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_every_package_of_a_lock_has_hashes(name):
    """pip refuses a file of which one line has none."""
    pins = hashed(name)
    without = [package for package, (_, hashes) in pins.items() if not hashes]
    odd = [
        text for _, hashes in pins.values() for text in hashes if not re.fullmatch("--hash=sha256:[0-9a-f]{64}", text)
    ]
    assert len(pins) > 200 and not without and not odd


def test_a_file_that_is_not_the_locked_one_is_refused(tmp_path):
    """pip's own doing, by the options that `make setup` gives it: a package of this machine, with another's hash."""
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "pyproject.toml").write_text('[project]\nname = "zipp"\nversion = "4.1.2"\n')
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", tmp_path, tmp_path / "evil"], check=True)
    pin = re.search(r"^zipp==(?:.|\n )*", (REPOSITORY / "requirements/cpu.lock").read_text(), re.MULTILINE)[0]
    (tmp_path / "one.lock").write_text(pin.replace(re.search("==([^ ]+)", pin)[1], "4.1.2"))
    options = ["--no-deps", "--require-hashes", "--no-index", "--find-links", tmp_path, "--target", tmp_path / "out"]
    install = [sys.executable, "-m", "pip", "install", *options, "--requirement", tmp_path / "one.lock"]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode != 0 and "DO NOT MATCH THE HASHES" in done.stderr and not (tmp_path / "out").exists()


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
