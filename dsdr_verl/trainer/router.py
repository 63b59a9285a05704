"""verl's load balancer, but one whose memory does not grow with the rollouts.

It answers each request with the handle of a vLLM server, and Ray notes, for as long as the process lives, in which
object it gave away a handle that it holds: some 400 bytes a rollout. Here the answer has what a handle is made of,
which is nothing to Ray, and a process that asks makes one of it for all its requests.
"""

from __future__ import annotations

from functools import cache

from ray.actor import ActorHandle
from verl.workers.rollout.router import GlobalRequestLoadBalancer


class Router(GlobalRequestLoadBalancer):
    """In `rollout.router_config_path`.

    Args:
        servers: by address, as verl gives them.
        options: the file's; it has none but the name of this class.
    """

    def __init__(self, servers: dict[str, ActorHandle], options: dict):
        super().__init__(servers)

    def acquire_server(self, request_id: str) -> tuple[str, _Mailed]:
        """The address of a server, and what arrives as its handle."""
        address, handle = super().acquire_server(request_id)
        return address, _mailed(handle)


class _Mailed:
    """Unpickled, it is the handle."""

    def __init__(self, handle: ActorHandle):
        _, self._made_of = handle.__reduce__()

    def __reduce__(self):
        return _handle_of, self._made_of


_mailed = cache(_Mailed)


@cache
def _handle_of(*made_of) -> ActorHandle:
    return ActorHandle._deserialization_helper(*made_of)  # not by its name in the answer: that is slow to pickle
