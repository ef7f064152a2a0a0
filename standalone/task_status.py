"""Which status may follow which (measured on API 2.34), and what a change writes. Pure."""

from __future__ import annotations

from datetime import datetime

from standalone.store import Document
from standalone.wire import USER, Call, Refusal

ALLOWED: dict[str, frozenset[str]] = {
    "created": frozenset({"queued", "in_progress"}),
    "queued": frozenset({"created", "in_progress", "stopped"}),
    "in_progress": frozenset({"stopped", "failed", "created", "completed"}),
    "stopped": frozenset(
        {"closed", "created", "failed", "queued", "in_progress", "published", "publishing", "completed"}
    ),
    "failed": frozenset({"created", "stopped", "published", "queued"}),
    "completed": frozenset({"published", "in_progress", "created"}),
    "closed": frozenset({"created", "failed", "published", "publishing", "stopped"}),
    "publishing": frozenset({"published"}),
    "published": frozenset(),
}
FINAL = ("stopped", "failed", "completed", "closed", "published", "publishing")


def change(call: Call, task: Document, status: str, **extra: object) -> Document:
    """The task with a new status, written; the fields that the answer shows. Raises Refusal 110.

    A change to the same status is allowed; any is with the request's `force`.
    """
    current = task["status"]
    if status != current and status not in ALLOWED.get(current, frozenset()) and not call.flag("force"):
        text = "Invalid task status (Invalid status change)"
        raise Refusal(400, 110, text, current_status=current, new_status=status)
    fields: Document = {
        "status": status,
        "status_reason": call.text("status_reason"),
        "status_message": call.text("status_message"),
        "status_changed": call.now,
        "last_update": call.now,
        "last_change": call.now,
        "last_changed_by": USER,
        **extra,
    }
    write(call, task, fields)
    return fields


def write(call: Call, task: Document, fields: Document) -> None:
    """Set fields of a task (`set_fields`) and store it."""
    set_fields(task, fields)
    call.store.put("task", task)


def set_fields(task: Document, fields: Document) -> None:
    """Set fields of a task, dotted paths included; None removes. Not stored."""
    for path, value in fields.items():
        target = task
        *outer, last = path.split(".")
        for part in outer:
            target = target.setdefault(part, {})
        if value is None:
            target.pop(last, None)
        else:
            target[last] = value


def tick(call: Call, task: Document) -> None:
    """A sign of life: the task's time of update, and how long it has run."""
    task["last_update"] = task["last_change"] = call.now
    if task["status"] == "in_progress" and task.get("started"):
        task["active_duration"] = int(seconds_since(task["started"], call.now))


def seconds_since(moment: str | None, now: str) -> float:
    """Seconds between two of the server's times; infinite when there is no first."""
    if not moment:
        return float("inf")
    return (datetime.fromisoformat(now) - datetime.fromisoformat(moment)).total_seconds()
