"""Rules: by project with its sub-projects, user, tag, type and queue; what each says to a task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clearml_api import tasks
from clearml_api.models import Task
from clearml_api.session import Session
from controller import rules
from controller.settings import Settings
from tests import support
from tests.controller.manifests import TASK, container_of, render

IN_DETECT = replace(
    TASK, project="d" * 32, project_name="Vision/Detect", project_path=("v" * 32,), user="u" * 32, user_name="Ada"
)


def settings_of(**when: Any) -> Settings:
    overrides = {"image": "rule:1"}
    return Settings.model_validate({"rules": [{"when": when, "templateOverrides": overrides}]})


def holds(when: dict[str, Any], task: Task = IN_DETECT, queue: str = "gpu-a100") -> bool:
    found = list(rules.holding(settings_of(**when), task, queue))
    (answer,) = rules.answers(settings_of(**when), task, queue)
    assert answer.holds == bool(found)
    image = container_of(render(task, settings_of(**when), queue_name=queue))["image"]
    assert (image == "rule:1") == bool(found), "the manifest agrees"
    return bool(found)


@pytest.mark.parametrize("project", ["Vision", "Vision/", "Vision/Detect", "d" * 32, "v" * 32])
def test_a_project_by_name_or_id_holds_for_what_lies_below_it(project: str) -> None:
    assert holds({"projects": [project]})
    assert holds({"projects": ["Other", project]})


@pytest.mark.parametrize("project", ["Visio", "Detect", "vision", "Vision/Detect/Small", "", "x" * 32])
def test_other_projects_do_not(project: str) -> None:
    assert not holds({"projects": [project]})
    assert not holds({"projects": ["Vision"]}, replace(TASK, project="x" * 32, project_name="Visions"))
    assert not holds({"projects": ["", project]}, TASK), "a task without a project is in none"


def test_users_by_name_or_id_and_queues_by_pattern() -> None:
    assert holds({"users": ["Ada"]}) and holds({"users": ["u" * 32]}) and not holds({"users": ["Bob", ""]})
    assert holds({"queues": ["gpu-*"]}) and holds({"queues": ["gpu-a100"]}) and not holds({"queues": ["gpu"]})


def test_every_condition_must_be_met() -> None:
    assert holds({"projects": ["Vision"], "users": ["Ada"]})
    assert not holds({"projects": ["Vision"], "users": ["Bob"]})


def test_an_answer_names_what_decided() -> None:
    (answer,) = rules.answers(settings_of(projects=["Vision"], types=["controller"]), IN_DETECT, "q")
    assert not answer.holds and answer.why == "types 'controller': the task's is ''"
    (answer,) = rules.answers(settings_of(projects=["Vision"]), IN_DETECT, "q")
    assert answer.holds and "'Vision'" in answer.why and "'Vision/Detect'" in answer.why


def test_names_are_asked_for_only_where_a_rule_needs_them() -> None:
    assert not rules.ask_names(settings_of(types=["controller"], queues=["a"]))
    assert rules.ask_names(settings_of(projects=["x"])) and rules.ask_names(settings_of(users=["x"]))


def test_the_server_gives_names_and_paths_in_the_same_request(api: Session) -> None:
    project = str(api.call("projects.create", {"name": "Speech/Tests/Deep", "description": ""})["id"])
    task = support.create_task(api, "named", "pass")
    api.call("tasks.move", {"ids": [task], "project": project})
    found = tasks.get_all(api, [task], (*tasks.MANIFEST, *tasks.NAMES))[task]
    assert (found.project, found.project_name) == (project, "Speech/Tests/Deep")
    assert len(found.project_path) == 2 and found.user and found.user_name
    plain = tasks.get_all(api, [task], tasks.MANIFEST)[task]
    assert (plain.project, plain.project_name) == (project, "")
    assert replace(found, project_name="", project_path=(), user_name="") == plain, "all else as without names"
    assert tasks.named(api, task) == replace(
        support.task(api, task),
        project_name=found.project_name, project_path=found.project_path, user_name=found.user_name,
    )  # fmt: skip
    for above in (*found.project_path, "Speech", "Speech/Tests"):
        assert holds({"projects": [above]}, found)
