"""Scalars, read back: curves, raw points, latest values, and which metrics a task has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from standalone.events import UNKNOWN_WORKER, known_source, single, when
from standalone.plots import reported, series_of, wanted
from standalone.store import Document
from standalone.wire import Call, Refusal, endpoint

DEFAULT_SAMPLES = 6000
SINGLE_VALUE = -(2**31)
"""The iteration under which the SDK reports a single value: it is on no curve."""
_SCALARS = "training_stats_scalar"
_KINDS = ("log", _SCALARS, "training_stats_vector", "training_debug_image", "plot")


@endpoint("events.scalar_metrics_iter_histogram", required=("task",))
def _histogram(call: Call) -> Document:
    return _curves(call, known_source(call, call.text("task")))


@endpoint("events.multi_task_scalar_metrics_iter_histogram", required=("tasks",))
def _histograms(call: Call) -> Document:
    found: Document = {}
    for task in call.texts("tasks"):
        document = call.store.get("task", task) or call.store.get("model", task)
        for metric, variants in _curves(call, known_source(call, task)).items():
            for variant, curve in variants.items():
                name = document["name"] if document else task
                found.setdefault(metric, {}).setdefault(variant, {})[task] = {**curve, "name": name}
    return {"metrics": found}


def _curves(call: Call, task: str) -> Document:
    """metric -> variant -> {name, x, y}, thinned to `samples` points by means of equal runs."""
    key = call.text("key", "iter")
    column = "iter" if key == "iter" else "at"
    query = (
        f"SELECT metric, variant, {column}, value FROM scalar "  # noqa: S608 (the column is one of two)
        f"WHERE task=? AND iter>? AND value IS NOT NULL ORDER BY metric, variant, {column}, number"
    )
    series: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for metric, variant, x, value in call.store.sql.execute(query, (task, SINGLE_VALUE)):
        if wanted(call.data.get("metrics"), {"metric": metric, "variant": variant}):
            series.setdefault((metric, variant), []).append((x, value))
    found: Document = {}
    samples = max(1, call.number("samples", DEFAULT_SAMPLES) or DEFAULT_SAMPLES)
    for (metric, variant), points in series.items():
        xs, ys = _thinned(points, samples)
        shown: Sequence[Any] = [when(x) for x in xs] if key == "iso_time" else xs
        found.setdefault(metric, {})[variant] = {"name": variant, "x": list(shown), "y": ys}
    return found


def _thinned(points: list[tuple[int, float]], samples: int) -> tuple[list[int], list[float | None]]:
    if len(points) <= samples:
        return [x for x, _ in points], [single(y) for _, y in points]
    step = len(points) / samples
    runs = [points[int(n * step) : max(int(n * step) + 1, int((n + 1) * step))] for n in range(samples)]
    return (
        [sum(x for x, _ in run) // len(run) for run in runs],
        [sum(single(y) or 0.0 for _, y in run) / len(run) for run in runs],
    )


@endpoint("events.scalar_metrics_iter_raw", required=("task", "metric"))
def _raw(call: Call) -> Document:
    """Points as they were sent, in the order of iterations; the scroll id says how many were given."""
    task, metric = known_source(call, call.text("task")), call.data["metric"]
    key = call.text("key", "iter")
    size, start = max(1, call.number("batch_size", 10000)), _start(call)
    points = [row for row in _points(call, task, str(metric.get("metric"))) if wanted([metric], row)]
    points.sort(key=lambda row: row["iter"])
    page = points[start : start + size]
    variants: Document = {}
    for row in page:
        curve = variants.setdefault(row["variant"], {"y": [], key: []})
        curve["y"].append(row["value"])
        curve[key].append(when(row["timestamp"]) if key == "iso_time" else row.get(key, row["iter"]))
    total = len(points) if call.flag("count_total") else None
    return {"variants": variants, "returned": len(page), "total": total, "scroll_id": f"{start + size:032x}"}


@endpoint("events.get_scalar_metric_data", required=("task", "metric"))
def _get_scalar_metric_data(call: Call) -> Document:
    """One metric's points as they were sent, newest iteration first."""
    events = list(_points(call, known_source(call, call.text("task")), call.text("metric")))
    return {"events": events, "returned": len(events), "total": len(events), "scroll_id": None}


def _points(call: Call, task: str, metric: str | None = None) -> Iterator[Document]:
    query = (
        "SELECT metric, variant, iter, at, value, worker, received FROM scalar "
        "WHERE task=? AND (? IS NULL OR metric=?) ORDER BY iter DESC, number DESC"
    )
    for name, variant, iteration, at, value, worker, received in call.store.sql.execute(query, (task, metric, metric)):
        yield {
            "type": _SCALARS, "task": task, "worker": worker or UNKNOWN_WORKER, "timestamp": at, "metric": name,
            "variant": variant, "value": value, "iter": iteration, "model_event": False, "@timestamp": when(received),
        }  # fmt: skip


