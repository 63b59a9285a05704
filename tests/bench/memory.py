"""What a load balancer keeps of each request: verl's, and ours in its place."""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise
from statistics import median

import ray
from ray.actor import ActorHandle
from verl.workers.rollout.router import GlobalRequestLoadBalancer

from dsdr_verl.ray_address import prepare_ray
from dsdr_verl.trainer.router import Router
from tests.bench.report import say, table
from tests.soak.watch import memory_of

ROUND, AT_ONCE = 8192, 16  # requests; Ray's table doubles once in some thousands, so a round has to have many
REMEMBERED = 1000  # requests whose server is known, so that this is full after the first round


class Verl(GlobalRequestLoadBalancer):
    def __init__(self, servers: dict[str, ActorHandle]):
        super().__init__(servers, max_cache_size=REMEMBERED)


class Ours(Router):
    def __init__(self, servers: dict[str, ActorHandle]):
        super().__init__(servers, {})
        self._request_id_to_server = type(self._request_id_to_server)(maxsize=REMEMBERED)


class Server:
    async def generate(self) -> None:
        pass


class Client:
    """Asks as verl's does: for a server, that server, and with a word at the end for which it does not wait."""

    def __init__(self, balancer: ActorHandle):
        self._balancer = balancer

    async def ask(self, first: int, count: int) -> None:
        for start in range(first, first + count, AT_ONCE):
            await asyncio.gather(*(self._request(f"{number:032x}") for number in range(start, start + AT_ONCE)))

    async def _request(self, name: str) -> None:
        address, server = await self._balancer.acquire_server.remote(request_id=name)
        await server.generate.remote()
        self._balancer.release_server.remote(server_id=address)


def section(quick: bool) -> str:
    rounds = 2 if quick else 8
    prepare_ray()
    ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=10**8, log_to_driver=False)
    try:
        kept = {name: _bytes_a_request(name, which, rounds) for name, which in (("verl", Verl), ("ours", Ours))}
    finally:
        ray.shutdown()
    lines = [
        "## Memory",
        "",
        "Written by `python -m tests.bench memory`. A load balancer, one server and a process that asks, each an actor "
        f"of Ray, without a model; {rounds} rounds of {ROUND:,} requests after a first. Bytes of the balancer's own "
        "memory a request (the table in which Ray keeps them doubles now and then, so a round is more or less):",
    ]
    rows = [[name, f"{sum(each) / rounds:.0f}", f"{median(each):.0f}"] for name, each in kept.items()]
    return "\n".join([*lines, *table(["balancer", "mean of the rounds", "median"], rows)])


def _bytes_a_request(name: str, balancer: type, rounds: int) -> list[float]:
    server = ray.remote(Server).options(num_cpus=0).remote()
    served = ray.remote(balancer).options(num_cpus=0).remote({"a:1": server})
    client = ray.remote(Client).options(num_cpus=0).remote(served)
    pid = ray.get(served.__ray_call__.remote(lambda _: os.getpid()))
    levels = []
    for number in range(rounds + 1):
        ray.get(client.ask.remote(number * ROUND, ROUND))
        levels.append(memory_of(pid)[0])
        say(f"{name}, round {number} of {rounds}: {levels[-1]:.1f} MiB")
    for actor in (client, served, server):
        ray.kill(actor)
    return [(after - before) * 2**20 / ROUND for before, after in pairwise(levels)]
