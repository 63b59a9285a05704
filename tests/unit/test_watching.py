"""The run's numbers as gauges, the board that shows them, and the command's messages."""

import functools
import json
import math
import re
import socket
import time
from pathlib import Path

import pytest
from ray.util.metrics import Gauge

from dsdr_verl.scoring.service import ScoringActor
from dsdr_verl.watching import __main__ as command
from dsdr_verl.watching import servers
from dsdr_verl.watching.board import FILE, ROWS, board, board_json
from dsdr_verl.watching.gauges import TABLE, TrainingGauges, readings

METRICS_PAGE = Path(__file__).parents[2] / "docs/metrics.md"


def documented_keys() -> list[str]:
    """The step's keys of the tables in docs/metrics.md: "`a/b`, `/c`" is a/b and a/c; `a/*` is all of a/."""
    keys = []
    for line in METRICS_PAGE.read_text().split("## Validation")[0].splitlines():
        if line.startswith("| `") and not line.startswith("| `dsdr_scoring"):
            names = re.findall(r"`([^`]+)`", line.split("|")[1])
            folder = names[0].rsplit("/", 1)[0]
            for name in names:
                keys.append(name if name == names[0] else f"{folder}/{name.lstrip('/')}")
    return [key.replace("*", "mean") for key in keys]


def test_the_page_of_metrics_is_read():
    assert {"dsdr/pass_rate", "dsdr/semantic/incorrect", "dsdr/groups/all_wrong", "dsdr/verdict/timeout",
            "critic/score/mean", "timing_s/dsdr"} <= set(documented_keys())  # fmt: skip


@pytest.mark.parametrize(
    "key", [*documented_keys(), "val-core/a/b/acc/pass@4", "training/rollout_probs_diff_max", "timing_s/update_actor"]
)
def test_every_documented_metric_has_a_gauge(key):
    (reading,) = readings({key: 0.25})
    assert reading.value == 0.25


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"dsdr/pass_rate": 1}, [("dsdr_train_pass_rate", {}, 1.0)]),
        ({"timing_s/gen": 2.5}, [("dsdr_train_stage_seconds", {"stage": "gen"}, 2.5)]),
        ({"timing_per_token_ms/gen": 4.0}, [("dsdr_train_rollout_tokens_per_second", {}, 250.0)]),
        ({"timing_per_token_ms/gen": 0.0}, []),
        ({"val-core/dsdr/arithmetic/acc/pass@2": 0.5},
         [("dsdr_train_validation", {"source": "dsdr/arithmetic", "measure": "pass@2"}, 0.5)]),
        ({"critic/score/mean": 0.5, "critic/score/max": 1.0},
         [("dsdr_train_reward", {}, 0.5), ("dsdr_train_reward_range", {"reward": "score", "of": "max"}, 1.0)]),
        ({"dsdr/groups/count": 4, "dsdr/groups/mixed": 0.5},
         [("dsdr_train_groups", {}, 4.0), ("dsdr_train_group_share", {"answers": "mixed"}, 0.5)]),
        ({"actor/entropy": "high", "actor/grad_norm": None, "val-core": 1, "unheard/of": 2}, []),
    ],
)  # fmt: skip
def test_readings(metrics, expected):
    assert [tuple(reading) for reading in readings(metrics)] == expected


def test_gauge_names_are_unique():
    assert len({row.gauge for row in TABLE}) == len(TABLE)


@pytest.fixture
def recorded(monkeypatch):
    calls = []
    monkeypatch.setattr(Gauge, "set", lambda self, value, tags=None: calls.append((self.info, value, tags)))
    return calls


def test_gauges_keep_their_values_alive(recorded, monkeypatch):
    monkeypatch.setattr("dsdr_verl.watching.gauges.REPEAT_S", 0.05)
    gauges = TrainingGauges("arm-1")
    gauges.set({"dsdr/pass_rate": 0.5, "timing_s/gen": 1.0})
    gauges.set({"dsdr/pass_rate": 0.75})
    recorded.clear()
    deadline = time.monotonic() + 5
    while len(recorded) < 4:
        assert time.monotonic() < deadline, "nothing was repeated"
        time.sleep(0.01)
    shown = {info["name"]: (value, tags) for info, value, tags in recorded}
    assert shown == {"dsdr_train_pass_rate": (0.75, {}), "dsdr_train_stage_seconds": (1.0, {"stage": "gen"})}
    assert {info["default_tags"]["run"] for info, _, _ in recorded} == {"arm-1"}


