"""A task's life: enqueued, taken, started, stopped, ended, reset. Order and answers are the real server's."""

from __future__ import annotations

from standalone import queues
from standalone.many import many
from standalone.store import Document
from standalone.task_status import change, seconds_since, set_fields, tick
from standalone.tasks import PUBLISHED, task_of
from standalone.wire import USER, Call, Refusal, endpoint

LIVELY_SECONDS = 600.0
"""A running task with a worker that was updated this recently is asked to stop, not stopped."""
WATCHDOG_SECONDS = 2 * 3600.0


@endpoint("tasks.enqueue", required=("task",))
def _enqueue(call: Call) -> Document:
    return enqueue(call, call.text("task"))


def enqueue(call: Call, identity: str) -> Document:
    """Append to a queue, by id or by name (a name makes the queue). Raises Refusal 701, 706, 110.

    What is enqueued is no longer the work of somebody at a desk: the system tag `development` goes.
    """
    task = task_of(call, identity)
    if call.text("queue"):
        queue = queues.queue_of(call, call.text("queue"))["id"]
    elif name := call.text("queue_name"):
        known = next(call.store.find("queue", name=name), None)
        queue = known["id"] if known else queues.create(call, name)
    else:
        queue = queues.default(call)["id"]
    queues.check_not_in(call, queue, identity)
    before = task["status"]
    if call.store.remove_from_queues(identity):  # it moves from one queue to another
        before = task.get("enqueue_status") or before
    task["system_tags"] = [tag for tag in task.get("system_tags") or () if tag != "development"]
    fields = change(call, task, "queued", **{"enqueue_status": before, "execution.queue": queue})
    call.store.add_entry(queue, identity, call.now)
    queues.touch(call, queue)
    answer: Document = {"queued": 1, "updated": 1, "fields": fields}
    if call.flag("verify_watched_queue"):
        answer["queue_watched"] = any(queue in (one.get("queues") or ()) for one in call.store.find("worker"))
    return answer


@endpoint("tasks.enqueue_many", required=("ids",))
def _enqueue_many(call: Call) -> Document:
    return many(call, lambda identity: {**enqueue(call, identity), "queued": True})


@endpoint("tasks.dequeue", required=("task",))
def _dequeue(call: Call) -> Document:
    return dequeue(call, call.text("task"))


def dequeue(call: Call, identity: str) -> Document:
    """Out of the queue, to `new_status` or what it was before.

    Answers `updated: 1` for one that runs already (so it is no claim) and `updated: 0` for one that neither waits nor
    runs, or that is not there at all.
    """
    task = call.store.get("task", identity)
    if task is None or task["status"] not in ("queued", "in_progress"):
        return {"dequeued": 1, "updated": 0, "fields": {}}
    status = call.text("new_status") or task.get("enqueue_status") or "created"
    if task["status"] == "queued":  # one that runs keeps an entry that was left behind
        call.store.remove_from_queues(identity)
    fields = change(call, task, status, enqueue_status=None)
    return {"dequeued": 1, "updated": 1, "fields": fields}


@endpoint("tasks.dequeue_many", required=("ids",))
def _dequeue_many(call: Call) -> Document:
    return many(call, lambda identity: {**dequeue(call, identity), "dequeued": True})


@endpoint("tasks.started", required=("task",))
def _started(call: Call) -> Document:
    task = call.store.get("task", call.text("task"))
    if task is None:  # this one endpoint has words of its own
        raise Refusal(400, 10, "Invalid object id", task=None)
    first = {} if task.get("started") and task["status"] == "in_progress" else {"started": call.now}
    return {"started": 1, "updated": 1, "fields": change(call, task, "in_progress", **first)}


@endpoint("tasks.completed", "tasks.mark_completed", required=("task",))
def _completed(call: Call) -> Document:
    task = task_of(call, call.text("task"))
    fields = change(call, task, "completed", completed=call.now)
    if not call.flag("publish"):
        return {"updated": 1, "published": 0, "fields": fields}
    change(call, task, PUBLISHED, published=call.now)
    return {"updated": 1, "published": 1, "fields": {**fields, "status": PUBLISHED}}


@endpoint("tasks.failed", required=("task",))
def _failed(call: Call) -> Document:
    return {"updated": 1, "fields": change(call, task_of(call, call.text("task")), "failed", completed=call.now)}


@endpoint("tasks.stopped", required=("task",))
def _stopped(call: Call) -> Document:
    return {"updated": 1, "fields": change(call, task_of(call, call.text("task")), "stopped", completed=call.now)}


