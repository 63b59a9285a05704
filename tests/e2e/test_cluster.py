"""A cluster of separate Ray nodes on this machine, by the commands of the Makefile."""

import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from dsdr_verl.cluster.tunnel import answers, free_port
from dsdr_verl.ray_address import ALONE
from tests.e2e.processes import eventually, runs
from tests.e2e.runs import TINY

pytestmark = pytest.mark.e2e
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    ports = {name: free_port() for name in ("gcs", "dashboard", "metrics", "agent")}
    inventory = folder / "cluster.yaml"
    inventory.write_text(
        json.dumps(
            {"name": f"test-{os.getpid()}", "backend": "local", "hardware": "cpu", "nodes": 2, "gpus_per_node": 1,
             "cpus_per_node": 16, "workdir": str(REPOSITORY), "ports": ports, "env": ["DSDR_TEST_SECRET"]}
        )
    )  # fmt: skip
    environment = os.environ | {"DSDR_CACHE": str(folder / "cache"), "DSDR_TEST_SECRET": "hush-hush", ALONE: "0"}
    environment.pop("RAY_ADDRESS", None)

    def make(target: str, *arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "dsdr_verl.cluster", target, "-i", str(inventory), *arguments]
        return subprocess.run(
            command, env=environment, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=900,
        )  # fmt: skip

    make.ports, make.folder, make.name = ports, folder, json.loads(inventory.read_text())["name"]
    yield make
    make("down")


def logs_in(folder: Path) -> str:
    return "\n".join(f"{path.name}: {path.read_text()[-3000:]}" for path in folder.rglob("node-*.log"))


def workers_of(before: set[int]) -> list[str]:
    """Titles of trainers, engines and actors that a run has started since."""
    titles = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]) if p.pid not in before]
    return [title for title in titles if re.match(r"ray::(?!IDLE|DashboardAgent|RuntimeEnvAgent)|VLLM", title)]


def test_up_status_submit_stop_logs_down(cluster):
    before = {process.pid for process in psutil.process_iter()}
    up = cluster("up", "--timeout", "120")
    assert up.returncode == 0 and "all 2 nodes are up" in up.stdout, up.stdout + logs_in(cluster.folder)
    assert cluster("up").returncode == 0, "repeating it does no harm"
    assert cluster("status").stdout.count("ALIVE") == 2

    url = f"http://127.0.0.1:{cluster.ports['dashboard']}/api/jobs/"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url, timeout=10)

    # the config is refused before anything starts, so that this takes seconds
    bad = cluster("submit", "--", "+algorithm=dsdr", "profile=tiny", "actor_rollout_ref.rollout.n=1")
    assert bad.returncode == 1 and "actor_rollout_ref.rollout.n is 1" in bad.stdout and "FAILED" in bad.stdout
    assert "actor_rollout_ref.rollout.n is 1" in cluster("logs").stdout
    kept = [path for path in cluster.folder.rglob("*") if path.is_file() and b"hush-hush" in path.read_bytes()]
    assert not kept, "a secret stays in the environment"

    # a run in the middle of training is told to end, and nothing of it stays
    run_dir = cluster.folder / "stopped"
    endless = ("+algorithm=dsdr", f"run_dir={run_dir}", *TINY, "trainer.total_training_steps=100000")
    assert cluster("submit", "--no-follow", "--", *endless).returncode == 0
    eventually(lambda: (run_dir / "metrics.jsonl").exists(), seconds=720)
    mine = [p for p in psutil.process_iter(["cmdline"]) if str(run_dir) in " ".join(p.info["cmdline"] or [])]
    assert mine and "is told to end" in cluster("stop").stdout
    eventually(lambda: "STOPPED" in cluster("status").stdout, seconds=60)
    eventually(lambda: not any(map(runs, mine)) and not workers_of(before), seconds=60)
    assert "had ended" in cluster("stop").stdout

    # whoever has lost the token, or has that of another cluster, is told so
    token = next(cluster.folder.rglob("token"))
    right = token.read_text()
    token.write_text("0" * len(right))
    assert "the head takes another token" in cluster("status").stdout
    token.unlink()
    lost = cluster("status")
    assert lost.returncode == 1 and f"the token of test-{os.getpid()} is not here ({token})" in lost.stdout
    token.write_text(right)

    down = cluster("down")
    assert down.returncode == 0, down.stdout
    assert not any(answers(port) for port in cluster.ports.values())
    left = [p for p in psutil.process_iter(["cmdline", "pid"]) if p.pid not in before]
    assert not [p for p in left if f"test-{os.getpid()}" in " ".join(p.info["cmdline"] or [])]
    gone = cluster("status")
    assert gone.returncode == 1 and "make cluster-up" in gone.stdout


def test_a_taken_port_is_named(cluster):

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", cluster.ports["gcs"]))
        taken.listen()
        up = cluster("up")
    assert up.returncode == 1 and f"ports.gcs is {cluster.ports['gcs']}" in up.stdout


def test_a_node_that_ends_on_its_way_up_is_started_again(cluster):
    def raylets() -> list[psutil.Process]:
        found = [p for p in psutil.process_iter(["name", "cmdline"]) if p.info["name"] == "raylet"]
        return [p for p in found if f"ray-{cluster.name}/" in " ".join(p.info["cmdline"])]

    with ThreadPoolExecutor() as pool:
        up = pool.submit(cluster, "up", "--timeout", "120")
        eventually(lambda: len(raylets()) == 2, seconds=60)
        max(raylets(), key=lambda raylet: raylet.create_time()).kill()
        up = up.result()
    assert up.returncode == 0 and "all 2 nodes are up" in up.stdout, up.stdout + logs_in(cluster.folder)
    assert cluster("down").returncode == 0 and not raylets()
