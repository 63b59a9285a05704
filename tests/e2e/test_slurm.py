"""A Slurm of two nodes on this machine: a cluster comes up as a job, takes work, comes back, and leaves no process."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import yaml

from dsdr_verl.cluster.tunnel import free_port
from tests.e2e.processes import eventually, started_with

PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
MISSING = [tool for tool in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(tool, path=PATH)]
pytestmark = [
    pytest.mark.hosts,
    pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)} here; Debian has them in slurm-wlm and munge"),
]
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture
def slurm():
    """The folder of a Slurm of its own, apart from any that the machine may have."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)  # munge wants to be reached by all
    (folder / "key").touch(mode=0o600)
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "state").mkdir()
    host, ports = socket.gethostname().split(".")[0], [free_port() for _ in range(3)]
    (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, host=host, ports=ports, user=getpass.getuser()))
    munge = ["munged", "--force", "--foreground", f"--socket={folder}/munge.socket", f"--key-file={folder}/key"]
    munge += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
    commands = [munge, ["slurmctld", "-D"], *(["slurmd", "-D", "-N", node] for node in ("node1", "node2"))]
    environment = os.environ | {"PATH": PATH, "SLURM_CONF": f"{folder}/slurm.conf"}
    daemons = []
    try:
        for command in commands:
            with open(folder / "daemons.log", "ab") as log:
                daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            if command is munge:
                eventually((folder / "munge.socket").exists)
        yield folder
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(timeout=30)
        shutil.rmtree(folder)


def processes_of(job: str) -> list[psutil.Process]:
    return started_with("SLURM_JOB_NAME", job)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_cluster_as_a_job(slurm, tmp_path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / ".venv").symlink_to(sys.prefix)
    name = f"slurm-{os.getpid()}"
    gcs, dashboard, metrics, agent = (free_port() for _ in range(4))
    inventory = {
        "name": name, "backend": "slurm", "hardware": "cpu", "nodes": 2, "gpus_per_node": 1, "cpus_per_node": 2,
        "workdir": str(checkout), "ports": {"gcs": gcs, "dashboard": dashboard, "metrics": metrics, "agent": agent},
        "slurm": {"time": "0:10:00", "exclusive": False},
    }  # fmt: skip
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(inventory))
    environment = os.environ | {
        "SLURM_CONF": f"{slurm}/slurm.conf",
        "DSDR_CACHE": str(tmp_path),
        "RAY_AUTH_MODE": "token",
    }

    def cluster(command: str, *arguments: str) -> str:
        words = [sys.executable, "-m", "dsdr_verl.cluster", command, "--inventory", str(tmp_path / "cluster.yaml")]
        said = tmp_path / f"{command}.txt"
        with open(said, "w") as output:
            process = subprocess.Popen([*words, *arguments], env=environment, stdout=output, stderr=output)
        try:
            ended = process.wait(timeout=600)
        except subprocess.TimeoutExpired:
            process.kill()
            ended = process.wait()
        logs = "\n".join(path.read_text() for path in (said, *tmp_path.rglob("slurm-*.log")))
        assert ended == 0, f"{ended}: {logs}"
        return said.read_text()

    try:
        assert "all 2 nodes are up" in cluster("up")
        started = time.monotonic()
        assert "all 2 nodes are up" in cluster("up")
        assert time.monotonic() - started < 60
        queue = subprocess.run(["squeue", "--noheader", "--format=%j"], env=environment, capture_output=True, text=True)
        assert queue.stdout.split() == [name]
        assert cluster("status").count("ALIVE") == 2
        assert {"raylet", "gcs_server"} <= {process.name() for process in processes_of(name)}
        # the job API, with the token that the batch script saw to
        assert "SUCCEEDED" in cluster("submit", "--", "--help")
        # Ray dies on one node: the job ends as a whole, and `up` submits another
        next(process for process in processes_of(name) if process.name() == "raylet").kill()
        # Ray's agents, which hide their environment, follow by themselves: linuxproc does not see them, cgroups would
        eventually(lambda: not processes_of(name) and not listens(metrics), seconds=60)
        with pytest.raises(AssertionError, match="Slurm job 1 has ended; the last lines of"):
            cluster("status")
        assert "all 2 nodes are up" in cluster("up")
    finally:
        cluster("down")
    assert not processes_of(name)
    assert not subprocess.run(["squeue", "--noheader"], env=environment, capture_output=True).stdout
