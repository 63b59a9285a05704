"""`python -m dsdr_verl.watching` (`make dashboard`): where to look, and Prometheus and Grafana until Ctrl-C."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import NamedTuple

from dsdr_verl.data.cache import cache_root
from dsdr_verl.ray_address import prepare_ray, silence
from dsdr_verl.signals import terminated_is_interrupted
from dsdr_verl.watching import servers
from dsdr_verl.watching.board import UID


class CannotWatch(RuntimeError):
    """The message says what is missing and what to do."""


class RunningRay(NamedTuple):
    dashboard: str
    metrics: Path  # of its session: where Ray has put the files of Prometheus and Grafana


def find_ray(address: str | None) -> RunningRay:
    """The Ray that runs at `address`, at RAY_ADDRESS, or on this machine.

    Raises:
        CannotWatch: there is none, it has no dashboard, or its head is another machine.
    """
    prepare_ray()
    import ray

    address = address or os.environ.get("RAY_ADDRESS")
    if address and (problem := silence(address)):
        raise CannotWatch(problem)
    try:
        info = ray.init(address or "auto", logging_level="ERROR", log_to_driver=False).address_info
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        where = f"at {address}" if address else "on this machine"
        raise CannotWatch(
            f"no Ray answers {where}. Start a run or a cluster first; one that is closed by a token needs "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH here too. "
            f"This user's tokens: {', '.join(tokens()) or 'none'}\n  ({str(error).strip().splitlines()[0]})"
        ) from error
    finally:
        ray.shutdown()
    metrics = Path(info["session_dir"]) / "metrics"
    if not info["webui_url"]:
        raise CannotWatch("this Ray has no dashboard: start it without ray_kwargs.ray_init.include_dashboard=false")
    if not (metrics / "prometheus/prometheus.yml").exists():
        raise CannotWatch(
            f"{metrics}/prometheus/prometheus.yml is not there. Ray writes it on its head node "
            f"({info['gcs_address'].rsplit(':', 1)[0]}): run this there"
        )
    return RunningRay(f"http://{info['webui_url']}", metrics)


def tokens() -> list[str]:
    """Files of this user's that may hold a cluster's token: Ray's own, and those of `make cluster-up`."""
    return [str(path) for path in (*Path.home().glob(".ray/*token"), *cache_root().glob("clusters/*/token"))]


def check_port(bind: str, port: int, option: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            raise CannotWatch(f"cannot listen at {bind}:{port} ({error.strerror}): choose with {option}") from error


def watch(args: argparse.Namespace) -> int:
    found = find_ray(args.address)
    prometheus = servers.prometheus(found.metrics, args.bind, args.prometheus_port)
    grafana = servers.grafana(found.metrics, args.bind, args.grafana_port)
    print(f"Ray        {found.dashboard}")
    if prometheus:
        check_port(args.bind, args.prometheus_port, "--prometheus-port")
        print(f"Prometheus http://{args.bind}:{args.prometheus_port}/user/board.html")
    else:
        print(f"Prometheus not installed: {servers.HOW_TO_GET['prometheus']}")
    if grafana:
        check_port(args.bind, args.grafana_port, "--grafana-port")
        print(f"Grafana    http://{args.bind}:{args.grafana_port}/d/{UID}")
        expected = servers.prometheus_expected(found.metrics)
        if not expected.endswith(f":{args.prometheus_port}"):
            print(
                f"           it will ask for data at {expected}, as Ray was told when it started:\n"
                f"           start Ray with RAY_PROMETHEUS_HOST=http://{args.bind}:{args.prometheus_port}"
            )
    else:
        print(f"Grafana    not installed: {servers.HOW_TO_GET['grafana']}")
    if not ipaddress.ip_address(args.bind).is_loopback:
        print(f"Anybody who reaches {args.bind} can read all of this: neither server asks for a password.")
    if not prometheus:
        return 1
    print("until Ctrl-C", flush=True)
    return servers.run([server for server in (prometheus, grafana) if server])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dsdr_verl.watching", description=__doc__)
    parser.add_argument("--address", help="of the Ray to watch (default: RAY_ADDRESS, or the one on this machine)")
    parser.add_argument("--prometheus-port", type=int, default=9090)
    parser.add_argument("--grafana-port", type=int, default=3000)
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen at (default: this machine only)")
    args = parser.parse_args(argv)
    terminated_is_interrupted()
    try:
        return watch(args)
    except CannotWatch as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped")
        return 0


if __name__ == "__main__":
    sys.exit(main())
