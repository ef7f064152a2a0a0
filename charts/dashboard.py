"""The Grafana dashboard, made of the metrics' own table: a panel cannot show what the controller does not serve.

Grafana's JSON model: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from controller import telemetry_metrics as m
from controller.telemetry_metrics import Metric

Unit = Literal["short", "s", "reqps", "percentunit", "bytes", "dateTimeFromNow"]
Json = dict[str, Any]

_SOURCE = {"type": "prometheus", "uid": "${source}"}
_WHERE = 'namespace=~"$namespace"'
_QUEUE = 'queue=~"$queue"'
_COLUMNS, _HEIGHT = 24, 8


@dataclass(frozen=True)
class Query:
    """One line, or a family of lines, of a panel."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """What is shown together. `width` of 24 columns."""

    title: str
    about: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    kind: Literal["timeseries", "stat"] = "timeseries"
    width: int = 8
    stacked: bool = False
    height: int = _HEIGHT


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


def _series(metric: Metric, *conditions: str, suffix: str = "") -> str:
    queue = (_QUEUE,) if "queue" in metric.labels else ()
    return f"{metric.name}{suffix}{{{', '.join((_WHERE, *queue, *conditions))}}}"


def _sum(metric: Metric, *by: str, where: Sequence[str] = ()) -> Query:
    """A gauge now: only the leader has it, and for a moment two may."""
    labels = ", ".join(by)
    inner = f"max without (pod, instance) ({_series(metric, *where)})"
    return Query(f"sum by ({labels}) ({inner})" if by else f"sum({inner})", " ".join(f"{{{{{one}}}}}" for one in by))


def _increase(metric: Metric, *by: str, where: Sequence[str] = ()) -> Query:
    expression = f"sum by ({', '.join(by)}) (increase({_series(metric, *where)}[$__rate_interval]))"
    return Query(expression, " ".join(f"{{{{{one}}}}}" for one in by))


def _rate(metric: Metric, *by: str) -> Query:
    expression = f"sum by ({', '.join(by)}) (rate({_series(metric)}[$__rate_interval]))"
    return Query(expression, " ".join(f"{{{{{one}}}}}" for one in by))


def _quantile(metric: Metric, part: float, *by: str) -> Query:
    inner = f"sum by ({', '.join((*by, 'le'))}) (rate({_series(metric, suffix='_bucket')}[$__rate_interval]))"
    legend = " ".join((f"p{part * 100:.0f}", *(f"{{{{{one}}}}}" for one in by)))
    return Query(f"histogram_quantile({part}, {inner})", legend)


def _stat(title: str, about: str, query: Query, unit: Unit = "short") -> Panel:
    return Panel(title, about, (query,), unit, "stat", width=4, height=4)


ROWS = (
    Row("Now", (
        _stat("Leader", m.LEADER.about, Query(f"max({_series(m.LEADER)})", "leads")),
        _stat("Last successful round", m.LAST_SUCCESS.about,
              Query(f"max({_series(m.LAST_SUCCESS)}) * 1000", ""), "dateTimeFromNow"),
        _stat("Tasks that wait", m.QUEUE_ENTRIES.about, _sum(m.QUEUE_ENTRIES, where=('state=~"waiting|blocked"',))),
        _stat("Running Jobs", m.JOBS.about, _sum(m.JOBS, where=('state="running"',))),
        _stat("Pods that do not start", m.JOBS_WAITING.about, _sum(m.JOBS_WAITING)),
        _stat("Places free", m.PLACES_FREE.about, Query(f"max({_series(m.PLACES_FREE)})", "")),
    )),
    Row("Queues", (
        Panel("Entries by queue", m.QUEUE_ENTRIES.about, (_sum(m.QUEUE_ENTRIES, "queue", "state"),), stacked=True),
        Panel("Why entries get no Job", m.QUEUE_WAITING.about,
              (_sum(m.QUEUE_WAITING, "queue", "reason"),), stacked=True),
        Panel("Oldest entry without a Job", m.QUEUE_OLDEST.about, (
            Query(f"max by (queue) ({_series(m.QUEUE_OLDEST)})", "{{queue}}"),), "s"),
    )),
    Row("Jobs", (
        Panel("Jobs by state", m.JOBS.about,
              (_sum(m.JOBS, "state", where=('state=~"pending|running|stopping"',)),), stacked=True),
        Panel("Why pods do not start", m.JOBS_WAITING.about, (_sum(m.JOBS_WAITING, "queue", "reason"),), stacked=True),
        Panel("How Jobs ended", m.JOBS_ENDED.about, (_increase(m.JOBS_ENDED, "outcome"),), stacked=True),
        Panel("Why Jobs failed", m.JOBS_ENDED.about,
              (_increase(m.JOBS_ENDED, "queue", "reason", where=('outcome="failed"',)),), stacked=True),
        Panel("Pods that the infrastructure took", m.PODS_LOST.about,
              (_increase(m.PODS_LOST, "queue", "reason"),), stacked=True),
        Panel("Tasks in doubt, Jobs to settle", f"{m.TASKS_IN_DOUBT.about} {m.JOBS_UNSETTLED.about}", (
            Query(f"max({_series(m.TASKS_IN_DOUBT)})", "in doubt"),
            Query(f"max({_series(m.JOBS_UNSETTLED)})", "to settle"))),
    )),
    Row("Start-up", (
        Panel("Enqueued to Job", m.DISPATCH.about, (_quantile(m.DISPATCH, 0.5), _quantile(m.DISPATCH, 0.95)), "s"),
        Panel("Enqueued to claim", m.CLAIM.about, (_quantile(m.CLAIM, 0.5), _quantile(m.CLAIM, 0.95)), "s"),
        Panel("Steps of a start, median", m.STARTUP.about, (_quantile(m.STARTUP, 0.5, "phase"),), "s"),
    )),
    Row("Controller", (
        Panel("Rounds", m.ROUND.about, (_quantile(m.ROUND, 0.5), _quantile(m.ROUND, 0.95)), "s"),
        Panel("ClearML requests", m.CLEARML_REQUESTS.about, (_rate(m.CLEARML_REQUESTS, "status"),), "reqps"),
        Panel("ClearML latency", m.CLEARML_SECONDS.about, (_quantile(m.CLEARML_SECONDS, 0.95, "call"),), "s"),
        Panel("Kubernetes requests", m.KUBERNETES_REQUESTS.about, (_rate(m.KUBERNETES_REQUESTS, "status"),), "reqps"),
        Panel("Kubernetes latency", m.KUBERNETES_SECONDS.about,
              (_quantile(m.KUBERNETES_SECONDS, 0.95, "verb", "resource"),), "s"),
        Panel("What failed", f"{m.ROUND_FAILURES.about} {m.ACTIONS.about}", (
            _increase(m.ROUND_FAILURES, "error"),
            _increase(m.ACTIONS, "action", "result", where=('result!="done"',)))),
    )),
)  # fmt: skip


def dashboard() -> Json:
    """The whole, as Grafana imports it."""
    panels: list[Json] = []
    top = 0
    for row in ROWS:
        panels.append({
            "id": len(panels) + 1, "type": "row", "title": row.title, "collapsed": False, "panels": [],
            "gridPos": {"x": 0, "y": top, "w": _COLUMNS, "h": 1},
        })  # fmt: skip
        top += 1
        left = 0
        for panel in row.panels:
            if left + panel.width > _COLUMNS:
                left, top = 0, top + panel.height
            panels.append(_panel(panel, len(panels) + 1, left, top))
            left += panel.width
        top += row.panels[-1].height
    return {
        "uid": "podstrap", "title": "Podstrap", "tags": ["podstrap", "clearml"], "schemaVersion": 39, "version": 1,
        "editable": True, "timezone": "", "refresh": "30s", "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()}, "panels": panels, "annotations": {"list": []}, "links": [],
    }  # fmt: skip


def dashboard_json() -> str:
    """Of charts/podstrap/files/dashboard.json."""
    return json.dumps(dashboard(), indent=1) + "\n"


def queries() -> list[str]:
    """Every PromQL expression of it."""
    asked = [query.expression for row in ROWS for panel in row.panels for query in panel.queries]
    return asked + [one["query"]["query"].removeprefix("label_values(").rpartition(",")[0] for one in _labels()]


def _variables() -> list[Json]:
    source = {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0}
    return [source, *_labels()]


def _labels() -> list[Json]:
    asked = {"namespace": m.BUILD.name, "queue": f"{m.QUEUE_PAUSED.name}{{{_WHERE}}}"}
    return [
        {
            "name": name, "label": name.capitalize(), "type": "query", "datasource": _SOURCE, "refresh": 2, "sort": 1,
            "query": {"query": f"label_values({metric}, {name})", "refId": name}, "multi": True, "includeAll": True,
            "allValue": ".*", "current": {"text": "All", "value": "$__all"}, "hide": 0,
        }
        for name, metric in asked.items()
    ]  # fmt: skip


def _panel(panel: Panel, number: int, left: int, top: int) -> Json:
    custom = {"fillOpacity": 20 if panel.stacked else 0, "stacking": {"mode": "normal" if panel.stacked else "none"}}
    defaults: Json = {"unit": panel.unit, "min": 0}
    if panel.kind == "timeseries":
        defaults["custom"] = custom
        options: Json = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    else:
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none", "graphMode": "none"}
    return {
        "id": number, "type": panel.kind, "title": panel.title, "description": panel.about, "datasource": _SOURCE,
        "gridPos": {"x": left, "y": top, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": one.expression, "legendFormat": one.legend}
            for index, one in enumerate(panel.queries)
        ],
    }  # fmt: skip
