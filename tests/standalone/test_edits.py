"""Who may change what of a task, by status: the same on the real server and on ours."""

from __future__ import annotations

import pytest

from clearml_api import queues
from clearml_api.session import Session
from tests.standalone.calls import PATHS, in_status, name, new, raw, refused, status

ROW = {"section": "Args", "name": "a", "value": "1"}
OF_A_DRAFT = {
    "tasks.edit": {"script": {"branch": "b"}},
    "tasks.edit_hyper_params": {"hyperparams": [ROW]},
    "tasks.delete_hyper_params": {"hyperparams": [{"section": "Args", "name": "a"}]},
    "tasks.edit_configuration": {"configuration": [{"name": "c", "value": "v"}]},
    "tasks.delete_configuration": {"configuration": ["c"]},
}
UNTIL_THE_END = {
    "tasks.edit_runtime": {"add_or_update": {"x": "y"}},
    "tasks.add_or_update_artifacts": {"artifacts": [{"key": "k", "type": "custom", "uri": "u"}]},
    "tasks.delete_artifacts": {"artifacts": [{"key": "k"}]},
    "tasks.delete_models": {"models": [{"name": "m", "type": "input"}]},
}
ALWAYS = {
    "tasks.update": {"comment": "c", "tags": ["t"], "status_message": "m"},
    "tasks.set_requirements": {"requirements": {"pip": "six"}},
}


@pytest.fixture(scope="module")
def queue(api: Session) -> str:
    return queues.create(api, name("edits"))


@pytest.mark.parametrize("state", list(PATHS))
def test_edits_by_status(api: Session, queue: str, state: str) -> None:
    task = in_status(api, state, queue)
    alive = state in ("created", "queued", "in_progress")
    for endpoint, payload in OF_A_DRAFT.items():
        forced = {"task": task, **payload, "force": True}
        if state == "created":
            api.call(endpoint, {"task": task, **payload})
            continue
        assert refused(api, endpoint, {"task": task, **payload}) == (400, 110), endpoint
        if alive or endpoint == "tasks.edit":
            api.call(endpoint, forced)
        else:
            assert refused(api, endpoint, forced) == (400, 110), endpoint
    for endpoint, payload in UNTIL_THE_END.items():
        if alive:
            api.call(endpoint, {"task": task, **payload})
        else:
            assert refused(api, endpoint, {"task": task, **payload, "force": True}) == (400, 110), endpoint
    for endpoint, payload in ALWAYS.items():
        assert api.call(endpoint, {"task": task, **payload})["updated"] == 1, endpoint
    found = raw(api, task)
    assert (found["comment"], found["tags"], found["status_message"]) == ("c", ["t"], "m")
    assert found["script"]["branch"] == "b"
    assert found["script"]["requirements"] == {"pip": "six"}


def test_an_edit_of_nothing_known_changes_nothing(api: Session) -> None:
    task = new(api)
    for endpoint in ("tasks.edit", "tasks.update"):
        assert api.call(endpoint, {"task": task, "bogus": 1}) == {"updated": 0, "fields": {}}
    assert api.call("tasks.update", {"task": task, "runtime": {"a": "1"}, "script": {"branch": "b"}})["updated"] == 0


def test_an_edit_tells_what_the_fields_are_now(api: Session) -> None:
    task = new(api, script={"repository": "r", "entry_point": "e.py"})
    fields = api.call("tasks.edit", {"task": task, "script": {"branch": "b"}, "runtime": {"k": "v"}})["fields"]
    assert set(fields) == {"script", "runtime", "last_change", "last_changed_by", "last_update"}
    assert (fields["script"]["repository"], fields["script"]["branch"]) == ("r", "b")


def test_what_a_task_points_to_must_be_there(api: Session) -> None:
    task = new(api)
    for field in ("project", "parent"):
        payload: dict[str, object] = {field: "0" * 32}
        assert refused(api, "tasks.create", {"name": name("x"), "type": "training", **payload}) == (400, 16)
        assert refused(api, "tasks.edit", {"task": task, **payload}) == (400, 16)
    assert refused(api, "tasks.move", {"ids": [task], "project": "0" * 32}) == (400, 401)
    assert refused(api, "projects.create", {"name": "ab", "description": ""}) == (400, 12)
    assert refused(api, "projects.create", {"name": f"{name('p')}/ab", "description": ""}) == (400, 12)


def test_artifacts_are_kept_by_key(api: Session) -> None:
    task = new(api)
    for uri in ("u1", "u2"):
        row = {"key": "k", "type": "custom", "uri": uri}
        api.call("tasks.add_or_update_artifacts", {"task": task, "artifacts": [row]})
    expected = {"key": "k", "type": "custom", "uri": "u2", "mode": "output", "display_data": []}
    assert raw(api, task)["execution"]["artifacts"] == [expected]
    api.call("tasks.delete_artifacts", {"task": task, "artifacts": [{"key": "k"}]})
    assert raw(api, task)["execution"]["artifacts"] == []


def test_parameters_of_old_clients_become_hyperparameters(api: Session) -> None:
    task = new(api, execution={"parameters": {"lr": "1"}})
    found = raw(api, task)
    assert found["execution"]["parameters"] == {}
    assert found["hyperparams"]["Args"]["lr"]["value"] == "1"


