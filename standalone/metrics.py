"""What was reported, read back: console pages, scalar curves, plots, images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

from standalone.events import single
from standalone.store import Document
from standalone.wire import Call, Refusal, endpoint

DEFAULT_SAMPLES = 6000
SINGLE_VALUE = -(2**31)
"""The iteration under which the SDK reports a single value: it is on no curve."""
_PAGE = 500


@endpoint("events.get_task_log", required=("task",))
def _get_task_log(call: Call) -> Document:
    """A page of the console. `navigate_earlier` (the default): before `from_timestamp`, newest first."""
    task = _known(call, call.text("task"))
    size = call.number("batch_size", _PAGE) or _PAGE
    earlier = call.data.get("navigate_earlier", True) not in (False, "false")
    start = call.data.get("from_timestamp")
    where = "task=?"
    values: list[str | int] = [task]
    if start is not None:
        where += " AND at < ?" if earlier else " AND at > ?"
        values.append(int(start))
    direction = "DESC" if earlier else "ASC"
    # A page holds a timestamp's events all or not at all, as on the real server: `from_timestamp` is exclusive, so
    # whoever reads on from a page's last timestamp would miss the others of it. Within one, they stand as they came.
    query = f"SELECT at FROM log WHERE {where} ORDER BY at {direction} LIMIT 1 OFFSET ?"  # noqa: S608
    border = call.store.sql.execute(query, (*values, size - 1)).fetchone()
    if border is not None:
        where += " AND at >= ?" if earlier else " AND at <= ?"
        values.append(border[0])
    query = (
        "SELECT number, at, worker, level, msg, received FROM log "  # noqa: S608 (constants and parameters)
        f"WHERE {where} ORDER BY at {direction}, number ASC"
    )
    rows = call.store.sql.execute(query, values).fetchall()
    if call.text("order") in ("asc", "desc"):
        rows.sort(key=lambda row: (row[1], row[0]), reverse=call.text("order") == "desc")
    events = [
        {
            "type": "log",
            "task": task,
            "worker": worker or "",
            "timestamp": at,
            "level": level or "info",
            "msg": message,
            "model_event": False,
            "@timestamp": _iso(received),
            "metric": "",
            "variant": "",
        }
        for _, at, worker, level, message, received in rows
    ]
    total = call.store.sql.execute("SELECT COUNT(*) FROM log WHERE task=?", (task,)).fetchone()[0]
    return {"events": events, "returned": len(events), "total": total}


@endpoint("events.clear_task_log", required=("task",))
def _clear_task_log(call: Call) -> Document:
    task = _known(call, call.text("task"))
    return {"deleted": call.store.sql.execute("DELETE FROM log WHERE task=?", (task,)).rowcount}


@endpoint("events.delete_for_task", required=("task",))
def _delete_for_task(call: Call) -> Document:
    return {"deleted": call.store.delete_events(_known(call, call.text("task")))}


@endpoint("events.scalar_metrics_iter_histogram", required=("task",))
def _histogram(call: Call) -> Document:
    task = _known(call, call.text("task"))
    return _curves(call, task)


@endpoint("events.multi_task_scalar_metrics_iter_histogram", required=("tasks",))
def _histograms(call: Call) -> Document:
    found: Document = {}
    for task in call.texts("tasks"):
        document = call.store.get("task", task) or call.store.get("model", task)
        for metric, variants in _curves(call, _known(call, task)).items():
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
        f"WHERE task=? AND iter>? ORDER BY metric, variant, {column}, number"
    )
    wanted = _wanted(call)
    series: dict[tuple[str, str], list[tuple[int, float | None]]] = {}
    for metric, variant, x, value in call.store.sql.execute(query, (task, SINGLE_VALUE)):
        if wanted is None or (metric in wanted and (not wanted[metric] or variant in wanted[metric])):
            series.setdefault((metric, variant), []).append((x, value))
    found: Document = {}
    samples = max(1, call.number("samples", DEFAULT_SAMPLES) or DEFAULT_SAMPLES)
    for (metric, variant), points in series.items():
        xs, ys = _thinned(points, samples)
        shown: Sequence[Any] = [_iso(x) for x in xs] if key == "iso_time" else xs
        found.setdefault(metric, {})[variant] = {"name": variant, "x": list(shown), "y": ys}
    return found


def _thinned(points: list[tuple[int, float | None]], samples: int) -> tuple[list[int], list[float | None]]:
    points = [point for point in points if point[1] is not None]
    if len(points) <= samples:
        return [x for x, _ in points], [single(y) for _, y in points]
    step = len(points) / samples
    runs = [points[int(n * step) : max(int(n * step) + 1, int((n + 1) * step))] for n in range(samples)]
    return (
        [sum(x for x, _ in run) // len(run) for run in runs],
        [single(sum(y or 0.0 for _, y in run) / len(run)) for run in runs],
    )


def _wanted(call: Call) -> dict[str, list[str]] | None:
    rows = call.data.get("metrics")
    if not rows:
        return None
    return {str(row.get("metric")): row.get("variants") or [] for row in rows if isinstance(row, dict)}


@endpoint("events.get_scalar_metric_data", required=("task",))
def _get_scalar_metric_data(call: Call) -> Document:
    """Raw scalars, newest iteration first, as they were sent."""
    task = _known(call, call.text("task"))
    query = "SELECT metric, variant, iter, at, value, worker, received FROM scalar WHERE task=?"
    values = [task]
    if metric := call.text("metric"):
        query, values = query + " AND metric=?", [*values, metric]
    rows = call.store.sql.execute(query + " ORDER BY iter DESC, number DESC LIMIT 10000", values).fetchall()
    events = [
        {
            "type": "training_stats_scalar", "task": task, "worker": worker or "", "timestamp": at, "metric": metric,
            "variant": variant, "value": value, "iter": iteration, "model_event": False, "@timestamp": _iso(received),
        }
        for metric, variant, iteration, at, value, worker, received in rows
    ]  # fmt: skip
    return {"events": events, "returned": len(events), "total": len(events), "scroll_id": None}


@endpoint("events.get_task_latest_scalar_values", required=("task",))
def _get_latest(call: Call) -> Document:
    task = _known(call, call.text("task"))
    found: dict[str, dict[str, list[float | None]]] = {}
    newest = 0
    query = "SELECT metric, variant, value, received FROM scalar WHERE task=? ORDER BY iter DESC, number DESC"
    for metric, variant, value, received in call.store.sql.execute(query, (task,)):
        newest = max(newest, received)
        values = found.setdefault(metric, {}).setdefault(variant, [])
        if len(values) < 10:
            values.append(value)
    rows = [
        {
            "name": metric,
            "variants": [
                {"name": name, "last_value": single(values[0]), "last_10_value": single(values[0])}
                for name, values in variants.items()
            ],
        }
        for metric, variants in found.items()
    ]
    document = call.store.get("task", task) or {}
    last = document.get("last_iteration", 0)
    status = document.get("status", "")
    return {"metrics": rows, "last_iter": last, "name": None, "status": status, "last_timestamp": float(newest)}


@endpoint("events.get_task_single_value_metrics", required=("tasks",))
def _get_single_values(call: Call) -> Document:
    rows = []
    query = "SELECT metric, variant, value, at FROM scalar WHERE task=? AND iter=? ORDER BY metric, variant, number"
    for task in call.texts("tasks"):
        latest = {
            (metric, variant): {"metric": metric, "variant": variant, "value": value, "timestamp": at}
            for metric, variant, value, at in call.store.sql.execute(query, (_known(call, task), SINGLE_VALUE))
        }
        name = (call.store.get("task", task) or {}).get("name", "")
        rows.append({"task": task, "task_name": name, "values": list(latest.values())})
    return {"tasks": rows}


@endpoint("events.get_scalar_metrics_and_variants", required=("task",))
def _get_scalar_metrics_and_variants(call: Call) -> Document:
    task = _known(call, call.text("task"))
    found: dict[str, list[str]] = {}
    query = "SELECT DISTINCT metric, variant FROM scalar WHERE task=? ORDER BY metric, variant"
    for metric, variant in call.store.sql.execute(query, (task,)):
        found.setdefault(metric, []).append(variant)
    return {"metrics": found}


@endpoint("events.get_vector_metrics_and_variants", required=("task",))
def _get_vector_metrics(call: Call) -> Document:
    return {"metrics": _metrics_of(call, _known(call, call.text("task")), "training_stats_vector")}


@endpoint("events.get_task_metrics", required=("tasks", "event_type"))
def _get_task_metrics(call: Call) -> Document:
    kind, rows = call.text("event_type"), []
    for task in call.texts("tasks"):
        if kind == "training_stats_scalar":
            query = "SELECT DISTINCT metric FROM scalar WHERE task=? ORDER BY metric"
            found = [metric for (metric,) in call.store.sql.execute(query, (task,))]
        elif kind == "log":
            found = []
        else:
            found = sorted(_metrics_of(call, task, kind))
        rows.append({"task": task, "metrics": found})
    return {"metrics": rows}


@endpoint("events.get_task_plots", required=("task",))
def _get_task_plots(call: Call) -> Document:
    plots = _others(call, [_known(call, call.text("task"))], "plot", call.number("iters", 1))
    plots = [{**plot, "plot_len": len(str(plot.get("plot_str") or ""))} for plot in plots]
    return {"plots": plots, "returned": len(plots), "total": len(plots), "scroll_id": None}


@endpoint("events.get_multi_task_plots", required=("tasks",))
def _get_multi_task_plots(call: Call) -> Document:
    found: Document = {}
    plots = _others(call, call.texts("tasks"), "plot", call.number("iters", 1))
    for plot in plots:
        name = (call.store.get("task", plot["task"]) or {}).get("name", "")
        at_task = found.setdefault(plot["metric"], {}).setdefault(plot["variant"], {}).setdefault(plot["task"], {})
        at_task.setdefault(str(plot["iter"]), {"name": name, "plots": []})["plots"].append(plot)
    return {"plots": found, "returned": len(plots), "total": len(plots), "scroll_id": None}


@endpoint("events.get_task_events", required=("task",))
def _get_task_events(call: Call) -> Document:
    """All events of a type, oldest first; one page (a scroll id that was given has nothing more)."""
    task, kind = _known(call, call.text("task")), call.text("event_type")
    if call.text("scroll_id"):
        return {"events": [], "returned": 0, "total": 0, "scroll_id": call.text("scroll_id")}
    if kind == "training_stats_scalar":
        found = list(reversed(_get_scalar_metric_data(call)["events"]))
    elif kind in ("", "log"):
        call.data.update(navigate_earlier=False, batch_size=10000)
        found = _get_task_log(call)["events"]
    else:
        found = _others(call, [task], kind, 1_000_000)
    return {"events": found, "returned": len(found), "total": len(found), "scroll_id": "end"}


@endpoint("events.debug_images", required=("metrics",))
def _debug_images(call: Call) -> Document:
    rows = []
    for wanted in call.data["metrics"]:
        task = str(wanted.get("task") or "")
        images = _others(call, [task], "training_debug_image", call.number("iters", 1))
        if metric := wanted.get("metric"):
            images = [image for image in images if image["metric"] == metric]
        by_iteration: dict[int, list[Document]] = {}
        for image in images:
            by_iteration.setdefault(image["iter"], []).append(image)
        iterations = [
            {"iter": number, "events": events} for number, events in sorted(by_iteration.items(), reverse=True)
        ]
        if iterations:
            rows.append({"task": task, "iterations": iterations})
    return {"metrics": rows, "scroll_id": None}


@endpoint("events.get_debug_image_sample", "events.get_plot_sample", required=("task", "metric", "variant"))
def _get_sample(call: Call) -> Document:
    kind = "plot" if call.data.get("plot_sample") else "training_debug_image"
    found = [
        event
        for event in _others(call, [_known(call, call.text("task"))], kind, 1_000_000)
        if (event["metric"], event["variant"]) == (call.text("metric"), call.text("variant"))
    ]
    wanted = call.data.get("iteration")
    chosen = next((event for event in found if event["iter"] == wanted), found[-1] if found else None)
    numbers = [event["iter"] for event in found] or [0]
    return {"event": chosen, "min_iteration": min(numbers), "max_iteration": max(numbers), "scroll_id": None}


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


def _others(call: Call, tasks: Iterable[str], kind: str, iterations: int) -> list[Document]:
    """Plots or images: of each series the newest `iterations`, oldest first."""
    found: list[Document] = []
    for task in tasks:
        query = "SELECT body FROM event WHERE task=? AND type=? ORDER BY metric, variant, iter DESC, number DESC"
        seen: dict[tuple[str, str], int] = {}
        for (body,) in call.store.sql.execute(query, (task, kind)):
            event = json.loads(body)
            series = (event.get("metric") or "", event.get("variant") or "")
            seen[series] = seen.get(series, 0) + 1
            if seen[series] <= max(1, iterations):
                event.setdefault("metric", "")
                event.setdefault("variant", "")
                found.append(
                    {**event, "model_event": bool(event.get("model_event")), "@timestamp": _iso(event["timestamp"])}
                )
    return sorted(found, key=lambda event: (event["metric"], event["variant"], event["iter"]))


def _metrics_of(call: Call, task: str, kind: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    query = "SELECT DISTINCT metric, variant FROM event WHERE task=? AND type=? ORDER BY metric, variant"
    for metric, variant in call.store.sql.execute(query, (task, kind)):
        found.setdefault(metric, []).append(variant)
    return found


def _known(call: Call, identity: str) -> str:
    if call.store.get("task", identity) is None and call.store.get("model", identity) is None:
        raise Refusal(400, 101, f"Invalid task id: ids=({identity})")
    return identity


def _iso(millis: int) -> str:
    moment = datetime.fromtimestamp(millis / 1000, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
