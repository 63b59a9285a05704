"""Prometheus and Grafana on the files that Ray writes for them: what to run, and until when."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from dsdr_verl.watching.board import board_json

HOW_TO_GET = {
    "prometheus": "apt-get install prometheus (and stop its own service: systemctl disable --now prometheus), or a\n"
    "           release from https://prometheus.io/download on PATH",
    "grafana": "from Grafana's own repository, as Debian has none:\n"
    "           https://grafana.com/docs/grafana/latest/setup-grafana/installation/",
}


class Server(NamedTuple):
    """A command, and what it adds to this process's environment."""

    command: list[str]
    env: dict[str, str]


def prometheus(metrics: Path, bind: str, port: int) -> Server | None:
    """Ray's prometheus.yml in Prometheus; None if it is not installed.

    Args:
        metrics: the folder `metrics` of a Ray session. Samples are kept there too.
    """
    if not (binary := shutil.which("prometheus")):
        return None
    folder = metrics / "prometheus"
    command = [
        binary,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={bind}:{port}",
        f"--web.user-assets={_pages(folder)}",
        "--log.level=warn",
    ]
    return Server(command, {})


def grafana(metrics: Path, bind: str, port: int) -> Server | None:
    """Ray's grafana.ini in Grafana, our board among Ray's; None if it is not installed."""
    binary = shutil.which("grafana") or shutil.which("grafana-server")
    if not binary:
        return None
    folder = metrics / "grafana"
    (boards_folder(metrics) / "dsdr_grafana_dashboard.json").write_text(board_json())
    unpacked = Path(binary).resolve().parent.parent  # of a release; a package's binary is in /usr/sbin
    home = unpacked if (unpacked / "conf/defaults.ini").exists() else Path("/usr/share/grafana")
    command = [binary] if binary.endswith("grafana-server") else [binary, "server"]
    env = {
        "GF_SERVER_HTTP_ADDR": bind,
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_PATHS_DATA": str(folder / "data"),
        "GF_PATHS_LOGS": str(folder / "logs"),
        "GF_PATHS_PROVISIONING": str(folder / "provisioning"),
        "GF_LOG_LEVEL": "warn",
        # Ray's grafana.ini lets anybody look; nobody needs the account whose password everybody knows
        "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true",
    }
    env = {name: value for name, value in env.items() if name not in os.environ}
    return Server([*command, "--homepath", str(home), "--config", str(folder / "grafana.ini")], env)


def boards_folder(metrics: Path) -> Path:
    """Where Grafana looks for boards, by Ray's provisioning (RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR moves it)."""
    provisioning = yaml.safe_load((metrics / "grafana/provisioning/dashboards/default.yml").read_text())
    return Path(provisioning["providers"][0]["options"]["path"])


def prometheus_expected(metrics: Path) -> str:
    """Where Ray told Grafana that Prometheus is: RAY_PROMETHEUS_HOST of when Ray was started."""
    sources = yaml.safe_load((metrics / "grafana/provisioning/datasources/default.yml").read_text())
    return sources["datasources"][0]["url"]


def _pages(folder: Path) -> Path:
    """A folder for Prometheus to serve at /user: `board.html`, and the board that it draws."""
    pages = folder / "pages"
    pages.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("board.html"), pages)
    (pages / "board.json").write_text(board_json())
    return pages


def run(servers: Sequence[Server]) -> int:
    """Run all until one ends, then end the others. Returns the code of the one that ended.

    Raises:
        KeyboardInterrupt: after all have ended.
    """
    running: list[subprocess.Popen] = []
    try:
        for server in servers:
            # a session of its own: Ctrl-C reaches this process, which then ends them in order
            running.append(subprocess.Popen(server.command, env=os.environ | server.env, start_new_session=True))
        while True:
            for process in running:
                if process.poll() is not None:
                    return process.returncode
            time.sleep(0.3)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
