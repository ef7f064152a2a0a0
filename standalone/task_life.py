"""A task's life: enqueued, taken, started, stopped, ended, reset. Order and answers are the real server's."""

from __future__ import annotations

from collections.abc import Callable

from standalone import queues
from standalone.store import Document
from standalone.task_status import change, seconds_since, write
from standalone.tasks import task_of
from standalone.wire import USER, Call, Refusal, endpoint

LIVELY_SECONDS = 600.0
"""A running task with a worker that was updated this recently is asked to stop, not stopped."""
WATCHDOG_SECONDS = 2 * 3600.0


@endpoint("tasks.enqueue", required=("task",))
def _enqueue(call: Call) -> Document:
    return enqueue(call, task_of(call, call.text("task")))


def enqueue(call: Call, task: Document) -> Document:
    """Append to a queue, by id or by name (a name makes the queue). Raises Refusal 701, 706, 110."""
    if call.text("queue"):
        queue = queues.queue_of(call, call.text("queue"))["id"]
    elif name := call.text("queue_name"):
        known = next(call.store.find("queue", name=name), None)
        queue = known["id"] if known else queues.create(call, name)
    else:
        queue = queues.default(call)["id"]
    if any(one == task["id"] for one, _ in call.store.entries(queue)):
        raise Refusal(400, 706, f"Task already queued: task={task['id']}, queue={queue}")
    before = task.get("enqueue_status") if task["status"] == "queued" else task["status"]
    fields = change(call, task, "queued", **{"enqueue_status": before, "execution.queue": queue})
    call.store.remove_from_queues(task["id"])
    call.store.add_entry(queue, task["id"], call.now)
    queues.touch(call, queue)
    return {"queued": 1, "updated": 1, "fields": fields}


@endpoint("tasks.enqueue_many", required=("ids",))
def _enqueue_many(call: Call) -> Document:
    return _many(call, enqueue, "enqueued")


@endpoint("tasks.dequeue", required=("task",))
def _dequeue(call: Call) -> Document:
    return dequeue(call, task_of(call, call.text("task")))


def dequeue(call: Call, task: Document) -> Document:
    """Out of the queue, status `new_status` (created). Answers `updated: 1` for one that runs already: no claim."""
    status = call.text("new_status") or task.get("enqueue_status") or "created"
    if task["status"] not in ("queued", status):
        raise Refusal(400, 110, f"Invalid task status: expected=queued, status={task['status']}")
    fields = change(call, task, status, enqueue_status=None)
    call.store.remove_from_queues(task["id"])
    return {"dequeued": 1, "updated": 1, "fields": fields}


@endpoint("tasks.dequeue_many", required=("ids",))
def _dequeue_many(call: Call) -> Document:
    return _many(call, dequeue, "dequeued")


@endpoint("tasks.started", required=("task",))
def _started(call: Call) -> Document:
    task = task_of(call, call.text("task"))
    first = {} if task.get("started") and task["status"] == "in_progress" else {"started": call.now}
    return {"started": 1, "updated": 1, "fields": change(call, task, "in_progress", **first)}


@endpoint("tasks.completed", "tasks.mark_completed", required=("task",))
def _completed(call: Call) -> Document:
    task = task_of(call, call.text("task"))
    fields = change(call, task, "completed", **_ended(call, task))
    published = 0
    if call.flag("publish"):
        change(call, task, "published", published=call.now)
        published = 1
    return {"updated": 1, "published": published, "fields": fields}


@endpoint("tasks.failed", required=("task",))
def _failed(call: Call) -> Document:
    task = task_of(call, call.text("task"))
    return {"updated": 1, "fields": change(call, task, "failed", **_ended(call, task))}


@endpoint("tasks.stopped", required=("task",))
def _stopped(call: Call) -> Document:
    task = task_of(call, call.text("task"))
    return {"updated": 1, "fields": change(call, task, "stopped", **_ended(call, task))}


@endpoint("tasks.close", required=("task",))
def _close(call: Call) -> Document:
    task = task_of(call, call.text("task"))
    return {"updated": 1, "fields": change(call, task, "closed", **_ended(call, task))}


@endpoint("tasks.publish", required=("task",))
def _publish(call: Call) -> Document:
    task = task_of(call, call.text("task"))
    if task["status"] == "published":
        text = "Invalid task status (Invalid status change): current_status=published, new_status=published"
        raise Refusal(400, 110, text)
    fields = change(call, task, "published", published=call.now)
    return {"updated": 1, "committed_versions_results": [], "fields": fields}