@endpoint("tasks.close", required=("task",))
def _close(call: Call) -> Document:
    return {"updated": 1, "fields": change(call, task_of(call, call.text("task")), "closed")}


@endpoint("tasks.publish", required=("task",))
def _publish(call: Call) -> Document:
    return publish(call, call.text("task"))


def publish(call: Call, identity: str) -> Document:
    """Final: even `published` again is refused."""
    task = task_of(call, identity)
    if task["status"] == PUBLISHED:
        text = "Invalid task status (Invalid status change)"
        raise Refusal(400, 110, text, current_status=PUBLISHED, new_status=PUBLISHED)
    fields = change(call, task, PUBLISHED, published=call.now)
    return {"updated": 1, "fields": {**fields, "output": task.get("output") or {}}}


@endpoint("tasks.publish_many", required=("ids",))
def _publish_many(call: Call) -> Document:
    return many(call, lambda identity: publish(call, identity))


@endpoint("tasks.stop", required=("task",))
def _stop(call: Call) -> Document:
    return stop(call, call.text("task"))


def stop(call: Call, identity: str) -> Document:
    """A running task with a lively worker is asked (`stopping`); any other is stopped at once.

    A waiting one leaves its queue; an entry that a running one left behind stays.
    """
    task = task_of(call, identity)
    asked = (
        task["status"] == "in_progress"
        and bool(task.get("last_worker"))
        and "development" not in (task.get("system_tags") or ())
        and seconds_since(task.get("last_update"), call.now) < LIVELY_SECONDS
    )
    if asked:
        call.data["status_message"] = "stopping"
        return {"updated": 1, "fields": change(call, task, "in_progress")}
    if task["status"] == "queued":
        call.store.remove_from_queues(identity)
    call.data.setdefault("status_message", f"Stopped by {USER}")
    return {"updated": 1, "fields": change(call, task, "stopped")}


@endpoint("tasks.stop_many", required=("ids",))
def _stop_many(call: Call) -> Document:
    return many(call, lambda identity: stop(call, identity))


@endpoint("tasks.ping", required=("task",))
def _ping(call: Call) -> Document:
    task = call.store.get("task", call.text("task"))
    if task is not None:
        tick(call, task)
        call.store.put("task", task)
    return {}


@endpoint("tasks.reset", required=("task",))
def _reset(call: Call) -> Document:
    answer = reset(call, call.text("task"))
    return {**answer, "dequeued": {"removed": 1} if answer["dequeued"] else {}, "events": {}}


_OF_A_RUN = (
    "started", "completed", "published", "last_worker", "last_worker_report", "enqueue_status", "active_duration",
    "execution.queue",
)  # fmt: skip


def reset(call: Call, identity: str) -> Document:
    """Back to a draft: results, runtime and events go, the definition stays."""
    task = task_of(call, identity)
    if task["status"] == PUBLISHED and not call.flag("force"):
        raise Refusal(400, 110, "Invalid task status", task_id=identity, status=PUBLISHED)
    waited = call.store.remove_from_queues(identity) > 0 and task["status"] == "queued"
    call.store.delete_events(identity)
    artifacts = [one for one in task["execution"].get("artifacts") or [] if one.get("mode") == "input"]
    task["models"] = {**(task.get("models") or {}), "output": []}
    task["execution"] = {**task["execution"], "artifacts": artifacts}
    empty: Document = {"runtime": {}, "last_iteration": 0, "last_metrics": {}, "unique_metrics": [], "metric_stats": {}}
    set_fields(task, {**dict.fromkeys(_OF_A_RUN), **empty})
    call.data.update(force=True, status_reason="reset", status_message="reset")
    fields = change(call, task, "created")
    return {"updated": 1, "fields": fields, "dequeued": waited, "deleted_models": 0, "urls": {}}


@endpoint("tasks.reset_many", required=("ids",))
def _reset_many(call: Call) -> Document:
    return many(call, lambda identity: reset(call, identity))


def watchdog(call: Call) -> int:
    """Stop running tasks that were silent for two hours; how many."""
    silent = 0
    for task in call.store.find("task", status="in_progress"):
        if seconds_since(task.get("last_update"), call.now) > WATCHDOG_SECONDS:
            why = "Forced stop (non-responsive)"
            call.data = {"status_reason": why, "status_message": why}
            change(call, task, "stopped", completed=call.now)
            silent += 1
    return silent
