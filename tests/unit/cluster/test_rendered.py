"""What four tools are given, and how they are called. Tools are small scripts that write down their words."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dsdr_verl.cluster.__main__ import main
from dsdr_verl.cluster.backends import ClusterError, backend_of
from dsdr_verl.cluster.inventory import Inventory, load
from dsdr_verl.cluster.tunnel import free_port

EXAMPLES = Path(__file__).resolve().parents[3] / "recipe" / "cluster"
HOSTS = [f"10.0.0.{number}" for number in range(1, 5)]
each_size = pytest.mark.parametrize("nodes", [1, 4])
each_hardware = pytest.mark.parametrize("hardware", ["cpu", "gpu"])
each_backend = pytest.mark.parametrize("backend", ["slurm", "kuberay", "skypilot", "docker"])


def inventory_of(backend: str, nodes: int = 4, **keys) -> Inventory:
    size = {"hosts": HOSTS[:nodes]} if backend == "docker" else {"nodes": nodes}
    ports = {"ports": {"agent": 52366}} if backend == "skypilot" else {}
    return Inventory.model_validate({"backend": backend, **size, **ports, **keys})


def rendered(inventory: Inventory, name: str) -> str:
    return backend_of(inventory).files(inventory)[name]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A cache of the test's own, and less patience."""
    monkeypatch.setenv("DSDR_CACHE", str(tmp_path / "a cache"))
    monkeypatch.setattr("dsdr_verl.cluster.backends.slurm.POLL_S", 0.2)
    monkeypatch.setattr("dsdr_verl.cluster.ranked.POLL_S", 0.2)
    monkeypatch.setattr("dsdr_verl.cluster.__main__.POLL_S", 0.2)


class Tools:
    """Programs on the PATH that note their words and DOCKER_HOST, and then do what `body` says, in sh."""

    def __init__(self, folder: Path):
        self.folder, self.notes = folder, folder / "notes"
        self.notes.touch()

    def add(self, name: str, body: str = "") -> None:
        path = self.folder / name
        path.write_text(
            f'#!/bin/sh\nset -e\ncd {self.folder}\necho "${{DOCKER_HOST:+$DOCKER_HOST }}{name} $*" >>notes\n{body}\n'
        )
        path.chmod(0o755)

    def calls(self) -> list[str]:
        """Since the last time that this was asked."""
        lines = self.notes.read_text().splitlines()
        self.notes.write_text("")
        return lines


