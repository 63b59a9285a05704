"""`python -m dsdr_verl.cluster up|status|submit|logs|stop|down|files`: a cluster from its inventory."""

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
from dsdr_verl.cluster.head import answering, job_client, jobs, nodes
from dsdr_verl.cluster.hosts import absent
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
    except KeyboardInterrupt:
        return 130


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
    _takes_job(sub)
    _takes_job(command("stop", stop, "end a job"))
    command("down", down, "end the cluster")
    command("files", files, "print what the backend's own tool is given, and start nothing")
    return top


def _takes_job(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--job", help="its id; the last one submitted from here if left out")


def up(inventory: Inventory, arguments: argparse.Namespace) -> None:
    backend = backend_of(inventory)
    backend.up(inventory)
    use_home_token()  # which may have been made just now
    deadline, said = time.monotonic() + arguments.timeout, -1
    while len(alive := _alive(backend, inventory)) < inventory.size:
        if len(alive) != said:
            said = len(alive)
            print(f"{said} of {inventory.size} nodes are up", flush=True)
        if time.monotonic() > deadline:
            raise ClusterError(_missing(inventory, alive, arguments.timeout))
        time.sleep(POLL_S)
    which = f"INVENTORY={arguments.inventory}" + (f" BACKEND={arguments.backend}" if arguments.backend else "")
    shared = "" if inventory.backend == "local" else " run_dir=/a/folder/that/all/nodes/see"
    print(f"all {inventory.size} nodes are up; next: make submit {which} ARGS='+algorithm=dsdr{shared}'")


def status(inventory: Inventory, arguments: argparse.Namespace) -> None:
    with backend_of(inventory).dashboard(inventory) as url:
        there, submitted = nodes(url), jobs(url)
    table = Table("address", "state", "head", "CPUs", "GPUs", "memory GiB", "why", title=f"nodes of {inventory.name}")
    for node in sorted(there, key=lambda n: (n.state, not n.is_head_node, n.node_ip)):
        has = node.resources_total
        amounts = (f"{has.get('CPU', 0):g}", f"{has.get('GPU', 0):g}", f"{has.get('memory', 0) / 2**30:.1f}")
        table.add_row(node.node_ip, node.state, "yes" if node.is_head_node else "", *amounts, node.state_message or "")
    Console().print(table)
    for job in submitted:
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
        client = job_client(url)
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
            if "No available agent" not in str(error):
                raise ClusterError(f"the head does not take the job: {error}") from error
            if time.monotonic() > deadline:
                raise ClusterError(
                    "the head has no agent that could start the job: another Ray on its machine may hold the port of "
                    "its own; give another one by `ports: {agent: ...}`"
                ) from error
            time.sleep(POLL_S)


def logs(inventory: Inventory, arguments: argparse.Namespace) -> int:
    job_id = _job(inventory, arguments)
    with backend_of(inventory).dashboard(inventory) as url:
        return _follow(job_client(url), job_id)


def stop(inventory: Inventory, arguments: argparse.Namespace) -> None:
    job_id = _job(inventory, arguments)
    with backend_of(inventory).dashboard(inventory) as url, answering():
        stopped = job_client(url).stop_job(job_id)
    print(f"{job_id} is told to end" if stopped else f"{job_id} had ended")


def _job(inventory: Inventory, arguments: argparse.Namespace) -> str:
    last = inventory.folder / LAST_JOB
    job_id = arguments.job or (last.read_text() if last.exists() else None)
    if job_id is None:
        raise ClusterError(f"no job of {inventory.name} was submitted from here; say which with --job (see status)")
    return job_id


def down(inventory: Inventory, arguments: argparse.Namespace) -> None:
    backend_of(inventory).down(inventory)
    print(f"{inventory.name} is down")


def files(inventory: Inventory, arguments: argparse.Namespace) -> None:
    for name, text in backend_of(inventory).files(inventory).items():
        print(f"# {inventory.folder / name}\n{text.rstrip()}\n")


def _alive(backend, inventory: Inventory) -> list[str]:
    """Addresses of nodes that are up; none while the head is still on its way.

    Raises:
        ClusterError: the head has ended, or the way to it.
    """
    with backend.dashboard(inventory) as url:
        try:
            return [node.node_ip for node in nodes(url) if node.state == "ALIVE"]
        except ClusterError:
            return []


def _follow(client, job_id: str) -> int:
    """Print a job's output until it ends; 0 if it succeeded."""
    import asyncio

    async def tail() -> None:
        async for lines in client.tail_job_logs(job_id):
            print(lines, end="", flush=True)

    try:
        asyncio.run(tail())
        info = client.get_job_info(job_id)
    except Exception as error:  # of the web socket, of several kinds
        raise ClusterError(
            f"lost touch with {job_id} ({str(error) or type(error).__name__}): its head, or the way there, has gone; "
            "`make logs` if the cluster is still there, else make cluster-up and submit again"
        ) from error
    except KeyboardInterrupt:
        print(f"\n{job_id} goes on; `make logs` follows it again, `make stop` ends it")
        return 130
    print(f"{job_id}: {info.status}" + (f" ({info.message})" if info.message else ""))
    return 0 if info.status == "SUCCEEDED" else 1


def _missing(inventory: Inventory, addresses: list[str], seconds: float) -> str:
    text = f"{len(addresses)} of {inventory.size} nodes are up after {seconds:.0f} s"
    if missing := absent(inventory.hosts, addresses):
        return (
            f"{text}; missing: {', '.join(missing)}. Why is told in monitor.log and monitor.out of the head "
            f"({inventory.hosts[0]}), in /tmp/ray/session_latest/logs"
        )
    logs = f"; their logs are in {inventory.folder}" if inventory.backend == "local" else ""
    return f"{text}: {', '.join(addresses) or 'none'}{logs}"


if __name__ == "__main__":
    sys.exit(main())