def test_a_broken_gauge_is_said_once_and_never_raised(monkeypatch, caplog):
    def broken(self, value, tags=None):
        raise RuntimeError("no metrics today")

    monkeypatch.setattr(Gauge, "set", broken)
    gauges = TrainingGauges("r")
    gauges.set({"dsdr/pass_rate": 0.5})
    gauges.set({"dsdr/pass_rate": 0.5})
    gauges.set(None)
    assert [record.getMessage() for record in caplog.records] == ["the run's numbers do not reach Ray's metrics"]


def test_gauges_take_what_a_real_gauge_takes():
    """Without a Ray the values go nowhere; types and tags are checked all the same."""
    gauges = TrainingGauges("r")
    gauges.set({key: 0.5 for key in documented_keys()} | {"actor/entropy": math.nan})
    assert not gauges._warned


def test_gauges_cost_next_to_nothing():
    gauges = TrainingGauges("r")
    metrics = {f"timing_s/stage{i}": float(i) for i in range(150)}
    gauges.set(metrics)
    start = time.perf_counter()
    for _ in range(10):
        gauges.set(metrics)
    assert (time.perf_counter() - start) / 10 < 0.05


# ------------------------------------------------------------------------------------------------ the board


def test_board_file_is_in_step():
    assert FILE.read_text() == board_json(), "run: python -m dsdr_verl.watching.board"


def test_board_has_a_place_for_every_panel():
    panels = json.loads(FILE.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = set()
    for panel in panels:
        place = panel["gridPos"]
        mine = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & mine, panel["title"]
        assert max(x for x, _ in mine) < 24
        cells |= mine
        for target in panel.get("targets", []):
            assert target["expr"]
            assert target["legendFormat"]


def exported() -> dict[str, set[str]]:
    """Every metric that the board may use, and the labels that it has of its own."""
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    ours = {f"ray_{row.gauge}": {"run", *row.tags} for row in TABLE}
    service = {"ray_dsdr_scoring_seconds_bucket": {"le", "part"}, "ray_dsdr_scoring_in_flight": {"part"},
               "ray_dsdr_scoring_verdicts_total": {"verdict"}, "ray_dsdr_scoring_workers_replaced": set()}  # fmt: skip
    rays = {f"ray_{name}": {"ip", "instance", "Component", "GpuIndex"} for name in METRICS_GAUGES}
    return ours | service | rays


@pytest.mark.parametrize("panel", [panel for row in ROWS.values() for panel in row], ids=lambda panel: panel.title)
def test_every_query_names_what_is_exported(panel):
    metrics = exported()
    for expression, legend in panel.series:
        names = re.findall(r"ray_\w+", expression)
        assert names
        for name in names:
            assert name in metrics, expression
        labels = set().union(*(metrics[name] for name in names))
        made = set(re.findall(r'label_replace\([^"]+"(\w+)"', re.sub(r"\{.*?\}", "", expression)))
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels | made
        assert set(re.findall(r"[{,]\s*(\w+)[!=]", expression)) <= labels


def test_the_scoring_service_exports_what_the_board_shows():
    names = set(ScoringActor.__init__.__code__.co_consts)
    for name in ("dsdr_scoring_verdicts", "dsdr_scoring_seconds", "dsdr_scoring_in_flight",
                 "dsdr_scoring_workers_replaced"):  # fmt: skip
        assert name in names


def test_board_asks_the_data_source_and_the_runs_of_its_variables():
    variables = {variable["name"]: variable for variable in board()["templating"]["list"]}
    assert set(variables) == {"datasource", "run"}
    assert "ray_dsdr_train_step" in variables["run"]["definition"]


# ------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def metrics_folder(tmp_path) -> Path:
    """What Ray writes, by Ray's own templates."""
    from ray.dashboard.modules.metrics import templates

    for folder in ("prometheus", "grafana/dashboards", "grafana/provisioning/dashboards",
                   "grafana/provisioning/datasources"):  # fmt: skip
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "grafana/provisioning/dashboards/default.yml").write_text(
        templates.DASHBOARD_PROVISIONING_TEMPLATE.format(dashboard_output_folder=tmp_path / "grafana/dashboards")
    )
    (tmp_path / "grafana/provisioning/datasources/default.yml").write_text(
        templates.GRAFANA_DATASOURCE_TEMPLATE("Prometheus", "http://localhost:9090", {}, {})
    )
    return tmp_path


