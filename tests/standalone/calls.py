"""What the API's tests share: fresh names, tasks in a wanted status, refusals. Works on any ClearML server."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from clearml_api import tasks
from clearml_api.errors import ApiError
from clearml_api.session import Session
from tests.support import until

PATHS: dict[str, list[str]] = {
    "created": [],
    "queued": ["queued"],
    "in_progress": ["in_progress"],
    "stopped": ["in_progress", "stopped"],
    "failed": ["in_progress", "failed"],
    "completed": ["in_progress", "completed"],
    "published": ["in_progress", "completed", "published"],
}
MOVES = {
    "queued": "tasks.enqueue", "in_progress": "tasks.started", "stopped": "tasks.stopped", "failed": "tasks.failed",
    "completed": "tasks.completed", "published": "tasks.publish",
}  # fmt: skip


def name(text: str) -> str:
    """A name that no other test has."""
    return f"{text} {uuid.uuid4().hex[:8]}"


def new(api: Session, **fields: object) -> str:
    """A draft."""
    return str(api.call("tasks.create", {"name": name("task"), "type": "training", **fields})["id"])


def in_status(api: Session, wanted: str, queue: str, **fields: object) -> str:
    """A task in a status, led there as tasks are."""
    task = new(api, **fields)
    for step in PATHS[wanted]:
        api.call(MOVES[step], {"task": task, **({"queue": queue} if step == "queued" else {})})
    return task


def status(api: Session, task: str) -> str:
    found = tasks.get(api, task)
    assert found is not None
    return found.status


def raw(api: Session, task: str) -> dict[str, Any]:
    """The task as the server gives it."""
    found: dict[str, Any] = api.call("tasks.get_by_id", {"task": task})["task"]
    return found


def refused(api: Session, endpoint: str, payload: dict[str, object]) -> tuple[int, int]:
    """(HTTP code, subcode) of a call that must fail."""
    with pytest.raises(ApiError) as caught:
        api.call(endpoint, payload)
    return caught.value.code, caught.value.subcode


def report(api: Session, *events: dict[str, object]) -> dict[str, Any]:
    """Events, in one batch."""
    import json

    return api.send_lines("events.add_batch", "\n".join(json.dumps(event) for event in events).encode())


def seen(what: Callable[[], Any]) -> Any:
    """What becomes true once the real server's index has taken what was reported (ours: at once)."""
    return until(what, 15)
