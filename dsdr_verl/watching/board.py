"""The Grafana board, from a table of panels. `python -m dsdr_verl.watching.board` writes board.json anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

UID = "dsdr"
FILE = Path(__file__).with_name("board.json")
WIDTH, HEIGHT, COLUMNS = 8, 8, 3  # of a panel, in Grafana's 24 columns


class Panel(NamedTuple):
    """`series`: PromQL and the name of each line it gives. `unit`: Grafana's name of it."""

    title: str
    unit: str
    description: str
    series: tuple[tuple[str, str], ...]
    stacked: bool = False


def _train(gauge: str, name: str, labels: str = "") -> tuple[str, str]:
    return f'ray_dsdr_train_{gauge}{{run=~"$run"{labels}}}', f"{name} {{{{run}}}}"


def _latency(quantile: float) -> tuple[str, str]:
    buckets = "sum by (le, part) (rate(ray_dsdr_scoring_seconds_bucket[5m]))"
    return f"histogram_quantile({quantile}, {buckets})", f"{{{{part}}}} p{quantile * 100:.0f}"


# an actor's process is called ray::Class.method while it is at work, and ray::Class in between
_PROCESS = (
    'label_replace(ray_component_rss_bytes{Component=~"ray::.+"}, "process", "$1", "Component", "ray::([^.]+).*")'
)

ROWS: dict[str, tuple[Panel, ...]] = {
    "Learning": (
        Panel("Reward", "none", "The task's reward, and the shaped one (Eq. 10).",
              (_train("reward", "task"), _train("shaped_reward", "shaped"))),
        Panel("Pass rate", "percentunit", "Share of rollouts with a correct answer; share of responses cut short.",
              (_train("pass_rate", "pass"), _train("truncated", "truncated"))),
        Panel("Validation", "percentunit", "pass@k and mean@n of the latest validation.",
              (_train("validation", "{{source}} {{measure}}"),)),
        Panel("Entropy", "none", "Token entropy under the old policy, in nats. Towards 0 is collapse.",
              (_train("entropy", "entropy"), _train("local_term", "J_local"))),
        Panel("Diversity", "none", "Mean D_emb (Eq. 6), D_eq (Eq. 8) and clipped mean of both (Eqs. 9-10).",
              (_train("semantic_diversity", "semantic {{answers}}"), _train("formula_diversity", "formula {{answers}}"),
               _train("diversity", "both {{answers}}"))),
        Panel("Coupling", "none", "w of Eq. 11: how many correct rollouts carry the local term, and the largest w.",
              (_train("effective_rollouts", "w_eff"), _train("largest_weight", "largest w"),
               _train("coupling_entropy", "entropy of w"))),
        Panel("Groups", "percentunit", "GRPO learns from mixed groups only, DSDR from solved ones too.",
              (_train("group_share", "{{answers}}"),), stacked=True),
        Panel("Policy", "none", "Norm of the gradient, KL to the reference and to the policy that sampled.",
              (_train("grad_norm", "|grad|"), _train("reference_kl", "KL reference"), _train("policy_kl", "KL old"))),
        Panel("Response length", "none", "Tokens of a response.",
              (_train("response_tokens", "{{of}}", ', of=~"mean|max|min"'),)),
    ),
    "Speed": (
        Panel("Rollout throughput", "none", "Tokens a second: responses while generating; all of a step, by device.",
              (_train("rollout_tokens_per_second", "rollout"), _train("tokens_per_second", "whole step"))),
        Panel("Stage times", "s", "Seconds of a step by stage. adv holds dsdr.",
              (_train("stage_seconds", "{{stage}}", ', stage!~"step|dsdr"'),), stacked=True),
        Panel("Step time", "s", "Seconds of a step, and what DSDR adds to its critical path.",
              (_train("stage_seconds", "{{stage}}", ', stage=~"step|dsdr"'),)),
    ),
    "Scoring": (
        Panel("Scoring latency", "s", "Seconds of a rollout in each part of the service, waiting included.",
              (_latency(0.5), _latency(0.95))),
        Panel("Scoring queue", "none", "Rollouts in each part at once: the most of a minute.",
              (("sum by (part) (max_over_time(ray_dsdr_scoring_in_flight[1m]))", "{{part}}"),)),
        Panel("Verdicts", "none", "Rollouts by verdict in five minutes.",
              (("sum by (verdict) (increase(ray_dsdr_scoring_verdicts_total[5m]))", "{{verdict}}"),), stacked=True),
        Panel("Verifier workers replaced", "none", "Killed at a limit or found dead, so far.",
              (("sum(last_over_time(ray_dsdr_scoring_workers_replaced[10m]))", "replaced"),)),
    ),
    "Machines": (
        Panel("Memory by node", "percentunit", "Share in use. Ray kills workers at 0.95.",
              (("ray_node_mem_used / ray_node_mem_total", "{{ip}}"),)),
        Panel("Memory by process", "bytes", "Resident memory of workers by class, shared pages counted in each.",
              ((f"sum by (process) ({_PROCESS})", "{{process}}"),), stacked=True),
        Panel("Training memory", "gbytes", "What the training processes report.",
              (_train("memory_gb", "{{kind}}"),)),
        Panel("CPU", "percent", "Utilisation of each node.", (("ray_node_cpu_utilization", "{{ip}}"),)),
        Panel("GPU", "percent", "Utilisation of each GPU; empty without one.",
              (("ray_node_gpus_utilization", "{{ip}} {{GpuIndex}}"),)),
        Panel("GPU memory", "mbytes", "In use on each GPU; empty without one.",
              (("ray_node_gram_used", "{{ip}} {{GpuIndex}}"),)),
    ),
}  # fmt: skip


def board() -> dict[str, Any]:
    """The board as Grafana's dashboard model."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": y, "w": 24, "h": 1}
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "gridPos": place, "panels": []})
        for i, panel in enumerate(row):
            place = {"x": i % COLUMNS * WIDTH, "y": y + 1 + i // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT}
            panels.append(_panel(panel, len(panels) + 1, place))
        y += 1 + -(-len(row) // COLUMNS) * HEIGHT
    return {
        "uid": UID,
        "title": "DSDR",
        "tags": ["dsdr"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "graphTooltip": 1,
        "templating": {"list": [_data_source(), _runs()]},
        "panels": panels,
    }


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    custom = {"fillOpacity": 20, "stacking": {"mode": "normal", "group": "A"}} if panel.stacked else {"fillOpacity": 0}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "gridPos": place,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + i), "expr": expression, "legendFormat": legend}
            for i, (expression, legend) in enumerate(panel.series)
        ],
    }


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "refresh": 1, "hide": 2}


def _runs() -> dict[str, Any]:
    query = "label_values(ray_dsdr_train_step, run)"
    return {
        "name": "run",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "definition": query,
        "query": {"query": query, "refId": "runs"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def board_json() -> str:
    """The text of board.json."""
    return json.dumps(board(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(board_json())
