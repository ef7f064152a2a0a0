"""The console, read back by pages."""

from __future__ import annotations

from standalone.events import UNKNOWN_WORKER, known_source, when
from standalone.store import Document
from standalone.wire import Call, Refusal, endpoint

_PAGE = 500


@endpoint("events.get_task_log", required=("task",))
def _get_task_log(call: Call) -> Document:
    """A page of the console. `navigate_earlier` (the default): before `from_timestamp`, newest first."""
    task = known_source(call, call.text("task"))
    size = call.number("batch_size", _PAGE) or _PAGE
    earlier = call.data.get("navigate_earlier", True) not in (False, "false")
    start = call.data.get("from_timestamp")
    where = "task=?"
    values: list[str | int] = [task]
    if start is not None:
        where += " AND at < ?" if earlier else " AND at > ?"
        values.append(call.number("from_timestamp", 0))
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
    events = [_event(task, *row[1:]) for row in rows]
    total = call.store.sql.execute("SELECT COUNT(*) FROM log WHERE task=?", (task,)).fetchone()[0]
    return {"events": events, "returned": len(events), "total": total}


def _event(task: str, at: int, worker: str | None, level: str | None, message: str, received: int) -> Document:
    return {
        "type": "log",
        "task": task,
        "worker": worker or UNKNOWN_WORKER,
        "timestamp": at,
        **({"level": level} if level else {}),
        "msg": message,
        "model_event": False,
        "@timestamp": when(received),
        "metric": "",
        "variant": "",
    }


@endpoint("events.download_task_log", required=("task",))
def _download_task_log(call: Call) -> Document:
    """The whole console as one text; `app` sends what stands under TEXT as it is."""
    task = known_source(call, call.text("task"))
    rows = call.store.sql.execute("SELECT msg FROM log WHERE task=? ORDER BY at, number", (task,))
    return {TEXT: "".join(f"{message}\n" for (message,) in rows)}


TEXT = "\x00text"
"""The key of an answer that is no envelope but a plain text."""


@endpoint("events.clear_task_log", required=("task",))
def _clear_task_log(call: Call) -> Document:
    task = _unlocked(call)
    return {"deleted": call.store.sql.execute("DELETE FROM log WHERE task=?", (task,)).rowcount}


@endpoint("events.delete_for_task", required=("task",))
def _delete_for_task(call: Call) -> Document:
    return {"deleted": call.store.delete_events(_unlocked(call))}


def _unlocked(call: Call) -> str:
    task = known_source(call, call.text("task"))
    found = call.store.get("task", task) or {}
    if found.get("status") == "published" and not call.flag("allow_locked"):
        raise Refusal(400, 101, "Cannot update events for a published task", company=found["company"], id=task)
    return task
