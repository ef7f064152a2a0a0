"""The queue calls, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from clearml_api.errors import NOT_IN_QUEUE, ApiError
from clearml_api.models import Queue, queue_of
from clearml_api.session import Bounds, Session


def get_all(
    session: Session,
    ids: Sequence[str] = (),
    *,
    max_entries: int = 0,
    bounds: Bounds | None = None,
) -> list[Queue]:
    """Queues (all, or those with these ids), each with its first `max_entries` entries in order: one request."""
    payload: dict[str, Any] = {"only_fields": ["id", "name", *(["entries"] if max_entries else [])]}
    if ids:
        payload["id"] = list(ids)
    if max_entries:
        payload["max_task_entries"] = max_entries
    return [queue_of(raw) for raw in session.call("queues.get_all", payload, bounds=bounds).get("queues") or ()]


def find(listing: Iterable[Queue], name: str) -> Queue | None:
    """The queue of this name, else of this id; None when neither is in the listing."""
    by_id = None
    for queue in listing:
        if queue.name == name:
            return queue
        by_id = queue if queue.id == name else by_id
    return by_id


def create(session: Session, name: str, *, bounds: Bounds | None = None) -> str:
    """Make a queue; its id. Raises ApiError 801 when the name is taken."""
    return str(session.call("queues.create", {"name": name}, bounds=bounds).get("id") or "")


def remove_task(session: Session, queue: str, task: str, *, bounds: Bounds | None = None) -> bool:
    """Take a task out of a queue: the claim. True for exactly one caller, whoever else asks at the same time.

    The task's status does not change. A later caller gets 400/703, one that raced gets `removed: 0`: both False.
    """
    try:
        return session.call("queues.remove_task", {"queue": queue, "task": task}, bounds=bounds).get("removed") == 1
    except ApiError as error:
        if error.subcode == NOT_IN_QUEUE:
            return False
        raise


def move_to_front(session: Session, queue: str, task: str, *, bounds: Bounds | None = None) -> None:
    """Make a queued task its queue's first."""
    session.call("queues.move_task_to_front", {"queue": queue, "task": task}, bounds=bounds)
