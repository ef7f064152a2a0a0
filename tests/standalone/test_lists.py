"""Lists: what a request may ask for, and the shape of what it gets; the same on the real server and on ours."""

from __future__ import annotations

from typing import Any

import pytest

from clearml_api import queues
from clearml_api.session import Session
from tests.standalone.calls import name, new, refused


@pytest.fixture(scope="module")
def project(api: Session) -> str:
    """A project with three tasks: aa (tags x, y), bb (x), cc (archived, child of aa)."""
    project = str(api.call("projects.create", {"name": name("lists"), "description": ""})["id"])
    first = new(api, project=project, name="list aa", tags=["x", "y"])
    new(api, project=project, name="list bb", tags=["x"])
    new(api, project=project, name="list cc", parent=first, system_tags=["archived"])
    return project


def listed(api: Session, project: str, **payload: Any) -> str:
    """The tasks' last letters, in the order of names."""
    asked = {"project": [project], "only_fields": ["name"], "order_by": ["name"], **payload}
    return "".join(one["name"][-1] for one in api.call("tasks.get_all", asked)["tasks"])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, "abc"),
        ({"tags": ["x"]}, "ab"),
        ({"tags": ["__$all", "x", "y"]}, "a"),
        ({"tags": ["__$or", "x", "y"]}, "ab"),
        ({"tags": ["-x"]}, "c"),
        ({"system_tags": ["-archived"]}, "ab"),
        ({"system_tags": ["archived"]}, "c"),
        ({"system_tags": ["__$all", "__$not", "archived"]}, "ab"),
        ({"filters": {"tags": {"any": {"include": ["y"]}}}}, "a"),
        ({"filters": {"tags": {"all": {"include": ["x"], "exclude": ["y"]}}}}, "b"),
        ({"status": ["created"]}, "abc"),
        ({"status": ["-created"]}, ""),
        ({"type": ["testing"]}, ""),
        ({"name": "list a"}, "a"),
        ({"name": "LIST"}, ""),
        ({"name": "b$"}, "b"),
        ({"_any_": {"pattern": "LIST B", "fields": ["name", "id"]}}, "b"),
        ({"_all_": {"pattern": "list b", "fields": ["name", "id"]}}, ""),
        ({"page": 0, "page_size": 2}, "ab"),
        ({"page": 1, "page_size": 2}, "c"),
        ({"page_size": 2}, "ab"),
        ({"page": 1}, ""),
        ({"order_by": ["-name"]}, "cba"),
        ({"last_update": ["2020-01-01T00:00:00", "2021-01-01T00:00:00"]}, ""),
    ],
)
def test_filters(api: Session, project: str, asked: dict[str, Any], expected: str) -> None:
    assert listed(api, project, **asked) == expected


def test_scrolling(api: Session, project: str) -> None:
    asked = {"project": [project], "only_fields": ["name"], "order_by": ["name"], "size": 2, "scroll_id": None}
    first = api.call("tasks.get_all", asked)
    second = api.call("tasks.get_all", {**asked, "scroll_id": first["scroll_id"]})
    assert [one["name"] for one in first["tasks"] + second["tasks"]] == ["list aa", "list bb", "list cc"]


@pytest.mark.parametrize(
    ("endpoint", "asked", "expected"),
    [
        ("tasks.get_all", {"only_fields": ["nope"]}, (400, 14)),
        ("tasks.get_all", {"order_by": ["nope"], "only_fields": ["name"]}, (400, 14)),
        ("tasks.get_all", {"only_fields": ["project.name"]}, (400, 14)),
        ("queues.get_all", {"only_fields": ["workers"]}, (400, 14)),
        ("models.get_all", {"only_fields": ["task.name"]}, (400, 14)),
        ("projects.get_all", {"only_fields": ["stats"]}, (400, 14)),
        ("tasks.get_all", {"name": "("}, (400, 21)),
        ("tasks.get_by_id_ex", {}, (400, 11)),
    ],
)
def test_lists_that_are_refused(api: Session, endpoint: str, asked: dict[str, Any], expected) -> None:
    assert refused(api, endpoint, asked) == expected


def test_fields_that_a_task_does_not_have(api: Session) -> None:
    task = new(api)
    fields = ["status", "execution.queue", "hyperparams.Args.x", "runtime.k", "last_worker", "parent", "models.input"]
    assert api.call("tasks.get_all", {"id": [task], "only_fields": fields})["tasks"] == [
        {"status": "created", "execution": {}, "hyperparams": {}, "runtime": {}, "models": {"input": []}}
    ]


def test_references_are_followed_only_in_the_ex_list(api: Session, project: str) -> None:
    asked = {"project": [project], "only_fields": ["project.name", "parent.name", "user.name"], "order_by": ["-name"]}
    found = api.call("tasks.get_all_ex", asked)["tasks"][0]
    assert found["parent"]["name"] == "list aa"
    assert found["project"]["id"] == project
    assert found["project"]["name"].startswith("lists")
    assert found["user"]["name"]


def test_a_lists_inner_fields(api: Session) -> None:
    queue = queues.create(api, name("inner"))
    task = new(api)
    api.call("tasks.enqueue", {"task": task, "queue": queue})
    found = api.call("queues.get_all", {"id": [queue], "only_fields": ["entries.task"]})["queues"]
    assert found == [{"entries": [{"task": task}]}]
    full = api.call("queues.get_all_ex", {"id": [queue]})["queues"][0]
    assert full["entries"][0]["task"]["id"] == task


def test_only_one_task_tells_its_unique_metrics(api: Session) -> None:
    task = new(api)
    assert "unique_metrics" in api.call("tasks.get_by_id", {"task": task})["task"]
    assert "unique_metrics" not in api.call("tasks.get_all", {"id": [task]})["tasks"][0]
    assert "enqueue_status" not in api.call("tasks.get_by_id", {"task": task})["task"]


def test_projects_count_what_is_not_archived(api: Session, project: str) -> None:
    asked = {"id": [project], "include_stats": True}
    stats = api.call("projects.get_all_ex", asked)["projects"][0]["stats"]["active"]
    assert (stats["total_tasks"], stats["status_count"]["created"], stats["status_count"]["queued"]) == (2, 2, 0)
    assert refused(api, "projects.delete", {"project": project}) == (400, 402)


def test_a_projects_parents_are_made_with_it(api: Session) -> None:
    top = name("top")
    low = api.call("projects.create", {"name": f"{top}/mid/low", "description": ""})["id"]
    found = api.call("projects.get_by_id", {"project": low})["project"]
    names = {one["id"]: one["name"] for one in api.call("projects.get_all", {"name": f"^{top}"})["projects"]}
    assert [names[identity] for identity in found["path"]] == [top, f"{top}/mid"]
    assert names[found["parent"]] == f"{top}/mid"
    assert refused(api, "projects.create", {"name": f"{top}/mid/low", "description": ""}) == (400, 801)