@pytest.fixture
def tools(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return Tools(tmp_path / "bin")


# ssh and kubectl that forward a port: whoever asks there gets an answer
FORWARD = f'exec {sys.executable} -m http.server --bind 127.0.0.1 "$port" >/dev/null 2>&1'
SSH = f"""[ -e up ] || {{ echo 'ssh: no such host' >&2; exit 255; }}
while [ "$1" != -L ]; do shift; done
port=${{2#127.0.0.1:}}; port=${{port%%:*}}; {FORWARD}"""


@pytest.mark.parametrize("name", ["slurm", "kuberay", "skypilot", "docker"])
def test_examples(name):
    inventory = load(EXAMPLES / f"{name}.yaml")
    assert inventory.backend == name
    assert backend_of(inventory).files(inventory)


@each_backend
@each_hardware
@each_size
def test_no_value_of_the_environment_is_written_down(backend, hardware, nodes, monkeypatch):
    for name in ("WANDB_API_KEY", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "a-secret-value")
    inventory = inventory_of(backend, nodes, hardware=hardware, env=["WANDB_API_KEY"])
    assert "a-secret-value" not in str(backend_of(inventory).files(inventory))


# ---- slurm


def directives(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]


@each_hardware
@each_size
def test_batch_script(hardware, nodes):
    asked = {
        "partition": "a100,h100",
        "account": "me@lab",
        "time": "1-0",
        "extra": ["--comment=a;b {c} #d & (e", "--qos=x"],
    }
    script = rendered(inventory_of("slurm", nodes, hardware=hardware, slurm=asked, gpus_per_node=2), "cluster.sbatch")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    lines = directives(script)
    assert {f"--nodes={nodes}", "--ntasks-per-node=1", "--partition=a100,h100", "--account=me@lab", "--time=1-0"} < set(
        lines
    )
    assert ("--gres=gpu:2" in lines) is (hardware == "gpu")
    assert {"--exclusive", "--export=NONE"} < set(lines)
    assert lines[-2:] == asked["extra"]  # the last one of its kind wins


def test_part_of_a_node():
    lines = directives(rendered(inventory_of("slurm", slurm={"exclusive": False}), "cluster.sbatch"))
    assert "--exclusive" not in lines and "--mem=0" not in lines and not any("partition" in line for line in lines)


def run_on_a_node(script: str, rank: int, tools: Tools, checkout: Path, **environment: str) -> subprocess.Popen:
    (checkout / ".venv").mkdir(parents=True, exist_ok=True)
    if not (checkout / ".venv" / "bin").exists():
        (checkout / ".venv" / "bin").symlink_to(tools.folder)
    ranks = {"SLURM_PROCID": str(rank), "SKYPILOT_NODE_RANK": str(rank)}
    return subprocess.Popen(["bash", "-c", script], env={"PATH": "/usr/bin:/bin", **ranks, **environment})


@pytest.fixture
def gcs():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener


def test_batch_script_when_run(tools, tmp_path, gcs):
    """By bash, with a node that Slurm knows by a name."""
    tools.add("ray")
    tools.add("scontrol", "echo 'NodeName=n1 NodeAddr=localhost NodeHostName=n1 Version=22'")
    tools.add("srun", 'while [ "$1" != bash ]; do shift; done; exec "$@"')
    port = gcs.getsockname()[1]
    inventory = inventory_of("slurm", cpus_per_node=32, workdir=str(tmp_path / "co"), ports={"gcs": port})
    script = rendered(inventory, "cluster.sbatch")
    head = run_on_a_node(script, 0, tools, tmp_path / "co", SLURMD_NODENAME="n1")
    assert head.wait(timeout=10) == 0
    *_, start = tools.calls()
    common = "ray start --disable-usage-stats --dashboard-agent-listen-port=52365 --num-gpus=8 --num-cpus=32"
    assert start.startswith(f"{common} --head --node-ip-address=127.0.0.1 --port={port}") and start.endswith(" --block")
    worker = run_on_a_node(script, 1, tools, tmp_path / "co", SLURMD_NODENAME="n1")
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(timeout=0.5)  # no head listens
    gcs.listen()
    assert worker.wait(timeout=10) == 0
    assert tools.calls()[-1] == f"{common} --address=127.0.0.1:{port} --block"


QUEUE = """echo '3|RUNNING|None|elsewhere'
[ -e states ] || exit 0
head -n 1 states | grep '|' || :
[ "$(wc -l <states)" -lt 2 ] || sed -i 1d states"""


@pytest.fixture
def slurm(tools):
    """A Slurm whose only node is this machine. Its job is in the states that the file `states` lists, one after the
    other; it runs as soon as it is submitted, and goes when it is cancelled."""
    tools.add("sbatch", "echo '17|RUNNING|None|n1' >states; echo '17;cluster'")
    tools.add("squeue", QUEUE)
    tools.add("scancel", "rm states")
    tools.add("scontrol", f"echo 'NodeAddr=10.9.9.9 NodeHostName={socket.gethostname().split('.')[0]}'")
    return tools


@pytest.fixture
def dashboard_port():
    """Of a server on this machine."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield port
    server.kill()
    server.wait()


def calls_but_queries(tools: Tools) -> list[str]:
    return [call for call in tools.calls() if not call.startswith(("squeue", "scontrol"))]


def test_slurm_from_up_to_down(slurm, dashboard_port):
    inventory = inventory_of("slurm", ports={"dashboard": dashboard_port})
    backend = backend_of(inventory)
    with pytest.raises(ClusterError, match="no Slurm job of dsdr; make cluster-up"), backend.dashboard(inventory):
        pass
    backend.up(inventory)
    assert calls_but_queries(slurm) == [f"sbatch --parsable {inventory.folder / 'cluster.sbatch'}"]
    backend.up(inventory)
    assert calls_but_queries(slurm) == []
    with backend.dashboard(inventory) as url:
        assert url == f"http://127.0.0.1:{dashboard_port}"
    backend.down(inventory)
    assert calls_but_queries(slurm) == ["scancel 17"]
    backend.down(inventory)
    assert calls_but_queries(slurm) == []


def test_a_job_that_waits_says_why(slurm, dashboard_port, capsys):
    inventory = inventory_of("slurm", ports={"dashboard": dashboard_port})
    states = ["PENDING|Priority|", "PENDING|Priority|", "PENDING|Resources|", "CONFIGURING|None|", "RUNNING|None|n1"]
    slurm.add("sbatch", "echo 17; printf '17|%s\\n' " + " ".join(f"'{state}'" for state in states) + " >states")
    backend_of(inventory).up(inventory)
    assert capsys.readouterr().out.splitlines() == [
        "Slurm job 17 is PENDING: Priority", "Slurm job 17 is PENDING: Resources", "Slurm job 17 is CONFIGURING: None",
    ]  # fmt: skip


def test_a_job_that_ends_shows_its_log_and_is_submitted_anew(slurm, dashboard_port):
    inventory = inventory_of("slurm", ports={"dashboard": dashboard_port})
    inventory.folder.mkdir(parents=True)
    (inventory.folder / "slurm-17.log").write_text("first\n" * 50 + "bash: ray: not found\n")
    slurm.add("sbatch", "echo 17; printf '17|PENDING|None|\\n-\\n' >states")
    with pytest.raises(
        ClusterError, match=r"Slurm job 17 has ended.*slurm-17.log:(\nfirst){29}\nbash: ray: not found\nmake cluster-up"
    ):
        backend_of(inventory).up(inventory)
    slurm.add("sbatch", "echo 18; echo '18|RUNNING|None|n1' >states")
    backend_of(inventory).up(inventory)
    assert len([call for call in slurm.calls() if call.startswith("sbatch")]) == 2


def test_a_job_that_ends_while_its_nodes_come_up(slurm, dashboard_port, capsys, tmp_path):
    inventory = inventory_of("slurm", ports={"dashboard": dashboard_port})
    states = [*["17|RUNNING|None|n1"] * 20, "-"]
    slurm.add("sbatch", "echo 17; printf '%s\\n' " + " ".join(f"'{state}'" for state in states) + " >states")
    path = tmp_path / "cluster.yaml"
    path.write_text(inventory.model_dump_json(exclude_defaults=True))
    assert main(["up", "--inventory", str(path), "--timeout", "60"]) == 1
    said = capsys.readouterr()
    assert "0 of 4 nodes are up" in said.out and "Slurm job 17 has ended" in said.err


def test_a_head_on_another_machine_is_reached_by_ssh(slurm):
    slurm.add("ssh", SSH)
    (slurm.folder / "up").touch()
    slurm.add("scontrol", "echo 'NodeAddr=10.9.9.9 NodeHostName=n1'")
    inventory = inventory_of("slurm")
    backend_of(inventory).up(inventory)
    (call,) = {re.sub(":[0-9]+:", ":PORT:", call) for call in slurm.calls() if call.startswith("ssh")}
    assert call.endswith("-L 127.0.0.1:PORT:127.0.0.1:8265 10.9.9.9")


# ---- skypilot


@each_hardware
@each_size
def test_task(hardware, nodes, tools, tmp_path, gcs):
    port, checkout = gcs.getsockname()[1], tmp_path / "co"
    asked = {"accelerators": "H100-80GB", "infra": "k8s/my+context@x", "image": "docker:me/x:1", "disk_gb": 99}
    keys = {"hardware": hardware, "skypilot": asked, "workdir": str(checkout), "ports": {"gcs": port, "agent": 52366}}
    task = yaml.safe_load(rendered(inventory_of("skypilot", nodes, gpus_per_node=4, **keys), "task.yaml"))
    accelerators = {"accelerators": "H100-80GB:4"} if hardware == "gpu" else {}
    expected = {"infra": "k8s/my+context@x", "image_id": "docker:me/x:1", "disk_size": 99} | accelerators
    assert (task["num_nodes"], task["resources"]) == (nodes, expected)
    assert task["file_mounts"] == {str(checkout): str(EXAMPLES.parents[1])}
    assert task["setup"].strip() == f"cd {checkout} && make setup HARDWARE={hardware}"
    assert all(isinstance(value, str) for value in task["envs"].values())
    tools.add("ray")
    gcs.listen()
    for rank, role in ((0, "--head --node-ip-address=127.0.0.1"), (1, f"--address=127.0.0.1:{port}")):
        node = run_on_a_node(task["run"], rank, tools, checkout, SKYPILOT_NODE_IPS="127.0.0.1\n10.0.0.2")
        assert node.wait(timeout=10) == 0
        (start,) = tools.calls()
        assert f"--dashboard-agent-listen-port=52366 --num-gpus=4 {role}" in start and start.endswith(" --block")


@pytest.mark.parametrize("ports", [{"gcs": 6380, "agent": 1}, {"dashboard": 8266, "agent": 1}, {}])
def test_ports_of_skypilot_itself(ports):
    with pytest.raises(ClusterError, match="which SkyPilot's own Ray"):
        rendered(inventory_of("skypilot", ports=ports), "task.yaml")


def test_skypilot_from_up_to_down(tools):
    tools.add("ssh", SSH)
    tools.add("sky", '[ "$1" != launch ] || touch up')
    inventory = inventory_of("skypilot", name="many")
    backend = backend_of(inventory)
    backend.up(inventory)
    launch = f"sky launch --yes --detach-run --cluster many {inventory.folder / 'task.yaml'}"
    assert [call for call in tools.calls() if call.startswith("sky")] == [launch]
    backend.up(inventory)
    assert not [call for call in tools.calls() if call.startswith("sky")]
    with backend.dashboard(inventory) as url:
        assert url.startswith("http://127.0.0.1:")
    assert tools.calls()[0].endswith(":127.0.0.1:8265 many")
    backend.down(inventory)
    assert tools.calls() == ["sky down --yes many"]


def test_a_task_that_fails(tools):
    tools.add("ssh", SSH)
    tools.add("sky", '[ "$1" = launch ] || exit 100')
    with pytest.raises(ClusterError, match="the task of dsdr has failed; `sky logs dsdr`"):
        backend_of(inventory_of("skypilot")).up(inventory_of("skypilot"))


# ---- kuberay


@each_hardware
@each_size
def test_manifests(hardware, nodes):
    asked = {
        "image": "registry:5000/me/x@sha256:0a", "memory": "1.5Ti", "shared_memory": "9Gi", "volume_claim": "runs",
        "namespace": "team",
    }  # fmt: skip
    keys = {"hardware": hardware, "gpus_per_node": 2, "cpus_per_node": 48, "kuberay": asked, "env": ["HF_TOKEN"]}
    inventory = inventory_of("kuberay", nodes, **keys)
    cluster = yaml.safe_load(rendered(inventory, "raycluster.yaml"))
    job = yaml.safe_load(rendered(inventory, "rayjob.yaml"))
    assert [(kind["apiVersion"], kind["kind"]) for kind in (cluster, job)] == [
        ("ray.io/v1", "RayCluster"), ("ray.io/v1", "RayJob"),
    ]  # fmt: skip
    assert job["spec"]["entrypoint"].endswith(f"trainer.nnodes={nodes} trainer.n_gpus_per_node=2")
    for spec, host, secrets in (
        (cluster["spec"], "127.0.0.1", []),
        (job["spec"]["rayClusterSpec"], "0.0.0.0", ["HF_TOKEN"]),
    ):
        head, groups = spec["headGroupSpec"], spec.get("workerGroupSpecs", [])
        assert [group["replicas"] for group in groups] == ([nodes - 1] if nodes > 1 else [])
        assert head["rayStartParams"]["dashboard-host"] == host
        for group in (head, *groups):
            # the operator takes strings only
            assert group["rayStartParams"].items() >= {"num-gpus": "2", "num-cpus": "48"}.items()
            assert all(isinstance(value, str) for value in group["rayStartParams"].values())
            pod = group["template"]["spec"]
            (container,) = pod["containers"]
            assert container["image"] == "registry:5000/me/x@sha256:0a"
            assert container["resources"]["limits"].get("nvidia.com/gpu") == (2 if hardware == "gpu" else None)
            assert container["resources"]["limits"]["memory"] == "1.5Ti"
            mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            volumes = {volume.pop("name"): volume for volume in pod["volumes"]}
            assert volumes[mounted["/dev/shm"]] == {"emptyDir": {"medium": "Memory", "sizeLimit": "9Gi"}}
            assert volumes[mounted["/workspace"]] == {"persistentVolumeClaim": {"claimName": "runs"}}
            assert [entry["name"] for entry in container["env"] if "valueFrom" in entry] == secrets
            assert all(isinstance(entry["value"], str) for entry in container["env"] if "value" in entry)


def test_kuberay_from_up_to_down(tools):
    port = f'for word; do port=${{word%:*}}; done; case "$*" in *port-forward*) {FORWARD};; esac'
    tools.add("kubectl", port)
    inventory = inventory_of("kuberay", name="many", kuberay={"namespace": "team"})
    backend, kubectl = backend_of(inventory), "kubectl --namespace team"
    backend.up(inventory)
    assert tools.calls() == [
        f"{kubectl} apply --filename {inventory.folder / 'raycluster.yaml'}",
        f"{kubectl} wait --for=condition=HeadPodReady --timeout=1200s raycluster/many",
    ]
    with backend.dashboard(inventory) as url:
        local = url.split(":")[-1]
    assert tools.calls() == [f"{kubectl} port-forward service/many-head-svc {local}:8265"]
    backend.down(inventory)
    assert tools.calls() == [
        f"{kubectl} delete raycluster many --ignore-not-found",
        f"{kubectl} wait --for=delete pod --selector=ray.io/cluster=many --timeout=120s",
    ]


def test_pods_that_do_not_start_are_shown(tools, capfd):
    tools.add("kubectl", 'case "$*" in *" wait "*) exit 1;; *events*) echo "0/3 nodes have nvidia.com/gpu";; esac')
    with pytest.raises(ClusterError, match="HeadPodReady"):
        backend_of(inventory_of("kuberay")).up(inventory_of("kuberay"))
    assert "0/3 nodes have nvidia.com/gpu" in capfd.readouterr().out


# ---- docker


@each_hardware
@each_size
def test_compose_file(hardware, nodes):
    asked = {"image": "registry:5000/me/x@sha256:0a", "shared_memory": "9gb", "workspace": "/mnt/a+b@c"}
    inventory = inventory_of("docker", nodes, hardware=hardware, docker=asked, cpus_per_node=48)
    compose = yaml.safe_load(rendered(inventory, "compose.yaml"))
    start = {name: " ".join(service["command"]) for name, service in compose["services"].items()}
    assert "--head --node-ip-address=10.0.0.1" in start["head"]
    assert "--head" not in start["worker"] and "--address=10.0.0.1:6379" in start["worker"]
    for name, service in compose["services"].items():
        assert start[name].startswith("ray start ") and start[name].endswith("--block")
        assert service["profiles"] == [name]
        assert (service["image"], service["shm_size"], service["network_mode"]) == (asked["image"], "9gb", "host")
        assert service["volumes"][0] == "/mnt/a+b@c:/workspace"
        assert ("deploy" in service) is (hardware == "gpu")
        assert service["environment"]["RAY_AUTH_TOKEN"] is None  # Compose takes it from the environment
    assert "$" not in rendered(inventory, "compose.yaml")  # Compose would put a value there


def test_docker_from_up_to_down(tools):
    tools.add("docker")
    inventory = inventory_of("docker", 3, ssh={"user": "me"})
    compose = f"compose --file {inventory.folder / 'compose.yaml'}"
    ssh = [f"ssh://me@{host} docker {compose}" for host in HOSTS[:3]]
    backend_of(inventory).up(inventory)
    first, *others = tools.calls()
    assert first == f"{ssh[0]} --profile head up --detach --remove-orphans --wait --wait-timeout=600"
    assert sorted(others) == [f"{host} --profile worker up --detach --remove-orphans" for host in ssh[1:]]
    backend_of(inventory).down(inventory)
    assert sorted(tools.calls()) == [f"{host} --profile * down --remove-orphans --timeout=30" for host in ssh]


def test_a_host_that_docker_does_not_reach_is_named(tools):
    tools.add("docker", 'case "$DOCKER_HOST" in *10.0.0.2) exit 1;; esac')
    inventory = inventory_of("docker", 3)
    with pytest.raises(ClusterError, match=r"^10\.0\.0\.2: `docker compose .*` ended with exit code 1"):
        backend_of(inventory).down(inventory)
    assert len(tools.calls()) == 3  # the others are down


def test_a_key_that_docker_cannot_use():
    with pytest.raises(ClusterError, match=r"ssh\.key is of no use"):
        rendered(inventory_of("docker", ssh={"key": "~/.ssh/id"}), "compose.yaml")


# ---- all of them


@each_backend
@pytest.mark.parametrize("step", ["up", "down"])
def test_a_tool_that_is_not_there(backend, step, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    tool = {"slurm": "squeue", "kuberay": "kubectl", "skypilot": "sky", "docker": "docker"}[backend]
    with pytest.raises(ClusterError, match=f"{tool} is not on the PATH; "):
        getattr(backend_of(inventory_of(backend)), step)(inventory_of(backend))