def test_hyperparameters_are_replaced_by_section(api: Session) -> None:
    other = {"section": "General", "name": "x", "value": "1"}
    task = new(api, hyperparams={"Args": {"a": ROW}, "General": {"x": other}})
    api.call("tasks.edit_hyper_params", {
        "task": task, "hyperparams": [{**other, "name": "z"}], "replace_hyperparams": "section",
    })  # fmt: skip
    found = api.call("tasks.get_hyper_params", {"tasks": [task]})["params"][0]["hyperparams"]
    assert sorted((row["section"], row["name"]) for row in found) == [("Args", "a"), ("General", "z")]
    assert refused(api, "tasks.get_hyper_params", {"tasks": ["0" * 32]}) == (400, 101)


def test_models_of_a_task(api: Session) -> None:
    task, model = new(api), api.call("models.create", {"uri": "u", "name": name("model"), "ready": False})["id"]
    one = {"task": task, "name": "out", "type": "output", "model": model}
    api.call("tasks.add_or_update_model", one)
    payload = {"id": [task], "only_fields": ["models.output.model.uri"]}
    found = api.call("tasks.get_all_ex", payload)["tasks"][0]
    assert found["models"]["output"][0]["model"] == {"id": model, "uri": "u"}
    assert refused(api, "tasks.add_or_update_model", {**one, "type": "bad"}) == (400, 12)
    api.call("tasks.delete_models", {"task": task, "models": [{"name": "out", "type": "output"}]})
    assert raw(api, task)["models"]["output"] == []


def test_a_model_is_published_once_and_with_its_task(api: Session, queue: str) -> None:
    task = in_status(api, "completed", queue)
    model = api.call("models.create", {"uri": "u", "name": name("model"), "ready": False, "task": task})["id"]
    assert api.call("models.set_ready", {"model": model})["published_task"]["id"] == task
    assert status(api, task) == "published"
    assert refused(api, "models.set_ready", {"model": model}) == (400, 203)
    assert refused(api, "models.delete", {"model": model}) == (400, 206)
    assert api.call("models.delete", {"model": model, "force": True}) == {"deleted": True, "url": "u"}


def test_clone_takes_the_definition_only(api: Session) -> None:
    rows = [{"key": "in", "type": "custom", "mode": "input"}, {"key": "out", "type": "custom", "mode": "output"}]
    properties = {"p": {"section": "properties", "name": "p", "value": "1"}}
    source = new(
        api, runtime={"r": "1"}, execution={"artifacts": rows}, hyperparams={"properties": properties},
        output_dest="file:///out", container={"image": "i"}, system_tags=["development", "kept"], comment="c",
    )  # fmt: skip
    clone = raw(api, api.call("tasks.clone", {"task": source, "new_task_name": name("clone")})["id"])
    assert [row["key"] for row in clone["execution"]["artifacts"]] == ["in"]
    assert clone["hyperparams"]["properties"]["p"]["value"] == "1"
    assert (clone["runtime"], clone["output"], clone["container"]["image"]) == ({}, {"destination": "file:///out"}, "i")
    assert (clone["system_tags"], clone["comment"], clone["parent"]) == (["kept"], "c", source)
    assert refused(api, "tasks.clone", {"task": source, "new_task_parent": "0" * 32}) == (400, 101)


def test_several_at_once_tell_which_failed(api: Session, queue: str) -> None:
    good, bad = new(api), "0" * 32
    for endpoint, word in (
        ("tasks.enqueue_many", "queued"), ("tasks.dequeue_many", "dequeued"), ("tasks.archive_many", "archived"),
        ("tasks.unarchive_many", "unarchived"), ("tasks.reset_many", "updated"), ("tasks.delete_many", "deleted"),
    ):  # fmt: skip
        extra = {"queue": queue} if endpoint == "tasks.enqueue_many" else {"force": True}
        answer = api.call(endpoint, {"ids": [good, bad], **extra})
        assert answer["succeeded"][0]["id"] == good
        assert answer["succeeded"][0][word], endpoint
        if endpoint != "tasks.dequeue_many":  # dequeueing what is not there succeeds, and changes nothing
            assert answer["failed"][0]["error"]["codes"] == [400, 101]
            assert answer["failed"][0]["error"]["data"]["id"] == bad


def test_a_deleted_parent_is_remembered(api: Session) -> None:
    parent = new(api)
    child = new(api, parent=parent)
    assert api.call("tasks.delete", {"task": parent})["updated_children"] == 1
    assert raw(api, child)["parent"] == f"__DELETED__{parent}"


def test_an_archived_task_is_deleted_without_force(api: Session, queue: str) -> None:
    task = in_status(api, "published", queue)
    assert refused(api, "tasks.delete", {"task": task}) == (400, 123)
    api.call("tasks.archive", {"tasks": [task]})
    assert api.call("tasks.delete", {"task": task})["deleted"] is True


def test_batches_of_updates(api: Session) -> None:
    import json

    ids = [new(api), new(api)]
    lines = "\n".join(json.dumps({"task": task, "comment": "c"}) for task in ids)
    assert api.send_lines("tasks.update_batch", lines.encode())["updated"] == 2
    assert [raw(api, task)["comment"] for task in ids] == ["c", "c"]
