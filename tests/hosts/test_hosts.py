"""Several hosts with real sshd in namespaces of their own, brought up and broken by the documented commands alone."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.e2e.runs import TINY, run
from tests.e2e.test_training import kept_rollouts, same
from tests.hosts.lab import Lab, why_not

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.hosts, pytest.mark.skipif(bool(why_not()), reason=str(why_not()))]

# 6 prompts x 4 rollouts: one, two and three ranks share them evenly
BATCH = (*TINY, "+algorithm=dsdr", "data.train_batch_size=6", "actor_rollout_ref.actor.ppo_mini_batch_size=6")


class Cluster:
    """What a user has: a checkout, an inventory, a key, and `make`."""

    def __init__(self, folder: Path, lab: Lab):
        self.folder, self.lab = folder, lab
        self.environment = os.environ | {"DSDR_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
        for name in ("RAY_ADDRESS", "MAKEFLAGS", "MAKELEVEL"):
            self.environment.pop(name, None)

    def of(self, size: int, workdir: str = str(REPOSITORY), sync: bool = False, key: Path | None = None) -> "Cluster":
        name = f"lab{size}{'-synced' * sync}"
        self.inventory = self.folder / f"{name}.yaml"
        content = {
            "name": name, "backend": "ssh", "hardware": "cpu", "hosts": self.lab.addresses[:size],
            "gpus_per_node": 1, "cpus_per_node": 16, "workdir": workdir,
            "ssh": {"user": "root", "key": str(key or self.lab.folder / "key"), "sync": sync},
        }  # fmt: skip
        self.inventory.write_text(json.dumps(content))
        return self

    def start(self, target: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "dsdr_verl.cluster", target, "-i", str(self.inventory), *arguments]
        self.output = self.folder / f"{target}-{time.monotonic_ns()}.txt"
        with open(self.output, "wb") as output:
            return subprocess.Popen(
                self.lab.command(*command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                cwd=REPOSITORY, env=self.environment,
            )  # fmt: skip

    def __call__(self, target: str, *arguments: str, expect: int = 0, timeout: float = 1200) -> str:
        process = self.start(target, *arguments)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"{target} did not end within {timeout} s:\n{self.said()}")
        assert process.returncode == expect, self.said()
        return self.said()

    def said(self) -> str:
        return self.output.read_text()

    def wait_for(self, process: subprocess.Popen, text: str, timeout: float = 900) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.said():
            ended = process.poll() is not None and text not in self.said()
            assert not ended, f"ended before it said {text!r}:\n{self.said()}"
            assert time.monotonic() < deadline, f"no {text!r} within {timeout} s:\n{self.said()}"
            time.sleep(0.3)


@pytest.fixture(scope="module")
def folder():
    """Outside of /tmp, which every host has to itself."""
    path = Path(tempfile.mkdtemp(prefix="dsdr-hosts-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def cluster(folder):
    lab = Lab(folder / "lab", 3)
    yield Cluster(folder, lab)
    lab.close()


def ray_processes(cluster: Cluster, i: int) -> str:
    return cluster.lab.ssh(i, "ps -eo args | grep -E 'raylet|gcs_server|ray::|VLLM' | grep -v grep").stdout


def steps(folder: Path) -> dict[int, dict]:
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["metrics"] for row in rows if row["kind"] == "step"}


def test_two_and_three_hosts_equal_one(cluster, folder):
    kept = kept_rollouts(folder)
    one = run(folder / "one", *BATCH, *kept).steps()[0]
    for size in (2, 3):
        cluster.of(size)("up")
        alive = re.findall(r"(10\.77\.0\.\d) .*ALIVE", cluster("status"))
        assert alive == cluster.lab.addresses[:size]
        said = cluster("submit", "--", *BATCH, *kept, f"run_dir={folder / f'hosts-{size}'}", f"scoring.actors={size}")
        assert f"nodes      {size} with 1 GPUs each, all with the same code and packages" in said
        assert "SUCCEEDED" in said
        found = steps(folder / f"hosts-{size}")[1]
        same(found, one, "actor/pg_loss", "actor/dsdr_local", "actor/loss", "actor/grad_norm", rel=1e-3)
        same(found, one, *[n for n in one if n.startswith("dsdr/") and "seconds" not in n], rel=1e-6)
        cluster("down")
        assert not [cluster.lab.addresses[i] for i in range(size) if ray_processes(cluster, i)]


def test_sync_brings_the_checkout_to_every_host(cluster):
    """But for the packages: no registry can be reached from these hosts, so they find a .venv that is up to date, with
    the packages of this one."""
    parts = " ".join(f"{sys.prefix}/{part}" for part in ("bin", "lib", "pyvenv.cfg"))
    for i in range(2):
        venv = "~/checkout/.venv"
        made = cluster.lab.ssh(i, f"mkdir -p {venv} && ln -s {parts} {venv}/ && touch -d tomorrow {venv}/ready-cpu")
        assert made.returncode == 0, made.stderr
    cluster.of(2, workdir="~/checkout", sync=True)("up")
    assert "SUCCEEDED" in cluster("submit", "--", "--help")
    plugin = (REPOSITORY / "dsdr_verl" / "plugin.py").read_text()
    for i in range(2):
        assert cluster.lab.ssh(i, "cat ~/checkout/dsdr_verl/plugin.py").stdout == plugin
        assert cluster.lab.ssh(i, "ls -d ~/checkout/.git ~/checkout/outputs").stdout == ""
    cluster("down")


def test_a_node_with_other_code_is_named(cluster, folder):
    other = folder / "coupling.py"
    original = REPOSITORY / "dsdr_verl" / "algorithm" / "coupling.py"
    other.write_text(original.read_text() + "# changed\n")
    cluster.lab.kill(1)
    cluster.lab.boot(1, extra=f"mount --bind {other} {original}")
    cluster.of(2)("up")
    said = cluster("submit", "--", *BATCH, f"run_dir={folder / 'other'}", expect=1)
    assert re.search(r"10\.77\.0\.2 \(node \w+\): other code: dsdr_verl/algorithm/coupling\.py", said), said
    assert "nothing was started" in said
    cluster("down")
    cluster.lab.kill(1)
    cluster.lab.boot(1)


def test_a_host_that_is_missing_is_named(cluster, folder):
    cluster.lab.kill(1)
    said = cluster.of(2)("up", "--timeout", "15", expect=1)
    assert "1 of 2 nodes are up after 15 s; missing: 10.77.0.2" in said
    said = cluster("submit", "--", *BATCH, f"run_dir={folder / 'missing'}", "cluster.wait_seconds=5", expect=1)
    assert "missing: 10.77.0.2" in said and "cluster.wait_seconds" in said
    cluster.lab.boot(1)


def test_hosts_that_nobody_can_log_in_to(cluster, folder):
    shutil.copy(cluster.lab.folder / "host_key", folder / "other_key")
    for key, said in (
        (folder / "other_key", "root@10.77.0.1 cannot be reached by ssh: .*denied"),
        ("/no/key", "no file"),
    ):
        started = time.monotonic()
        assert re.search(said, cluster.of(2, key=key)("up", expect=1))
        assert time.monotonic() - started < 60


@pytest.mark.timeout(3600)  # four runs, three clusters
def test_a_lost_host_ends_the_run_and_it_resumes(cluster, folder):
    """A host that is killed, one whose link is cut, and the head that is killed."""
    where = folder / "lost"
    train = (*BATCH, f"run_dir={where}", "trainer.save_freq=1", "trainer.max_actor_ckpt_to_keep=2")
    cluster.of(2)("up")
    done = 0
    for breaks, mends, said in (
        (lambda: cluster.lab.kill(1), lambda: cluster.lab.boot(1), "node 10.77.0.2 has left the cluster"),
        (lambda: cluster.lab.link(1, "down"), lambda: cluster.lab.link(1, "up"), "node 10.77.0.2 has left the cluster"),
        (lambda: cluster.lab.kill(0), lambda: cluster.lab.boot(0), "lost touch with lab2-"),
    ):
        job = cluster.start("submit", "--", *train, "trainer.total_training_steps=500")
        if done:
            cluster.wait_for(job, f"resuming after step {done}")
        cluster.wait_for(job, f"checkpoint of step {done + 1}")
        if not done:
            output = cluster.output
            assert re.search(r"lab2-\d+-\d+ runs, and this would end it: make stop", cluster("up", expect=1))
            cluster.output = output
        breaks()
        cluster.wait_for(job, said, timeout=60)
        job.wait(timeout=60)
        assert job.returncode == 1, cluster.said()
        mends()
        cluster("up")
        done = int((where / "checkpoints" / "latest_checkpointed_iteration.txt").read_text())
    said = cluster("submit", "--", *train, f"trainer.total_training_steps={done + 1}")
    assert f"resuming after step {done}" in said
    assert max(steps(where)) == done + 1
    cluster("down")


def test_a_process_that_is_stopped_on_another_host_ends_the_run(cluster, folder):
    cluster.of(2)("up")
    train = (f"run_dir={folder / 'stopped'}", "trainer.save_freq=1", "trainer.total_training_steps=500")
    job = cluster.start("submit", "--", *BATCH, *train)
    cluster.wait_for(job, "checkpoint of step 1")
    assert cluster.lab.ssh(1, "pkill -STOP -o VLLM::Worker").returncode == 0
    cluster.wait_for(job, "has been stopped (SIGSTOP)", timeout=60)
    job.wait(timeout=60)
    said = cluster.said()
    assert job.returncode == 1, said
    assert re.search(r"VLLM::Worker \(pid \d+\) .* on node 10\.77\.0\.2, in .* of step \d", said), said
    for i in range(2):
        assert not re.search("VLLM|WorkerDict|TaskRunner", ray_processes(cluster, i))
    cluster("down")