def install(monkeypatch, folder: Path, *names: str) -> None:
    """Programs of these names on PATH, and no others."""
    folder.mkdir()
    for name in names:
        (folder / name).write_text("#!/bin/sh\nexec sleep 60\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_prometheus_gets_rays_file_and_our_address(monkeypatch, metrics_folder):
    install(monkeypatch, metrics_folder / "bin", "prometheus")
    command_line, env = servers.prometheus(metrics_folder, "127.0.0.1", 9191)
    assert f"--config.file={metrics_folder}/prometheus/prometheus.yml" in command_line
    assert "--web.listen-address=127.0.0.1:9191" in command_line
    assert not env
    pages = metrics_folder / "prometheus/pages"
    assert f"--web.user-assets={pages}" in command_line
    assert json.loads((pages / "board.json").read_text()) == board()


@pytest.mark.parametrize("unit", sorted({panel.unit for row in ROWS.values() for panel in row}))
def test_the_page_without_grafana_can_show_every_unit(unit):
    assert re.search(rf"\b{unit}(:|,)", FILE.with_name("board.html").read_text())


@pytest.mark.parametrize(("binary", "start"), [("grafana", ["grafana", "server"]), ("grafana-server", [])])
def test_grafana_gets_rays_files_and_our_board(monkeypatch, metrics_folder, binary, start):
    install(monkeypatch, metrics_folder / "bin", binary)
    monkeypatch.setenv("GF_LOG_LEVEL", "debug")
    command_line, env = servers.grafana(metrics_folder, "127.0.0.1", 3001)
    assert command_line[0].endswith(binary)
    assert command_line[1] == (start[1] if start else "--homepath")
    assert command_line[-2:] == ["--config", f"{metrics_folder}/grafana/grafana.ini"]
    assert env["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert env["GF_SERVER_HTTP_PORT"] == "3001"
    assert "GF_LOG_LEVEL" not in env, "what the user has set stays"
    assert json.loads((metrics_folder / "grafana/dashboards/dsdr_grafana_dashboard.json").read_text()) == board()


def test_grafana_reads_the_data_where_ray_says(metrics_folder):
    assert servers.prometheus_expected(metrics_folder) == "http://localhost:9090"


def watch(monkeypatch, metrics_folder, *args) -> int:
    monkeypatch.setattr(command, "find_ray", lambda _: command.RunningRay("http://127.0.0.1:8265", metrics_folder))
    monkeypatch.setattr(servers, "run", lambda found: 0)
    return command.main(list(args))


def test_what_is_not_installed_is_said_with_a_way_to_get_it(monkeypatch, metrics_folder, capsys):
    install(monkeypatch, metrics_folder / "bin")
    assert watch(monkeypatch, metrics_folder) == 1
    out = capsys.readouterr().out
    assert "http://127.0.0.1:8265" in out
    assert "Prometheus not installed: apt-get install prometheus" in out
    assert "Grafana    not installed: from Grafana's own repository" in out


def test_other_ports_and_addresses_come_with_their_consequence(monkeypatch, metrics_folder, capsys):
    install(monkeypatch, metrics_folder / "bin", "prometheus", "grafana")
    assert watch(monkeypatch, metrics_folder, "--prometheus-port", "19093", "--grafana-port", "13003",
                 "--bind", "0.0.0.0") == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "RAY_PROMETHEUS_HOST=http://0.0.0.0:19093" in out
    assert "Anybody who reaches 0.0.0.0" in out


def test_a_taken_port_is_named_with_its_option(monkeypatch, metrics_folder, capsys):
    install(monkeypatch, metrics_folder / "bin", "prometheus")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert watch(monkeypatch, metrics_folder, "--prometheus-port", str(port)) == 2
    assert f"127.0.0.1:{port} (Address already in use): choose with --prometheus-port" in capsys.readouterr().err


def test_one_server_that_ends_takes_the_other_with_it(tmp_path):
    forever = servers.Server(["sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60"], {})
    brief = servers.Server(["sh", "-c", f"while [ ! -s {tmp_path}/pid ]; do sleep 0.05; done; exit $CODE"],
                           {"CODE": "7"})  # fmt: skip
    assert servers.run([forever, brief]) == 7
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray answers at 127.0.0.1:1 (Connection refused)"),
        ("http://127.0.0.1:8265", "is no address of a Ray: that is host:port"),
        ("head", "is no address of a Ray"),
    ],
)
def test_a_wrong_address_is_an_error_at_once(monkeypatch, capsys, address, message):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert command.main([]) == 2
    assert message in capsys.readouterr().err


def test_no_ray_is_an_error_that_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    # a Ray of somebody else on this machine does not count here
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", functools.cache(lambda: set()))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert command.main([]) == 2
    assert "no Ray answers on this machine. Start a run or a cluster first" in capsys.readouterr().err
