"""The scoring service on a real Ray: `python -m pytest -m e2e tests/e2e/test_scoring_service.py`."""

import asyncio
import contextlib
import os
import re
import signal
import time
from urllib.request import urlopen

import numpy as np
import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.exceptions import RayActorError

from dsdr_verl.scoring import service
from dsdr_verl.scoring.options import EmbeddingOptions, ScoringOptions, VerifierOptions
from dsdr_verl.scoring.service import Scorer, ScoringClient
from tests.e2e.processes import eventually, runs

pytestmark = pytest.mark.e2e

# Half a GPU each, of one that Ray is told of: the encoder stays on the CPU.
OPTIONS = ScoringOptions(actors=2, num_gpus=0.5, verifier=VerifierOptions(timeout=2.0))
STUCK = (r"\boxed{10^{10^{10}}}", "x+5")  # takes the limit
RESPONSES = [(rf"First {i} + 1 = {i + 1}. So the answer is $\boxed{{x+{i}}}$.", f"{i % 3}+x") for i in range(60)]


def service_processes():
    """Ids of the actors' processes and their verifiers' below this one."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # and zombies
            if any(mark in " ".join(process.cmdline()) for mark in ("ScoringActor", "zygote.serve")):
                found.add(process.pid)
    return found


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(
        "local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, namespace="scoring",
        _system_config={"metrics_report_interval_ms": 1000},
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def client():
    client = ScoringClient.connect(OPTIONS)
    asyncio.run(client.ready())
    return client


@pytest.fixture(scope="module")
def expected():
    async def run():
        scorer = Scorer(OPTIONS)
        try:
            return await asyncio.gather(*(scorer.score(*pair) for pair in RESPONSES))
        finally:
            await scorer.close()

    return asyncio.run(run())


def same(scores, expected):
    assert len(scores) == len(expected)
    for score, other in zip(scores, expected, strict=True):
        assert (score.verdict, score.acc) == (other.verdict, other.acc)
        np.testing.assert_array_equal(score.formula_ids, other.formula_ids)
        np.testing.assert_allclose(score.embedding, other.embedding, atol=1e-6)


async def score_all(client, *more):
    return await asyncio.gather(*(client.score(*pair) for pair in [*RESPONSES, *more]))


def test_many_at_once_as_without_ray(client, expected):
    scores = asyncio.run(score_all(client))
    same(scores, expected)
    assert [score.acc for score in scores] == [float(i < 3) for i in range(60)]


def test_clients_share_the_actors(client):
    async def run():
        before = await client.stats()
        other = ScoringClient.connect(OPTIONS)
        await asyncio.gather(*(other.score("15", "15") for _ in range(4)))
        return before, await client.stats()

    before, after = asyncio.run(run())
    assert after["items"] - before["items"] == 4


def test_from_another_actor(client):
    @ray.remote(num_cpus=0)
    class Worker:
        async def run(self):
            return await ScoringClient.connect(OPTIONS).score("7 + 8 = 15", "15")

    assert ray.get(Worker.remote().run.remote()).acc == 1.0


@pytest.mark.parametrize("no_restart", [False, True])
def test_killing_actors_loses_nothing(client, expected, no_restart):
    async def run():
        work = asyncio.create_task(score_all(client, STUCK, STUCK))  # one on each actor
        await asyncio.sleep(0.1)
        ray.kill(client._actors[0], no_restart=no_restart)
        assert not work.done()
        return await work

    *scores, first, second = asyncio.run(run())
    same(scores, expected)
    assert first.verdict == second.verdict == "timeout"


def test_a_stuck_answer_delays_nobody(client):
    async def run():
        await client.ready()
        stuck = [asyncio.create_task(client.score(*STUCK)) for _ in range(2)]
        await asyncio.sleep(0.1)
        start = time.monotonic()
        quick = await asyncio.gather(*(client.score("15", "15") for _ in range(20)))
        assert time.monotonic() - start < 2.0 and all(score.acc == 1.0 for score in quick)
        return [(await task).verdict for task in stuck]

    assert asyncio.run(run()) == ["timeout", "timeout"]


def test_rays_metrics_show_verdicts_latency_and_queues(client):
    """What Prometheus, and so the dashboard, reads from this node."""
    asyncio.run(score_all(client))
    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"

    def shown():
        with urlopen(address, timeout=10) as page:
            text = page.read().decode()
        return all(
            re.search(rf"ray_dsdr_scoring_{name}", text)
            for name in (
                'verdicts(_total)?{[^}]*verdict="correct"', 'seconds_bucket{[^}]*part="embed"',
                'seconds_count{[^}]*part="all"', 'in_flight{[^}]*part="verifying"', "workers_replaced{",
            )
        )  # fmt: skip

    eventually(shown, seconds=30.0)


def test_close_leaves_no_actor_and_no_process(client):
    client.close()
    with pytest.raises(ValueError):
        ray.get_actor("dsdr_scoring_0")
    eventually(lambda: not service_processes())


class PoisonedActor(Scorer):
    async def score(self, response, ground_truth):
        if response == "poison":
            os._exit(1)
        return await super().score(response, ground_truth)


class KilledAtStart(Scorer):
    def __init__(self, options):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("actor", [PoisonedActor, KilledAtStart])
def test_what_ends_its_actor_each_time_does_not_do_so_for_ever(monkeypatch, actor):
    monkeypatch.setattr(service, "ScoringActor", actor)
    client = ScoringClient.connect(ScoringOptions(verifier=VerifierOptions(workers=1)))

    async def run():
        with pytest.raises(RayActorError, match="one scoring actor after the other has died"):
            await asyncio.wait_for(client.score("poison", "15"), 60)
        monkeypatch.setattr(service, "ScoringActor", Scorer)  # what there is from now on
        return await client.score("15", "15")

    try:
        assert asyncio.run(run()).acc == 1.0
    finally:
        client.close()


def test_an_actor_that_cannot_start_says_why():
    client = ScoringClient.connect(ScoringOptions(embedding=EmbeddingOptions(model="/no/such/folder")))
    for call in (client.ready, lambda: client.score("15", "15")):
        with pytest.raises(RayActorError, match=r"scoring\.embedding\.model is '/no/such/folder'"):
            asyncio.run(call())
    asyncio.run(ScoringClient.connect(ScoringOptions()).ready())  # the name is free again


def test_ray_shutdown_leaves_no_process():
    """With work under way and no close. Last: it ends the cluster."""
    client = ScoringClient.connect(OPTIONS)
    asyncio.run(client.ready())
    mine = service_processes()
    assert len(mine) >= 4
    for actor in client._actors:
        actor.score.remote(*STUCK)
    time.sleep(0.3)
    ray.shutdown()
    eventually(lambda: not any(map(runs, mine)))


def test_actors_spread_over_the_nodes_and_survive_the_loss_of_one(expected):
    ray.shutdown()  # the module's cluster
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1, "include_dashboard": False})
    try:
        lost = cluster.add_node(num_cpus=1, num_gpus=1)
        ray.init(address=cluster.address, log_to_driver=False, namespace="scoring")
        client = ScoringClient.connect(OPTIONS)
        asyncio.run(client.ready())
        node = [
            actor.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()) for actor in client._actors
        ]
        assert len(set(ray.get(node))) == 2

        async def run():
            work = asyncio.create_task(score_all(client, STUCK, STUCK))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(cluster.remove_node, lost, allow_graceful=False)
            return await work

        same(asyncio.run(run())[: len(expected)], expected)
        client.close()
    finally:
        ray.shutdown()
        cluster.shutdown()
