"""A run that is watched: Ray's dashboard, Prometheus on Ray's files, and the board's queries on what it holds."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from dsdr_verl.watching.board import ROWS, board
from tests.browser import WHY_NOT, colourful, cut_off, opened
from tests.e2e.processes import eventually
from tests.e2e.runs import TINY, Started, log_tail

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus here: apt-get install prometheus"),
]

# Long enough to be watched; the test stops it.
ENDLESS = ("trainer.total_training_steps=100000", "trainer.total_epochs=100000", "trainer.test_freq=10",
           "actor_rollout_ref.actor.use_kl_loss=true")  # fmt: skip


@pytest.fixture
def run(tmp_path):
    started = Started(tmp_path, *TINY, "+algorithm=dsdr", f"run_dir={tmp_path}", "trainer.experiment_name=watched",
                      *ENDLESS)  # fmt: skip
    yield started
    started.process.send_signal(signal.SIGINT)
    ended = started.wait(60)
    assert ended.returncode == 130, f"{ended.output}\n{log_tail(tmp_path)}"
    assert not ended.leftovers


@pytest.fixture
def watcher(run, tmp_path):
    """The command on this run, and where it says that things are."""
    run.wait_for("ready:", 200)
    arguments = [argument for process in run.processes() for argument in process.cmdline()]
    address = next(a.split("=", 1)[1] for a in arguments if a.startswith("--gcs-address="))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    said = tmp_path / "watching.txt"
    with open(said, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dsdr_verl.watching", "--address", address, "--prometheus-port", str(port)],
            stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"RAY_AUTH_MODE": "token"},
        )  # fmt: skip
    deadline = time.monotonic() + 300
    while "until Ctrl-C" not in said.read_text():
        assert process.poll() is None and time.monotonic() < deadline, said.read_text()
        time.sleep(0.3)
    while not answers(f"http://127.0.0.1:{port}/-/ready"):
        assert process.poll() is None and time.monotonic() < deadline, said.read_text()
        time.sleep(0.3)
    yield f"http://127.0.0.1:{port}", said
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0, said.read_text()
    assert said.read_text().endswith("stopped\n")
    assert not answers(f"http://127.0.0.1:{port}/-/ready"), "Prometheus outlives the command"


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


def ask(prometheus: str, query: str, **kwargs) -> list[dict]:
    kind = "query_range" if kwargs else "query"
    answer = requests.get(
        f"{prometheus}/api/v1/{kind}", params={"query": query.replace("$run", "watched")} | kwargs, timeout=10
    ).json()
    assert answer["status"] == "success", answer
    return answer["data"]["result"]


def empty_panels(prometheus: str) -> dict[str, list[str]]:
    """Titles, and their queries without an answer."""
    found = {
        panel.title: [query for query, _ in panel.series if not ask(prometheus, query)]
        for row in ROWS.values()
        for panel in row
    }
    return {title: queries for title, queries in found.items() if queries}


def logged_rewards(path: Path) -> set[float]:
    rows = map(json.loads, path.read_text().splitlines())
    return {row["metrics"]["critic/score/mean"] for row in rows if row["kind"] == "step"}


def see_board(url: str, empty: set[str], folder: Path) -> None:
    """Every panel draws something but those, and says the newest value; nothing of it is cut off."""
    titles = [panel.title for row in ROWS.values() for panel in row]
    with opened(url, viewport={"width": 1440, "height": 900}) as page:
        panels = page.locator("section")
        page.wait_for_function(
            f"""() => {{
              const panels = [...document.querySelectorAll("section")]
              return panels.length === {len(titles)} && panels.every((panel) => panel.querySelector("span"))
            }}"""
        )
        assert panels.locator("h3").all_inner_texts() == titles
        assert {titles[i] for i in range(len(titles)) if "no data" in panels.nth(i).inner_text()} == empty
        blank = {title for i, title in enumerate(titles) if colourful(panels.nth(i).screenshot()) < 50}
        assert blank == empty
        assert not cut_off(page)
        page.screenshot(path=folder / "board.png", full_page=True)


@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
def test_every_panel_shows_the_run(run, watcher, tmp_path: Path):
    prometheus, said = watcher
    expected = set() if shutil.which("nvidia-smi") else {"GPU", "GPU memory"}
    started = time.time()
    while set(empty := empty_panels(prometheus)) != expected:
        assert time.time() - started < 150, f"{empty}\n{said.read_text()}\n{log_tail(tmp_path)}"
        time.sleep(2)

    see_board(f"{prometheus}/user/board.html?minutes=3", expected, tmp_path)

    # what Prometheus holds are the numbers that the run has logged
    (series,) = ask(prometheus, "ray_dsdr_train_reward", start=started, end=time.time(), step=2)
    assert series["metric"]["run"] == "watched"
    held = {float(value) for _, value in series["values"]}
    # which are written by another process, a moment later
    eventually(lambda: held <= logged_rewards(tmp_path / "metrics.jsonl"), seconds=30)

    assert requests.get(f"{prometheus}/user/board.json", timeout=5).json() == board()
    assert "board.json" in requests.get(f"{prometheus}/user/board.html", timeout=5).text
    dashboard = said.read_text().split()[1]
    assert requests.get(dashboard, timeout=5).status_code == 200
    assert requests.get(f"{dashboard}/api/version", timeout=5).status_code == 401, "tokens are on by default"
