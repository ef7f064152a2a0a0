"""Console lines and scalars, sent in batches, each event one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clearml_api.session import Bounds, Session

_LOG_PAGE = 500


@dataclass(frozen=True)
class BatchAnswer:
    """What became of a batch. The server answers 200 even when it refused some events: `errors` tells."""

    added: int
    errors: int
    reasons: Mapping[str, int]


def log_event(task: str, worker: str, millis: int, text: str, level: str = "info") -> dict[str, Any]:
    """One console event; `text` may hold many lines. Time in milliseconds since the epoch."""
    return {"type": "log", "task": task, "worker": worker, "timestamp": millis, "level": level, "msg": text}


def scalar_event(
    task: str, worker: str, millis: int, metric: str, variant: str, value: float, iteration: int
) -> dict[str, Any]:
    """One point of the plot `metric`, series `variant`."""
    return {
        "type": "training_stats_scalar", "task": task, "worker": worker, "timestamp": millis,
        "metric": metric, "variant": variant, "value": value, "iter": iteration,
    }  # fmt: skip


def encode(events: Iterable[Mapping[str, Any]]) -> bytes:
    """Newline-delimited JSON, as events.add_batch takes it."""
    return b"\n".join(
        json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") for event in events
    )


def add_batch(session: Session, events: Iterable[Mapping[str, Any]], *, bounds: Bounds | None = None) -> BatchAnswer:
    """Send a batch of events."""
    return send_encoded(session, encode(events), bounds=bounds)


def send_encoded(session: Session, lines: bytes, *, bounds: Bounds | None = None) -> BatchAnswer:
    """Send a batch that is already encoded."""
    answer = session.send_lines("events.add_batch", lines, bounds=bounds)
    return BatchAnswer(
        added=int(answer.get("added") or 0),
        errors=int(answer.get("errors") or 0),
        reasons=answer.get("errors_info") or {},
    )


def last_lines(session: Session, task: str, worker: str, *, among: int = 20, bounds: Bounds | None = None) -> list[str]:
    """A worker's console lines among the task's last ones, oldest first; without `navigate_earlier` the last page."""
    payload = {"task": task, "batch_size": among, "order": "asc"}
    page = session.call("events.get_task_log", payload, bounds=bounds).get("events") or ()
    ours = [event for event in page if event.get("worker") == worker]
    return [str(event.get("msg") or "") for event in sorted(ours, key=lambda event: int(event.get("timestamp") or 0))]


def stored_times(
    session: Session, task: str, worker: str, first: int, last: int, *, bounds: Bounds | None = None
) -> set[int]:
    """Under which times (milliseconds, `first` to `last`) a worker has console lines.

    Others write into the same console (the SDK's report_text), so it is read page by page until past `last`.
    """
    found: set[int] = set()
    after = first - 1
    while True:
        payload = {
            "task": task,
            "from_timestamp": after,
            "navigate_earlier": False,
            "batch_size": _LOG_PAGE,
            "order": "asc",
        }
        page = session.call("events.get_task_log", payload, bounds=bounds).get("events") or ()
        times = [int(event["timestamp"]) for event in page if "timestamp" in event]
        found.update(int(event["timestamp"]) for event in page if event.get("worker") == worker)
        latest = max(times, default=last)
        if latest > last or len(page) < _LOG_PAGE:
            return {time for time in found if first <= time <= last}
        # A page may end in the middle of a millisecond: look at that one again, as long as that leads on.
        after = latest - 1 if latest - 1 > after else latest
