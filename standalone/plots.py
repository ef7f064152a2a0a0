"""Plots, debug images, vectors: read back by task, metric, variant and iteration."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from standalone.events import UNKNOWN_WORKER, known_source, when
from standalone.store import Document
from standalone.wire import Call, endpoint, new_id

_ALL = 1_000_000
_IMAGES, _PLOTS, _VECTORS = "training_debug_image", "plot", "training_stats_vector"


@endpoint("events.get_task_plots", required=("task",))
def _get_task_plots(call: Call) -> Document:
    found = reported(call, [known_source(call, call.text("task"))], _PLOTS, call.number("iters", 1))
    plots = [plot for plot in found if wanted(call.data.get("metrics"), plot)]
    return {"plots": plots, "returned": len(plots), "total": len(plots), "scroll_id": None}


@endpoint("events.get_multi_task_plots", required=("tasks",))
def _get_multi_task_plots(call: Call) -> Document:
    found: Document = {}
    tasks = [known_source(call, task) for task in call.texts("tasks")]
    plots = [
        plot
        for plot in reported(call, tasks, _PLOTS, call.number("iters", 1))
        if wanted(call.data.get("metrics"), plot)
    ]
    for plot in plots:
        name = (call.store.get("task", plot["task"]) or {}).get("name", "")
        at_task = found.setdefault(plot["metric"], {}).setdefault(plot["variant"], {}).setdefault(plot["task"], {})
        at_task.setdefault(str(plot["iter"]), {"name": name, "plots": []})["plots"].append(plot)
    return {"plots": found, "returned": len(plots), "total": len(plots), "scroll_id": new_id()}


@endpoint("events.debug_images", required=("metrics",))
def _debug_images(call: Call) -> Document:
    return _by_iteration(call, _IMAGES)


@endpoint("events.plots", required=("metrics",))
def _plots(call: Call) -> Document:
    return _by_iteration(call, _PLOTS)


def _by_iteration(call: Call, kind: str) -> Document:
    """For each task the newest `iters` iterations, newest first. With a scroll id: those before the ones shown.

    A scroll id says how many iterations were shown; `navigate_earlier: false` goes back to the newest.
    """
    size = max(1, call.number("iters", 1))
    shown = _shown_before(call)
    rows = []
    for row in call.data["metrics"]:
        task = known_source(call, str(row.get("task") or ""))
        condition = [row] if row.get("metric") else None
        found = [event for event in reported(call, [task], kind, _ALL) if wanted(condition, event)]
        numbers = sorted({event["iter"] for event in found}, reverse=True)[shown : shown + size]
        iterations = [{"iter": n, "events": [event for event in found if event["iter"] == n]} for n in numbers]
        rows.append({"task": task, "iterations": iterations})
    return {"metrics": rows, "scroll_id": f"{shown + size:032x}"}


def _shown_before(call: Call) -> int:
    text = call.text("scroll_id")
    if call.flag("refresh") or call.data.get("navigate_earlier", True) is False:
        return 0
    try:
        return int(text, 16) if text else 0
    except ValueError:
        return 0


@endpoint("events.get_debug_image_sample", required=("task", "metric", "variant"))
def _get_debug_image_sample(call: Call) -> Document:
    found = _of_series(call, _IMAGES)
    asked = call.data.get("iteration")
    chosen = next((event for event in found if event["iter"] == asked), found[-1] if found else None)
    return {"event": chosen, **_span(found)}


@endpoint("events.get_plot_sample", required=("task", "metric"))
def _get_plot_sample(call: Call) -> Document:
    """All variants' plots of one iteration, the newest unless said."""
    found = _of_series(call, _PLOTS)
    last = max((event["iter"] for event in found), default=None)
    asked = call.data.get("iteration", last)
    return {"events": [event for event in found if event["iter"] == asked], **_span(found)}


def _of_series(call: Call, kind: str) -> list[Document]:
    events = reported(call, [known_source(call, call.text("task"))], kind, _ALL)
    metric, variant = call.text("metric"), call.data.get("variant")
    found = [event for event in events if event["metric"] == metric and variant in (None, event["variant"])]
    return sorted(found, key=lambda event: (event["iter"], event["variant"]))


def _span(events: list[Document]) -> Document:
    numbers = [event["iter"] for event in events]
    return {
        "min_iteration": min(numbers, default=None),
        "max_iteration": max(numbers, default=None),
        "scroll_id": new_id(),
    }


@endpoint("events.vector_metrics_iter_histogram", required=("task", "metric", "variant"))
def _vectors(call: Call) -> Document:
    found = _of_series(call, _VECTORS)
    return {
        "metric": call.text("metric"),
        "variant": call.text("variant"),
        "vectors": [event.get("values") for event in found],
        "iterations": [event["iter"] for event in found],
    }


@endpoint("events.get_vector_metrics_and_variants", required=("task",))
def _get_vector_metrics(call: Call) -> Document:
    return {"metrics": series_of(call, known_source(call, call.text("task")), _VECTORS)}


def wanted(conditions: Iterable[Mapping[str, Any]] | None, event: Mapping[str, Any]) -> bool:
    """Whether an event is of one of the metrics (and variants) that a request names; none named: any."""
    rows = [row for row in conditions or () if isinstance(row, Mapping)]
    return not rows or any(
        row.get("metric") == event["metric"] and (not row.get("variants") or event["variant"] in row["variants"])
        for row in rows
    )


def reported(call: Call, tasks: Iterable[str], kind: str, iterations: int) -> list[Document]:
    """Plots, images or vectors: of each series the newest `iterations`, newest first."""
    found: list[Document] = []
    for task in tasks:
        query = "SELECT body FROM event WHERE task=? AND type=? ORDER BY metric, variant, iter DESC, number DESC"
        seen: dict[tuple[str, str], int] = {}
        for (body,) in call.store.sql.execute(query, (task, kind)):
            event = _shaped(json.loads(body))
            series = (event["metric"], event["variant"])
            seen[series] = seen.get(series, 0) + 1
            if seen[series] <= max(1, iterations):
                found.append(event)
    return found


def _shaped(event: Document) -> Document:
    event = {"metric": "", "variant": "", "worker": UNKNOWN_WORKER, **event}
    event.update({"model_event": bool(event.get("model_event")), "@timestamp": when(event["timestamp"])})
    if event.get("type") == _PLOTS:
        event["plot_len"] = len(str(event.get("plot_str") or ""))
    return event


def series_of(call: Call, task: str, kind: str) -> dict[str, list[str]]:
    """metric -> variants, of plots, images or vectors."""
    found: dict[str, list[str]] = {}
    query = "SELECT DISTINCT metric, variant FROM event WHERE task=? AND type=? ORDER BY metric, variant"
    for metric, variant in call.store.sql.execute(query, (task, kind)):
        found.setdefault(metric, []).append(variant)
    return found