@endpoint("events.get_task_latest_scalar_values", required=("task",))
def _get_latest(call: Call) -> Document:
    task = known_source(call, call.text("task"))
    found: dict[str, dict[str, float | None]] = {}
    newest = 0
    query = "SELECT metric, variant, value, received FROM scalar WHERE task=? ORDER BY metric, variant, iter, number"
    for metric, variant, value, received in call.store.sql.execute(query, (task,)):
        newest = max(newest, received)
        found.setdefault(metric, {})[variant] = single(value)
    rows = [
        {
            "name": metric,
            "variants": [{"name": name, "last_value": y, "last_10_value": y} for name, y in variants.items()],
        }
        for metric, variants in found.items()
    ]
    document = call.store.get("task", task) or {}
    last, status = document.get("last_iteration", 0), document.get("status", "")
    return {"metrics": rows, "last_iter": last, "name": None, "status": status, "last_timestamp": float(newest)}


@endpoint("events.get_task_single_value_metrics", required=("tasks",))
def _get_single_values(call: Call) -> Document:
    """Tasks that have none are not named."""
    rows = []
    query = "SELECT metric, variant, value, at FROM scalar WHERE task=? AND iter=? ORDER BY metric, variant, number"
    for task in call.texts("tasks"):
        latest = {
            (metric, variant): {"metric": metric, "variant": variant, "value": value, "timestamp": at}
            for metric, variant, value, at in call.store.sql.execute(query, (known_source(call, task), SINGLE_VALUE))
        }
        if latest:
            name = (call.store.get("task", task) or {}).get("name", "")
            rows.append({"task": task, "task_name": name, "values": list(latest.values())})
    return {"tasks": rows}


@endpoint("events.get_scalar_metrics_and_variants", required=("task",))
def _get_scalar_metrics_and_variants(call: Call) -> Document:
    return {"metrics": _variants(call, known_source(call, call.text("task")), _SCALARS)}


@endpoint("events.get_task_metrics", required=("tasks", "event_type"))
def _get_task_metrics(call: Call) -> Document:
    kind = call.text("event_type")
    tasks = [known_source(call, task) for task in call.texts("tasks")]
    return {"metrics": [{"task": task, "metrics": sorted(_variants(call, task, kind))} for task in tasks]}


@endpoint("events.get_multi_task_metrics", required=("tasks",))
def _get_multi_task_metrics(call: Call) -> Document:
    kinds = [call.text("event_type")] if call.text("event_type") else _KINDS
    found: dict[str, set[str]] = {}
    for task in call.texts("tasks"):
        for kind in kinds:
            for metric, variants in _variants(call, known_source(call, task), kind).items():
                found.setdefault(metric, set()).update(variants)
    return {"metrics": [{"metric": metric, "variants": sorted(found[metric])} for metric in sorted(found)]}


def _variants(call: Call, task: str, kind: str) -> dict[str, list[str]]:
    """metric -> variants, of any kind of event."""
    if kind == "log":
        any_line = call.store.sql.execute("SELECT 1 FROM log WHERE task=? LIMIT 1", (task,)).fetchone()
        return {"": [""]} if any_line else {}
    if kind != _SCALARS:
        return series_of(call, task, kind)
    found: dict[str, list[str]] = {}
    query = "SELECT DISTINCT metric, variant FROM scalar WHERE task=? ORDER BY metric, variant"
    for metric, variant in call.store.sql.execute(query, (task,)):
        found.setdefault(metric, []).append(variant)
    return found


@endpoint("events.get_task_events", required=("task",))
def _get_task_events(call: Call) -> Document:
    """Scalars, plots, images of a task by iteration, a page at a time; the scroll id says how many were given."""
    task, kind = known_source(call, call.text("task")), call.text("event_type")
    size, start = max(1, call.number("batch_size", 500)), _start(call)
    found: list[Document] = []
    for one in [kind] if kind else _KINDS:
        found += _points(call, task) if one == _SCALARS else reported(call, [task], one, 1_000_000)
    found = [event for event in found if wanted(call.data.get("metrics"), event)]
    found.sort(key=lambda event: (event["iter"], event["timestamp"]), reverse=call.text("order") == "desc")
    page = found[start : start + size]
    return {"events": page, "returned": len(page), "total": len(found), "scroll_id": f"{start + size:032x}"}


def _start(call: Call) -> int:
    try:
        return int(call.text("scroll_id") or "0", 16)
    except ValueError:
        raise Refusal(400, 16, "Invalid value for fields (scroll_id)", scroll_id=call.text("scroll_id")) from None


@endpoint("projects.get_unique_metric_variants")
def _get_unique_metric_variants(call: Call) -> Document:
    projects = call.texts("project", "ids")
    found: dict[tuple[str, str], Document] = {}
    for task in call.store.find("task", project=projects or None):
        for key, variants in (task.get("last_metrics") or {}).items():
            for inner, facts in variants.items():
                found[key, inner] = {
                    "metric": facts["metric"],
                    "metric_hash": key,
                    "variant": facts["variant"],
                    "variant_hash": inner,
                }
    return {"metrics": list(found.values())}
