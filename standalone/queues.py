"""Queues: ordered tasks. Taking one out is atomic: exactly one caller gets it."""

from __future__ import annotations

from collections.abc import Callable

from standalone.known_fields import check
from standalone.projection import expanded, project
from standalone.query import select
from standalone.store import Document
from standalone.task_status import change
from standalone.wire import COMPANY, Call, Refusal, check_name, endpoint, new_id

DEFAULT_TAG = "default"


def queue_of(call: Call, identity: str) -> Document:
    """The queue. Raises Refusal 701."""
    found = call.store.get("queue", identity)
    if found is None:
        raise Refusal(400, 701, "Invalid queue id", id=identity, company=COMPANY)
    return found


def create(call: Call, name: str, tags: list[str] | None = None, system_tags: list[str] | None = None) -> str:
    """Make a queue; its id. Raises Refusal 801 when the name is taken."""
    _check_free(call, name)
    identity = new_id()
    call.store.put(
        "queue",
        {
            "id": identity,
            "name": name,
            "company": COMPANY,
            "created": call.now,
            "tags": tags or [],
            "system_tags": system_tags or [],
            "last_update": call.now,
            "metadata": {},
        },
    )
    return identity


def check_not_in(call: Call, queue: str, task: str) -> None:
    """Raises Refusal 706 when the task waits in this queue already."""
    if call.store.is_in(queue, task):
        raise Refusal(400, 706, "Failed adding task to queue since task is already queued", task=task)


def _check_free(call: Call, name: str, but: str = "") -> None:
    check_name(name)
    taken = next(call.store.find("queue", name=name), None)
    if taken and taken["id"] != but:
        text = "Value combination already exists (unique field already contains this value)"
        raise Refusal(400, 801, text, name=name, company=COMPANY)


def _not_there(queue: str, task: str) -> Refusal:
    return Refusal(400, 703, "Invalid queue id or task not in queue", task=task, id=queue, company=COMPANY)


def default(call: Call) -> Document:
    """The queue that enqueueing without a queue means; made when there is none."""
    for queue in call.store.find("queue"):
        if DEFAULT_TAG in queue["system_tags"]:
            return queue
    return queue_of(call, create(call, "default", system_tags=[DEFAULT_TAG]))


def touch(call: Call, queue: str) -> None:
    """Its content changed."""
    call.store.put("queue", {**queue_of(call, queue), "last_update": call.now})


def _with_entries(call: Call, queue: Document, most: int | None) -> Document:
    entries = [{"task": task, "added": added} for task, added in call.store.entries(queue["id"], most)]
    return {**queue, "entries": entries}


@endpoint("queues.create", required=("name",))
def _create(call: Call) -> Document:
    identity = create(call, call.text("name"), call.texts("tags"), call.texts("system_tags"))
    if metadata := call.data.get("metadata"):
        call.store.put("queue", {**queue_of(call, identity), "metadata": metadata})
    return {"id": identity}


@endpoint("queues.get_by_id", required=("queue",))
def _get_by_id(call: Call) -> Document:
    most = call.number("max_task_entries", 0) or None
    return {"queue": _with_entries(call, queue_of(call, call.text("queue")), most)}


@endpoint("queues.get_default")
def _get_default(call: Call) -> Document:
    queue = default(call)
    return {"id": queue["id"], "name": queue["name"]}


@endpoint("queues.get_all")
def _get_all(call: Call) -> Document:
    most = call.number("max_task_entries", 0) or None
    wanted = call.texts("only_fields")
    check("queue", [*wanted, *call.texts("order_by")], {"company": "company"}, follow=False)
    found = select(call, call.store.find("queue", id=call.texts("id") or None))
    needs_entries = not wanted or any(field.split(".")[0] == "entries" for field in wanted)
    full = [_with_entries(call, queue, most) if needs_entries else queue for queue in found]
    return {"queues": [project(queue, wanted) for queue in full]}


@endpoint("queues.get_all_ex")
def _get_all_ex(call: Call) -> Document:
    most = call.number("max_task_entries", 0) or None
    rows = []
    everybody = list(call.store.find("worker"))
    for queue in select(call, call.store.find("queue", id=call.texts("id") or None)):
        full = expanded(call, _with_entries(call, queue, most), {"company": "company"})
        for entry in full["entries"]:
            task = call.store.get("task", entry["task"])
            entry["task"] = {"id": entry["task"], **({"name": task["name"]} if task else {})}
        workers = [worker for worker in everybody if queue["id"] in worker.get("queues", ())]
        rows.append({**full, "workers": [{"name": worker["id"], "ip": worker.get("ip", "")} for worker in workers]})
    return {"queues": rows}


