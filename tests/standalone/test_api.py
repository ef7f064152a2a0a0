"""The API's facts, one by one (measured on the real server, API 2.34).

With CLEARML_API_HOST and keys in the environment the same tests ask that server: that is how they were proved.
"""

from __future__ import annotations

import itertools
import threading
import urllib.error
import urllib.request

import pytest

from clearml_api import events, queues, tasks
from clearml_api.errors import ApiError
from clearml_api.session import Session
from tests.standalone.calls import MOVES, PATHS, in_status, name, new, refused, status

ALLOWED = {
    "created": {"queued", "in_progress"},
    "queued": {"in_progress", "stopped"},
    "in_progress": {"stopped", "failed", "created", "completed"},
    "stopped": {"created", "failed", "queued", "in_progress", "published", "completed"},
    "failed": {"created", "stopped", "published", "queued"},
    "completed": {"published", "in_progress", "created"},
    "published": set(),
}


@pytest.fixture
def queue(api: Session) -> str:
    return queues.create(api, name("queue"))


@pytest.mark.parametrize(("before", "after"), list(itertools.product(PATHS, MOVES)))
def test_status_transitions(api: Session, queue: str, before: str, after: str) -> None:
    task = in_status(api, before, queue)
    endpoint = MOVES[after]
    payload = {"queue": queue} if endpoint == "tasks.enqueue" else {}
    if before == after == "queued":
        assert refused(api, endpoint, {"task": task, **payload}) == (400, 706)
    elif (after == before and after != "published") or after in ALLOWED[before]:
        answer = api.call(endpoint, {"task": task, **payload})
        assert answer["updated"] == 1
        assert status(api, task) == after
    else:
        assert refused(api, endpoint, {"task": task, **payload}) == (400, 110)
        assert status(api, task) == before


