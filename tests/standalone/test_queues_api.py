"""Queues beyond the claim: moves, removal, what stays behind; the same on the real server and on ours."""

from __future__ import annotations

import pytest

from clearml_api import queues, tasks
from clearml_api.session import Session
from tests.standalone.calls import in_status, name, new, raw, refused, status


@pytest.fixture
def queue(api: Session) -> str:
    return queues.create(api, name("queue"))


def waiting(api: Session, queue: str) -> list[str]:
    return [entry.task for entry in next(iter(queues.get_all(api, [queue], max_entries=50))).entries]


def test_a_task_moves_by_steps_and_not_beyond_the_ends(api: Session, queue: str) -> None:
    a, b, c = (in_status(api, "queued", queue) for _ in range(3))
    for action, count, position, order in (
        ("backward", 1, 1, [b, a, c]), ("backward", 9, 2, [b, c, a]), ("forward", 1, 1, [b, a, c]),
        ("forward", 9, 0, [a, b, c]), ("to_back", 0, 2, [b, c, a]), ("to_front", 0, 0, [a, b, c]),
    ):  # fmt: skip
        payload: dict[str, object] = {"queue": queue, "task": a, **({"count": count} if count else {})}
        assert api.call(f"queues.move_task_{action}", payload) == {"position": position}
        assert waiting(api, queue) == order
    assert refused(api, "queues.move_task_to_front", {"queue": queue, "task": "0" * 32}) == (400, 703)
    assert refused(api, "queues.move_task_to_front", {"queue": "0" * 32, "task": a}) == (400, 703)


def test_head_and_length(api: Session, queue: str) -> None:
    assert api.call("queues.peek_task", {"queue": queue}) == {"task": None}
    task = in_status(api, "queued", queue)
    assert api.call("queues.peek_task", {"queue": queue}) == {"task": task}
    assert api.call("queues.get_num_entries", {"queue": queue}) == {"num": 1}
    assert api.call("queues.get_next_task", {"queue": queue, "get_task_info": True})["task_info"]["company"]


def test_add_task_puts_an_entry_and_changes_no_status(api: Session, queue: str) -> None:
    task = new(api)
    assert api.call("queues.add_task", {"queue": queue, "task": task}) == {"added": 1}
    assert refused(api, "queues.add_task", {"queue": queue, "task": task}) == (400, 706)
    assert status(api, task) == "created"


def test_names_are_unique_in_updates_too(api: Session, queue: str) -> None:
    assert refused(api, "queues.update", {"queue": queue, "name": "default"}) == (400, 801)
    assert api.call("queues.update", {"queue": queue, "tags": ["a"]})["updated"] == 1


def test_a_queue_with_tasks_wants_force_and_frees_them(api: Session, queue: str) -> None:
    task = in_status(api, "queued", queue)
    assert refused(api, "queues.delete", {"queue": queue}) == (400, 702)
    assert api.call("queues.delete", {"queue": queue, "force": True}) == {"deleted": 1}
    found = raw(api, task)
    assert (found["status"], found["status_reason"]) == ("created", f"Queue {queue} was deleted")
    assert "queue" not in found["execution"]
    assert refused(api, "queues.get_by_id", {"queue": queue}) == (400, 701)


def test_enqueue_moves_from_queue_to_queue(api: Session, queue: str) -> None:
    other = queues.create(api, name("other"))
    task = in_status(api, "queued", queue)
    tasks.enqueue(api, task, other)
    assert (waiting(api, queue), waiting(api, other)) == ([], [task])
    api.call("tasks.dequeue", {"task": task})
    assert status(api, task) == "created"
    assert waiting(api, other) == []


def test_enqueue_takes_the_tag_development(api: Session, queue: str) -> None:
    task = in_status(api, "stopped", queue, system_tags=["development", "kept"])
    assert raw(api, task)["system_tags"] == ["development", "kept"]
    tasks.enqueue(api, task, queue)
    assert raw(api, task)["system_tags"] == ["kept"]


def test_dequeue_answers_for_what_does_not_wait(api: Session, queue: str) -> None:
    nothing = {"dequeued": 1, "updated": 0, "fields": {}}
    assert api.call("tasks.dequeue", {"task": new(api)}) == nothing
    assert api.call("tasks.dequeue", {"task": "0" * 32}) == nothing
    assert api.call("tasks.dequeue", {"task": in_status(api, "completed", queue)}) == nothing
    running = in_status(api, "in_progress", queue)
    assert api.call("tasks.dequeue", {"task": running})["updated"] == 1
    assert status(api, running) == "created"


@pytest.mark.parametrize(
    ("endpoint", "payload", "stays"),
    [
        ("tasks.stop", {}, True),
        ("tasks.completed", {}, True),
        ("tasks.dequeue", {"new_status": "in_progress"}, True),
        ("tasks.reset", {}, False),
        ("tasks.delete", {"force": True}, False),
    ],
)
def test_the_entry_that_a_started_task_left_behind(api: Session, queue: str, endpoint, payload, stays) -> None:
    task = in_status(api, "queued", queue)
    tasks.started(api, task)
    assert waiting(api, queue) == [task], "starting a task takes no entry out"
    api.call(endpoint, {"task": task, **payload})
    assert waiting(api, queue) == ([task] if stays else [])


def test_archiving_takes_a_waiting_task_out(api: Session, queue: str) -> None:
    task = in_status(api, "queued", queue)
    assert api.call("tasks.archive", {"tasks": [task]}) == {"archived": 1}
    found = raw(api, task)
    assert (found["status"], found["system_tags"]) == ("created", ["archived"])
    assert waiting(api, queue) == []