@endpoint("queues.update", required=("queue",))
def _update(call: Call) -> Document:
    queue = queue_of(call, call.text("queue"))
    fields: Document = {name: call.data[name] for name in ("name", "tags", "system_tags") if name in call.data}
    if "name" in fields:
        _check_free(call, str(fields["name"]), but=queue["id"])
    call.store.put("queue", {**queue, **fields, "last_update": call.now})
    return {"updated": 1, "fields": fields}


@endpoint("queues.delete", required=("queue",))
def _delete(call: Call) -> Document:
    queue = queue_of(call, call.text("queue"))
    waiting = call.store.entries(queue["id"])
    if waiting and not call.flag("force"):
        raise Refusal(400, 702, "Queue is not empty (use force=true to delete)", id=queue["id"])
    call.data = {"status_reason": f"Queue {queue['id']} was deleted"}
    for task, _ in waiting:
        call.store.remove_entry(queue["id"], task)
        document = call.store.get("task", task)
        if document and document["status"] == "queued":
            before = document.get("enqueue_status") or "created"
            change(call, document, before, **{"enqueue_status": None, "execution.queue": None})
    call.store.delete("queue", queue["id"])
    return {"deleted": 1}


@endpoint("queues.add_task", required=("queue", "task"))
def _add_task(call: Call) -> Document:
    queue = queue_of(call, call.text("queue"))
    check_not_in(call, queue["id"], call.text("task"))
    call.store.add_entry(queue["id"], call.text("task"), call.now)
    touch(call, queue["id"])
    return {"added": 1}


@endpoint("queues.remove_task", required=("queue", "task"))
def _remove_task(call: Call) -> Document:
    queue, task = call.text("queue"), call.text("task")
    if call.store.get("queue", queue) is None or not call.store.remove_entry(queue, task):
        raise _not_there(queue, task)
    touch(call, queue)
    return {"removed": 1}


@endpoint("queues.get_next_task", required=("queue",))
def _get_next_task(call: Call) -> Document:
    """Pop the head; with `task`, only if it is the head."""
    queue = queue_of(call, call.text("queue"))
    head = call.store.entries(queue["id"], 1)
    if not head or (call.data.get("task") and head[0][0] != call.text("task")):
        return {}
    task, added = head[0]
    call.store.remove_entry(queue["id"], task)
    touch(call, queue["id"])
    answer: Document = {"entry": {"task": task, "added": added}}
    document = call.store.get("task", task)
    if call.flag("get_task_info") and document:
        answer["task_info"] = {"company": COMPANY, "user": document["user"]}
    return answer


@endpoint("queues.peek_task", required=("queue",))
def _peek_task(call: Call) -> Document:
    head = call.store.entries(queue_of(call, call.text("queue"))["id"], 1)
    return {"task": head[0][0] if head else None}


@endpoint("queues.get_num_entries", required=("queue",))
def _get_num_entries(call: Call) -> Document:
    return {"num": call.store.count_entries(queue_of(call, call.text("queue"))["id"])}


@endpoint("queues.move_task_to_front", required=("queue", "task"))
def _move_to_front(call: Call) -> Document:
    return _move(call, lambda _order, _at: 0)


@endpoint("queues.move_task_to_back", required=("queue", "task"))
def _move_to_back(call: Call) -> Document:
    return _move(call, lambda order, _at: order - 1)


@endpoint("queues.move_task_forward", required=("queue", "task"))
def _move_forward(call: Call) -> Document:
    return _move(call, lambda _order, at: max(0, at - max(1, call.number("count", 1))))


@endpoint("queues.move_task_backward", required=("queue", "task"))
def _move_backward(call: Call) -> Document:
    return _move(call, lambda order, at: min(order - 1, at + max(1, call.number("count", 1))))


def _move(call: Call, where: Callable[[int, int], int]) -> Document:
    queue, task = call.text("queue"), call.text("task")
    order = [one for one, _ in call.store.entries(queue)]
    if task not in order:
        raise _not_there(queue, task)
    position = where(len(order), order.index(task))
    order.remove(task)
    order.insert(position, task)
    for place, one in enumerate(order):
        call.store.sql.execute("UPDATE entry SET place=? WHERE queue=? AND task=?", (place + 1, queue, one))
    touch(call, queue)
    return {"position": position}
