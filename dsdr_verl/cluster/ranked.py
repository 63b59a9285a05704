"""For schedulers that run one script on every node and number them: who is the head, and when does it answer?"""

from __future__ import annotations

import contextlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager

from dsdr_verl.cluster.backends import ClusterError, ray_start
from dsdr_verl.cluster.inventory import Inventory

POLL_S = 2.0


def ray_by_rank(inventory: Inventory, rank: str) -> str:
    """Bash that becomes Ray's head where the variable `rank` is 0, and elsewhere joins it as soon as it listens. It
    finds the head's address in HEAD, and ends with its node."""
    head = " ".join([*ray_start(inventory, head="$HEAD"), "--block"])
    worker = " ".join([*ray_start(inventory, address="$HEAD"), "--block"])
    return (
        f'if [ "${rank}" = 0 ]; then exec {head}; fi\n'
        f"until (: </dev/tcp/$HEAD/{inventory.ports.gcs}) 2>/dev/null; do sleep 1; done\n"
        f"exec {worker}"
    )


def wait_for_head(
    dashboard: Callable[[Inventory], AbstractContextManager[str]],
    inventory: Inventory,
    check: Callable[[], None],
    seconds: float,
) -> None:
    """Returns as soon as Ray's dashboard answers; `check` raises if that will never be.

    Raises:
        ClusterError: it has not answered within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while problem := silence(dashboard, inventory):
        check()
        if time.monotonic() > deadline:
            raise ClusterError(f"the head of {inventory.name} does not answer after {seconds:.0f} s: {problem}")
        time.sleep(POLL_S)


def silence(dashboard: Callable[[Inventory], AbstractContextManager[str]], inventory: Inventory) -> str | None:
    """Why Ray's dashboard does not answer; None if it does."""
    try:
        with dashboard(inventory) as url, contextlib.suppress(urllib.error.HTTPError):  # even "401" is an answer
            urllib.request.urlopen(f"{url}/api/version", timeout=5).close()
    except (ClusterError, OSError) as error:
        return str(error)
    return None