@endpoint("tasks.publish_many", required=("ids",))
def _publish_many(call: Call) -> Document:
    return _many(call, lambda inner, task: {"fields": change(inner, task, "published")}, "published")


@endpoint("tasks.stop", required=("task",))
def _stop(call: Call) -> Document:
    return stop(call, task_of(call, call.text("task")))


def stop(call: Call, task: Document) -> Document:
    """A running task with a lively worker is asked (`stopping`); any other is stopped at once."""
    asked = (
        task["status"] == "in_progress"
        and bool(task.get("last_worker"))
        and "development" not in (task.get("system_tags") or ())
        and seconds_since(task.get("last_update"), call.now) < LIVELY_SECONDS
    )
    if asked:
        fields = {"status": "in_progress", "status_message": "stopping", "status_reason": call.text("status_reason")}
        write(call, task, {**fields, "last_change": call.now, "last_changed_by": USER})
        return {"updated": 1, "fields": fields}
    call.store.remove_from_queues(task["id"])
    call.data.setdefault("status_message", f"Stopped by {USER}")
    return {"updated": 1, "fields": change(call, task, "stopped", **_ended(call, task))}


@endpoint("tasks.stop_many", required=("ids",))
def _stop_many(call: Call) -> Document:
    return _many(call, stop, "stopped")


@endpoint("tasks.ping", required=("task",))
def _ping(call: Call) -> Document:
    task = call.store.get("task", call.text("task"))
    if task:
        call.store.put("task", {**task, "last_update": call.now})
    return {}


@endpoint("tasks.reset", required=("task",))
def _reset(call: Call) -> Document:
    return reset(call, task_of(call, call.text("task")))


def reset(call: Call, task: Document) -> Document:
    """Back to a draft: results, runtime and events go, the definition stays."""
    if task["status"] == "published" and not call.flag("force"):
        raise Refusal(400, 110, f"Invalid task status: task={task['id']}, status=published")
    dequeued = call.store.remove_from_queues(task["id"])
    deleted = call.store.delete_events(task["id"])
    call.data["force"] = True
    artifacts = [one for one in task["execution"].get("artifacts") or [] if one.get("mode") == "input"]
    task["models"] = {**(task.get("models") or {}), "output": []}
    task["execution"] = {**task["execution"], "artifacts": artifacts}
    cleared = (
        "started",
        "completed",
        "published",
        "last_worker",
        "last_worker_report",
        "enqueue_status",
        "active_duration",
    )
    fields = change(
        call,
        task,
        "created",
        **dict.fromkeys(cleared),
        **{"execution.queue": None, "runtime": {}, "last_iteration": 0, "last_metrics": {}, "unique_metrics": []},
    )
    return {
        "updated": 1,
        "fields": fields,
        "dequeued": {"removed": dequeued},
        "deleted_models": 0,
        "events": {"deleted": deleted},
    }


@endpoint("tasks.reset_many", required=("ids",))
def _reset_many(call: Call) -> Document:
    return _many(call, reset, "reset")


def watchdog(call: Call) -> int:
    """Stop running tasks that were silent for two hours; how many."""
    silent = 0
    for task in call.store.find("task", status="in_progress"):
        if seconds_since(task.get("last_update"), call.now) > WATCHDOG_SECONDS:
            call.data = {
                "status_reason": "Forced stop (non-responsive)",
                "status_message": "Forced stop (non-responsive)",
            }
            change(call, task, "stopped", **_ended(call, task))
            silent += 1
    return silent


def _ended(call: Call, task: Document) -> Document:
    started = task.get("started")
    if not started:
        return {"completed": call.now}
    return {"completed": call.now, "active_duration": int(seconds_since(started, call.now))}


def _many(call: Call, act: Callable[[Call, Document], Document], name: str) -> Document:
    succeeded: list[Document] = []
    failed: list[Document] = []
    for identity in call.texts("ids"):
        try:
            answer = act(call, task_of(call, identity))
            succeeded.append({"id": identity, name: True, "fields": answer.get("fields", {})})
        except Refusal as refusal:
            error = {"codes": [refusal.code, refusal.subcode], "msg": refusal.message, "data": {}}
            failed.append({"id": identity, "error": error})
    return {"succeeded": succeeded, "failed": failed}
