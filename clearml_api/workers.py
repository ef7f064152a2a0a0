"""The pod as a worker on ClearML's Workers page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clearml_api.session import Bounds, Session


def status_report(
    session: Session,
    worker: str,
    *,
    task: str,
    queue: str,
    millis: int,
    machine_stats: Mapping[str, Any],
    bounds: Bounds | None = None,
) -> None:
    """Say that the worker lives, what it runs and what the machine does (ClearML's own keys, as lists per GPU)."""
    payload = {
        "worker": worker, "task": task, "queues": [queue] if queue else [], "timestamp": millis,
        "machine_stats": dict(machine_stats),
    }  # fmt: skip
    session.call("workers.status_report", payload, bounds=bounds)


def unregister(session: Session, worker: str, *, bounds: Bounds | None = None) -> None:
    """Take the worker off the page."""
    session.call("workers.unregister", {"worker": worker}, bounds=bounds)
