"""`python -m dsdr_verl.cluster up|status|submit|logs|down|files`: a cluster from its inventory."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dsdr_verl.cluster.backends import ClusterError, backend_of
from dsdr_verl.cluster.inventory import Backend, Inventory, InventoryError, load
from dsdr_verl.cluster.token import use_home_token

POLL_S = 2.0
WAIT_S = 600.0
AGENT_S = 60.0
LAST_JOB = "last_job"


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    use_home_token()
    for name in ("no_proxy", "NO_PROXY"):  # tunnels end here, not at a proxy
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1,localhost"]))
    try:
        return arguments.run(load(arguments.inventory, arguments.backend), arguments) or 0
    except (InventoryError, ClusterError) as error:
        print(error, file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m dsdr_verl.cluster", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--inventory", "-i", type=Path, required=True, help="YAML; recipe/cluster/ has examples")
    common.add_argument("--backend", choices=Backend.__args__, help="wins over the inventory's")
    commands = top.add_subparsers(required=True, metavar="command")

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[common], help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    sub = command("up", up, "start the nodes and wait until all of them are there")
    sub.add_argument("--timeout", type=float, default=WAIT_S, help="seconds to wait for them (default %(default)s)")
    command("status", status, "nodes and jobs")
    sub = command("submit", submit, "train on the cluster: `submit -i cluster.yaml -- +algorithm=dsdr key=value ...`")
    sub.add_argument("--no-follow", action="store_true", help="return at once; `logs` shows how it goes")
    sub.add_argument("overrides", nargs="*", help="of python -m dsdr_verl.main_ppo, after --")
    sub = command("logs", logs, "follow the output of a job")
    sub.add_argument("--job", help="its id; the last one submitted from here if left out")
    command("down", down, "end the cluster")
    command("files", files, "print what the backend's own tool is given, and start nothing")
    return top


def up(inventory: Inventory, arguments: argparse.Namespace) -> None:
    backend = backend_of(inventory)
    backend.up(inventory)
    use_home_token()  # which may have been made just now
    deadline, said = time.monotonic() + arguments.timeout, -1
    with backend.dashboard(inventory) as url:
        while len(alive := _alive(url)) < inventory.size:
            if len(alive) != said:
                said = len(alive)
                print(f"{said} of {inventory.size} nodes are up", flush=True)
            if time.monotonic() > deadline:
                raise ClusterError(_missing(inventory, [node.node_ip for node in alive], arguments.timeout))
            time.sleep(POLL_S)
    print(f"all {inventory.size} nodes are up; next: make submit ARGS='+algorithm=dsdr'")


def status(inventory: Inventory, arguments: argparse.Namespace) -> None:
    with backend_of(inventory).dashboard(inventory) as url:
        nodes, jobs = _nodes(url), _client(url).list_jobs()
    table = Table("address", "state", "head", "CPUs", "GPUs", "memory GiB", "why", title=f"nodes of {inventory.name}")
    for node in sorted(nodes, key=lambda n: (n.state, not n.is_head_node, n.node_ip)):
        has = node.resources_total
        amounts = (f"{has.get('CPU', 0):g}", f"{has.get('GPU', 0):g}", f"{has.get('memory', 0) / 2**30:.1f}")
        table.add_row(node.node_ip, node.state, "yes" if node.is_head_node else "", *amounts, node.state_message or "")
    Console().print(table)
    for job in sorted((job for job in jobs if job.submission_id), key=lambda job: job.start_time or 0):
        print(f"{job.submission_id}  {job.status}  {job.message or ''}")


def submit(inventory: Inventory, arguments: argparse.Namespace) -> int:
    job_id = f"{inventory.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    overrides = [
        f"hardware={inventory.hardware}", f"trainer.nnodes={inventory.size}",
        f"trainer.n_gpus_per_node={inventory.gpus_per_node}", *arguments.overrides,
    ]  # fmt: skip
    entrypoint = f"{inventory.python} -m dsdr_verl.main_ppo {shlex.join(overrides)}"
    environment = inventory.secrets() | {"DSDR_CLUSTER_HOSTS": ",".join(inventory.hosts)}
    with backend_of(inventory).dashboard(inventory) as url:
        client = _client(url)
        _submit(client, entrypoint=entrypoint, submission_id=job_id, runtime_env={"env_vars": environment})
        inventory.folder.mkdir(parents=True, exist_ok=True)
        (inventory.folder / LAST_JOB).write_text(job_id)
        print(f"submitted {job_id}: {entrypoint}", flush=True)
        return 0 if arguments.no_follow else _follow(client, job_id)


def _submit(client, **job) -> None:
    """Raises:
    ClusterError: the head does not take the job; for `AGENT_S` seconds, if it only has not got ready for jobs yet.
    """
    deadline = time.monotonic() + AGENT_S
    while True:
        try:
            client.submit_job(**job)
            return
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise ClusterError(f"the head does not take the job: {error}") from error
            time.sleep(POLL_S)


def logs(inventory: Inventory, arguments: argparse.Namespace) -> int:
    last = inventory.folder / LAST_JOB
    job_id = arguments.job or (last.read_text() if last.exists() else None)
    if job_id is None:
        raise ClusterError(f"no job of {inventory.name} was submitted from here; say which with --job (see status)")
    with backend_of(inventory).dashboard(inventory) as url:
        return _follow(_client(url), job_id)


def down(inventory: Inventory, arguments: argparse.Namespace) -> None:
    backend_of(inventory).down(inventory)
    print(f"{inventory.name} is down")


def files(inventory: Inventory, arguments: argparse.Namespace) -> None:
    for name, text in backend_of(inventory).files(inventory).items():
        print(f"# {inventory.folder / name}\n{text.rstrip()}\n")


def _alive(url: str) -> list:
    """Nodes that are up; none while the head is still on its way."""
    try:
        return [node for node in _nodes(url) if node.state == "ALIVE"]
    except ClusterError:
        return []


def _client(url: str):
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(url)


def _nodes(url: str) -> list:
    from ray.util.state import list_nodes
    from ray.util.state.exception import RayStateApiException

    try:
        return list_nodes(address=url, detail=True, timeout=30, limit=10_000)
    except RayStateApiException as error:
        raise ClusterError(f"Ray's dashboard does not answer: {error}; make cluster-up starts what has gone") from error


def _follow(client, job_id: str) -> int:
    """Print a job's output until it ends; 0 if it succeeded."""
    import asyncio

    async def tail() -> None:
        async for lines in client.tail_job_logs(job_id):
            print(lines, end="", flush=True)

    try:
        asyncio.run(tail())
    except Exception as error:  # of the web socket, of several kinds
        raise ClusterError(f"lost touch with {job_id} ({error}); `make logs` if the cluster is still there") from error
    except KeyboardInterrupt:
        print(f"\n{job_id} goes on; `logs` follows it again, `ray job stop {job_id}` ends it")
        return 130
    info = client.get_job_info(job_id)
    print(f"{job_id}: {info.status}" + (f" ({info.message})" if info.message else ""))
    return 0 if info.status == "SUCCEEDED" else 1


def _missing(inventory: Inventory, addresses: list[str], seconds: float) -> str:
    text = f"{len(addresses)} of {inventory.size} nodes are up after {seconds:.0f} s"
    if absent := [host for host in inventory.hosts if host not in addresses]:
        return (
            f"{text}; missing: {', '.join(absent)}. Look there with ssh, and at the head's /tmp/ray/session_latest/logs"
        )
    return f"{text}: {', '.join(addresses) or 'none'}"


if __name__ == "__main__":
    sys.exit(main())