@pytest.mark.parametrize(
    ("endpoint", "payload", "expected"),
    [
        ("nope.nope", {}, (404, 0)),
        ("tasks.nope", {}, (404, 0)),
        ("tasks.create", {"type": "training"}, (400, 12)),
        ("tasks.create", {"name": "ab", "type": "training"}, (400, 800)),
        ("tasks.create", {"name": "abc", "type": "zz"}, (400, 12)),
        ("tasks.get_by_id", {"task": "0" * 32}, (400, 101)),
        ("tasks.get_by_id", {}, (400, 12)),
        ("queues.get_next_task", {"queue": "0" * 32}, (400, 701)),
        ("queues.remove_task", {"queue": "0" * 32, "task": "0" * 32}, (400, 703)),
        ("queues.create", {"name": "default"}, (400, 801)),
        ("events.add_batch", {}, (400, 17)),
        ("projects.get_by_id", {"project": "0" * 32}, (400, 401)),
        ("models.get_by_id", {"model": "0" * 32}, (400, 201)),
    ],
)
def test_errors_have_the_real_codes(api: Session, endpoint, payload, expected) -> None:
    if endpoint == "queues.create":
        queues.get_all(api)  # the queue default is there from the start
    assert refused(api, endpoint, payload) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, b'"result_subcode":20'),
        ({"Authorization": "Basic YTpi"}, b'"result_subcode":22'),
        ({"Authorization": "Bearer x"}, b'"result_subcode":30'),
    ],
)
def test_unauthorized_answers(server_environ, headers, expected) -> None:
    endpoint = "auth.login" if "Basic" in str(headers) else "tasks.get_all"
    request = urllib.request.Request(f"{server_environ['CLEARML_API_HOST']}/{endpoint}", b"{}", headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 401
    assert expected in caught.value.read().replace(b": ", b":")


def test_enqueue_keeps_order_and_refuses_twice(api: Session, queue: str) -> None:
    ids = [new(api) for _ in range(4)]
    for task in ids:
        tasks.enqueue(api, task, queue)
    assert refused(api, "tasks.enqueue", {"task": ids[0], "queue": queue}) == (400, 706)
    assert api.call("queues.move_task_to_front", {"queue": queue, "task": ids[2]}) == {"position": 0}
    found = next(one for one in queues.get_all(api, [queue], max_entries=10))
    assert [entry.task for entry in found.entries] == [ids[2], ids[0], ids[1], ids[3]]
    assert len(next(iter(queues.get_all(api, [queue], max_entries=2))).entries) == 2


def test_enqueue_by_name_makes_the_queue(api: Session) -> None:
    wanted = name("made")
    answer = api.call("tasks.enqueue", {"task": new(api), "queue_name": wanted})
    assert answer["queued"] == 1
    assert wanted in {one.name for one in queues.get_all(api)}


def test_get_next_task_pops_and_leaves_the_status(api: Session, queue: str) -> None:
    first, second = new(api), new(api)
    for task in (first, second):
        tasks.enqueue(api, task, queue)
    assert api.call("queues.get_next_task", {"queue": queue, "task": second}) == {}, "only the head can be popped"
    assert api.call("queues.get_next_task", {"queue": queue, "task": first})["entry"]["task"] == first
    assert api.call("queues.get_next_task", {"queue": queue})["entry"]["task"] == second
    assert api.call("queues.get_next_task", {"queue": queue}) == {}
    assert status(api, first) == "queued"


def test_remove_task_has_exactly_one_winner(api: Session, queue: str) -> None:
    for _ in range(5):
        task = new(api)
        tasks.enqueue(api, task, queue)
        won: list[bool] = []

        def race(task: str = task, won: list[bool] = won) -> None:
            won.append(queues.remove_task(api, queue, task))

        racers = [threading.Thread(target=race) for _ in range(8)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert sorted(won) == [False] * 7 + [True]
        assert status(api, task) == "queued"
        assert refused(api, "queues.remove_task", {"queue": queue, "task": task}) == (400, 703)


def test_dequeue_is_no_claim(api: Session, queue: str) -> None:
    task = new(api)
    tasks.enqueue(api, task, queue)
    for _ in range(2):
        assert api.call("tasks.dequeue", {"task": task, "new_status": "in_progress"})["updated"] == 1
    assert status(api, task) == "in_progress"
    assert refused(api, "tasks.enqueue", {"task": task, "queue": queue}) == (400, 110)
    assert api.call("tasks.enqueue", {"task": task, "queue": queue, "force": True})["queued"] == 1


def test_failed_with_force_leaves_the_queue_entry(api: Session, queue: str) -> None:
    task = new(api)
    tasks.enqueue(api, task, queue)
    assert refused(api, "tasks.failed", {"task": task}) == (400, 110)
    tasks.failed(api, task, "why", "because", force=True)
    assert [entry.task for entry in next(iter(queues.get_all(api, [queue], max_entries=9))).entries] == [task]


def test_stop_of_a_queued_task_takes_it_out(api: Session, queue: str) -> None:
    task = new(api)
    tasks.enqueue(api, task, queue)
    api.call("tasks.stop", {"task": task})
    assert status(api, task) == "stopped"
    assert next(iter(queues.get_all(api, [queue], max_entries=9))).entries == ()


def test_stop_of_a_running_task_with_a_worker_only_asks(api: Session) -> None:
    task = new(api)
    tasks.started(api, task)
    report = {"worker": name("worker"), "task": task, "timestamp": 1795810421000, "machine_stats": {}}
    api.call("workers.status_report", report)
    api.call("tasks.stop", {"task": task})
    found = tasks.get(api, task)
    assert found and (found.status, found.status_message) == ("in_progress", "stopping")
    alone = new(api)
    tasks.started(api, alone)
    api.call("tasks.stop", {"task": alone})
    assert status(api, alone) == "stopped"


def test_runtime_keys_change_singly(api: Session) -> None:
    task = new(api)
    api.call("tasks.edit_runtime", {"task": task, "add_or_update": {"one": "1", "two": "2", "a.b": "3"}})
    api.call("tasks.edit_runtime", {"task": task, "remove": ["one"], "add_or_update": {"three": "4", "_x": "5"}})
    found = tasks.get(api, task)
    assert found and dict(found.runtime) == {"two": "2", "a%2Eb": "3", "three": "4", "%_x": "5"}
    api.call("tasks.edit", {"task": task, "runtime": {"_plain": "1", "a.b": "2"}})
    found = tasks.get(api, task)
    assert found and dict(found.runtime) == {"_plain": "1", "a.b": "2"}
    tasks.started(api, task)
    tasks.completed(api, task)
    refusal = refused(api, "tasks.edit_runtime", {"task": task, "add_or_update": {"x": "y"}, "force": True})
    assert refusal == (400, 110)


def test_reset_empties_runtime_queue_and_events(api: Session, queue: str) -> None:
    task = new(api)
    tasks.enqueue(api, task, queue)
    tasks.started(api, task)
    tasks.edit_runtime(api, task, {"podstrap_claim": "x"})
    worker = name("worker")
    events.add_batch(api, [events.log_event(task, worker, 1795810421000, "line")])
    events.add_batch(api, [events.scalar_event(task, worker, 1795810421000, "loss", "train", 0.5, 7)])
    assert api.call("tasks.get_by_id", {"task": task})["task"]["last_iteration"] == 7
    api.call("tasks.reset", {"task": task})
    found = tasks.get(api, task)
    assert found and (found.status, dict(found.runtime), found.queue) == ("created", {}, "")
    assert api.call("tasks.get_by_id", {"task": task})["task"]["last_iteration"] == 0


def test_a_bad_event_does_not_fail_its_batch(api: Session) -> None:
    task = new(api)
    good = events.log_event(task, "w", 1795810421000, "line")
    answer = events.add_batch(api, [good, {**good, "task": "nope"}, {"type": "zzz", "task": task}])
    assert (answer.added, answer.errors) == (1, 2)
    assert answer.reasons == {"Invalid task id nope": 1, "Invalid event type zzz": 1}
    with pytest.raises(ApiError, match="Invalid task id nope"):
        events.add_batch(api, [{**good, "task": "nope"}])


def test_console_pages(api: Session) -> None:
    task = new(api)
    events.add_batch(api, [events.log_event(task, "w", 1795810421000 + n, f"line {n}") for n in range(6)])

    def page(**payload: object) -> list[str]:
        answer = api.call("events.get_task_log", {"task": task, "batch_size": 2, **payload})
        assert answer["total"] == 6
        return [event["msg"] for event in answer["events"]]

    def all_there() -> bool:
        return api.call("events.get_task_log", {"task": task})["total"] == 6

    from tests.support import until

    until(all_there, 10)
    assert page() == ["line 5", "line 4"]
    assert page(order="asc") == ["line 4", "line 5"]
    assert page(navigate_earlier=False) == ["line 0", "line 1"]
    assert page(navigate_earlier=False, from_timestamp=1795810421001) == ["line 2", "line 3"]
    assert page(navigate_earlier=True, from_timestamp=1795810421004) == ["line 3", "line 2"]


def test_scalars_read_back_as_32_bit_floats(api: Session) -> None:
    task = new(api)
    values = [0.1 * n for n in range(4)]
    batch = [events.scalar_event(task, "w", 1795810421000 + n, "loss", "train", v, n) for n, v in enumerate(values)]
    events.add_batch(api, batch)
    from tests.support import until

    def curve() -> dict:
        return api.call("events.scalar_metrics_iter_histogram", {"task": task}).get("loss", {}).get("train", {})

    until(lambda: len(curve().get("x", [])) == 4, 10)
    assert curve()["x"] == [0, 1, 2, 3]
    assert curve()["y"][3] == 0.30000001192092896
    raw = api.call("events.get_scalar_metric_data", {"task": task, "metric": "loss"})["events"]
    assert raw[0]["value"] == 0.30000000000000004
    last = api.call("tasks.get_by_id", {"task": task})["task"]["last_metrics"]
    facts = next(iter(next(iter(last.values())).values()))
    assert (facts["metric"], facts["variant"], facts["max_value"], facts["count"]) == ("loss", "train", values[3], 4)


def test_clone_sets_the_parent_and_drops_development(api: Session) -> None:
    source = new(api, system_tags=["development"], script={"repository": "r", "entry_point": "a.py"})
    clone = api.call("tasks.clone", {"task": source})["id"]
    found = tasks.get(api, clone)
    assert found and (found.parent, found.system_tags, found.script.repository) == (source, (), "r")
    assert found.status == "created"


def test_delete_wants_force_once_a_task_has_run(api: Session) -> None:
    task = new(api)
    tasks.started(api, task)
    tasks.completed(api, task)
    assert refused(api, "tasks.delete", {"task": task}) == (400, 123)
    assert api.call("tasks.delete", {"task": task, "force": True})["deleted"] is True
    assert tasks.get(api, task) is None


def test_lists_filter_order_and_cut(api: Session) -> None:
    project = api.call("projects.create", {"name": name("project"), "description": ""})["id"]
    ids = [new(api, project=project, tags=["red"] if n % 2 else ["blue"], type="testing") for n in range(4)]
    tasks.started(api, ids[0])

    def found(**payload: object) -> list[str]:
        return [one["id"] for one in api.call("tasks.get_all", {"project": [project], **payload})["tasks"]]

    assert set(found()) == set(ids)
    assert set(found(tags=["red"])) == {ids[1], ids[3]}
    assert set(found(tags=["-red"])) == {ids[0], ids[2]}
    assert found(status=["in_progress"]) == [ids[0]]
    assert found(order_by=["created"], page=0, page_size=2) == ids[:2]
    assert found(order_by=["-created"], page=1, page_size=3) == [ids[0]]
    cut = api.call("tasks.get_all", {"id": [ids[0]], "only_fields": ["status", "script.repository", "project"]})
    assert cut["tasks"][0] == {"status": "in_progress", "script": {"repository": ""}, "project": project}
    full = api.call("tasks.get_all_ex", {"id": [ids[0]], "only_fields": ["project.name"]})
    assert full["tasks"][0]["project"]["id"] == project


def test_message_changes_alone_in_any_state(api: Session) -> None:
    task = new(api)
    tasks.set_message(api, task, "waits for room")
    found = tasks.get(api, task)
    assert found and (found.status, found.status_message) == ("created", "waits for room")


def test_user_properties_may_be_set_on_a_finished_task(api: Session) -> None:
    task = new(api)
    tasks.started(api, task)
    tasks.completed(api, task)
    tasks.set_properties(api, task, {"seconds": 3})
    found = tasks.get(api, task)
    assert found and found.hyperparams["properties"]["seconds"]["value"] == "3"
    edit = {"task": task, "hyperparams": [{"section": "Args", "name": "a", "value": "1"}]}
    assert refused(api, "tasks.edit_hyper_params", edit) == (400, 110)
