"""Events as they come in: console lines, scalars, plots, images. A bad one does not fail its batch.

Scalars also move the task's `last_metrics` and `last_iteration`, once per batch, as the web pages of both servers
read them from the task.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import time
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from standalone.store import Document
from standalone.task_status import tick
from standalone.wire import Call, Refusal, endpoint

UNKNOWN_WORKER = "<unknown>"
KINDS = ("log", "training_stats_scalar", "training_stats_vector", "training_debug_image", "plot")


@endpoint("events.add")
def _add(call: Call) -> Document:
    return add(call, [call.data])


@endpoint("events.add_batch")
def _add_batch(call: Call) -> Document:
    return add(call, call.data.get("lines") or [])


def add(call: Call, events: list[Any]) -> Document:
    """Store a batch. Refusal 131 only when nothing of it could be stored."""
    events = [event for event in events if event != {}]
    if not events:
        raise Refusal(400, 17, "Batch request contains no items")
    batch = _Batch(call)
    for event in events:
        batch.take(event)
    batch.write()
    if batch.errors and not batch.added:
        reasons = ", ".join(f"{why}={count}" for why, count in batch.errors.items())
        raise Refusal(400, 131, f"Events not added: {reasons}")
    answer: Document = {"added": batch.added, "errors": sum(batch.errors.values()), "errors_info": dict(batch.errors)}
    return answer


class _Batch:
    """Sorts events into rows, then writes them."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._received = int(time.time() * 1000)
        self._tasks: dict[str, Document | None] = {}
        self._newest: dict[tuple[str, str, str], int] = {}
        """(task, type, metric) -> time of its newest event; scalars tell theirs by `last_metrics`."""
        self._logs: list[tuple[Any, ...]] = []
        self._scalars: list[tuple[Any, ...]] = []
        self._others: list[tuple[Any, ...]] = []
        self.errors: Counter[str] = Counter()

    @property
    def added(self) -> int:
        return len(self._logs) + len(self._scalars) + len(self._others)

    def take(self, event: Any) -> None:
        """One event into its table's rows, or into the errors."""
        if not isinstance(event, dict):
            self.errors["Invalid event"] += 1
            return
        kind, task = str(event.get("type") or ""), str(event.get("task") or "")
        if wrong := self._wrong(event, kind, task):
            self.errors[wrong] += 1
            return
        at = _whole(event.get("timestamp"), self._received)
        metric, variant = str(event.get("metric") or ""), str(event.get("variant") or "")
        if kind != "training_stats_scalar":
            self._newest[task, kind, metric] = max(at, self._newest.get((task, kind, metric), 0))
        if kind == "log":
            message = event.get("msg")
            self._logs.append((task, at, event.get("worker"), event.get("level"), str(message or ""), self._received))
            return
        iteration = _whole(event.get("iter"), 0)
        if kind == "training_stats_scalar":
            value = _value(event.get("value"))
            self._scalars.append((task, metric, variant, iteration, at, value, event.get("worker"), self._received))
        else:
            body = json.dumps({"worker": UNKNOWN_WORKER, **event, "timestamp": at, "iter": iteration})
            self._others.append((task, kind, metric, variant, iteration, at, body))

    def _wrong(self, event: Document, kind: str, task: str) -> str:
        """Why an event cannot be taken; empty: it can."""
        if not kind or not task:
            return f"Event must have a '{'task' if kind else 'type'}' field"
        if kind not in KINDS:
            return f"Invalid event type {kind}"
        if task not in self._tasks:
            # An SDK's model events name a model instead of a task.
            found = self._call.store.get("model" if event.get("model_event") else "task", task)
            locked = found is not None and found.get("status") == "published" and not event.get("allow_locked")
            self._tasks[task] = None if locked else found
        return f"Invalid task id {task}" if self._tasks[task] is None else ""

    def write(self) -> None:
        """All rows, then what they change on their tasks."""
        sql = self._call.store.sql
        sql.executemany("INSERT INTO log VALUES (NULL, ?, ?, ?, ?, ?, ?)", self._logs)
        sql.executemany("INSERT INTO scalar VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", self._scalars)
        for row in self._others:  # a plot or image of the same iteration replaces the earlier one
            sql.execute("DELETE FROM event WHERE task=? AND type=? AND metric=? AND variant=? AND iter=?", row[:5])
            sql.execute("INSERT INTO event VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row)
        for identity, task in self._tasks.items():
            if task is not None and "execution" in task:
                self._update(task, [row for row in self._scalars if row[0] == identity])

    def _update(self, task: Document, scalars: list[tuple[Any, ...]]) -> None:
        metrics = task.setdefault("last_metrics", {})
        for _, metric, variant, iteration, _, value, _, _ in scalars:
            if value is None:
                continue
            series = metrics.setdefault(key_of(metric), {})
            series[key_of(variant)] = _latest(series.get(key_of(variant)), metric, variant, iteration, value)
        top = max((row[3] for row in scalars), default=-1)
        task["last_iteration"] = max(task.get("last_iteration") or 0, top)
        stats = task.setdefault("metric_stats", {})
        for (identity, kind, metric), newest in self._newest.items():
            if identity == task["id"]:
                of_metric = stats.setdefault(key_of(metric), {"metric": metric, "event_stats_by_type": {}})
                of_metric["event_stats_by_type"][kind] = {"last_update": newest}
        tick(self._call, task)
        self._call.store.put("task", task)


def known_source(call: Call, identity: str) -> str:
    """The id, if events may be asked of it: a task's or a model's. Raises Refusal 101."""
    if call.store.get("task", identity) is None and call.store.get("model", identity) is None:
        raise Refusal(400, 101, "Invalid task id", ids=f"({identity})")
    return identity


def when(millis: int) -> str:
    """A time as events show it."""
    moment = datetime.fromtimestamp(millis / 1000, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def key_of(name: str) -> str:
    """How `last_metrics` names a metric or variant."""
    return hashlib.md5(name.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()


def single(value: float | None) -> float | None:
    """A 64-bit float as the search index of the real server gives it back: rounded to 32 bits."""
    if value is None:
        return None
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(3.4028234663852886e38, value)


def _latest(before: Document | None, metric: str, variant: str, iteration: int, value: float) -> Document:
    if before is None:
        before = {
            "metric": metric, "variant": variant, "min_value": value, "min_value_iteration": iteration,
            "max_value": value, "max_value_iteration": iteration, "first_value": value,
            "first_value_iteration": iteration, "count": 0, "mean_value": 0.0,
        }  # fmt: skip
    count = before["count"] + 1
    found = {**before, "value": value, "count": count}
    found["mean_value"] = before["mean_value"] + (value - before["mean_value"]) / count
    if value < before["min_value"]:
        found.update(min_value=value, min_value_iteration=iteration)
    if value > before["max_value"]:
        found.update(max_value=value, max_value_iteration=iteration)
    return found


def _whole(value: Any, default: int) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return default


def _value(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def lines(body: bytes) -> Iterable[Any]:
    """Newline-delimited JSON; a line that is none becomes None (an error of its own)."""
    for line in body.split(b"\n"):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                yield None
