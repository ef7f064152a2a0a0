"""Which of the settings' rules hold for a task: by type, tags, project with its sub-projects, user and queue. Pure.

A project's name is its whole path, as the server has it: a rule for `Vision` holds for `Vision` and `Vision/Detect`,
not for `Visions` nor for `Old/Vision`. A rule by id holds for the projects below it too (the server's `path`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from clearml_api.models import Task
from controller.settings import Settings
from controller.settings_queue import RuleCondition, RuleSettings


@dataclass(frozen=True)
class Answer:
    """Whether one rule holds, and why."""

    index: int
    rule: RuleSettings
    holds: bool
    why: str
    """The condition that decided: each that is met, or the first that is not."""


def holding(settings: Settings, task: Task, queue_name: str) -> Iterator[tuple[int, RuleSettings]]:
    """The rules that hold, with their places, in the order of the file."""
    for index, rule in enumerate(settings.rules):
        if all(met for _, _, _, met in _conditions(rule.when, task, queue_name)):
            yield index, rule


def answers(settings: Settings, task: Task, queue_name: str) -> list[Answer]:
    """What each rule says to a task, for a person."""
    found = []
    for index, rule in enumerate(settings.rules):
        asked = _conditions(rule.when, task, queue_name)
        missed = [one for one in asked if not one[3]]
        told = "; ".join(f"{name} {_shown(wanted)}: the task's is {_shown(own)}" for name, wanted, own, _ in
                         (missed[:1] or asked))  # fmt: skip
        found.append(Answer(index, rule, not missed, told))
    return found


def ask_names(settings: Settings) -> bool:
    """Whether some rule names projects or users: then tasks are read with the names of theirs."""
    return any(rule.when.projects or rule.when.users for rule in settings.rules)


def _conditions(
    when: RuleCondition, task: Task, queue_name: str
) -> list[tuple[str, Sequence[str], Sequence[str], bool]]:
    """Each condition that is given: its key, what it wants, what the task has, whether they meet."""
    project = [one for one in (task.project_name, task.project) if one]
    above = {task.project, *task.project_path} - {""}
    name = f"{task.project_name}/" if task.project_name else ""
    in_project = any(one in above or (name and name.startswith(one.rstrip("/") + "/")) for one in when.projects)
    user = [one for one in (task.user_name, task.user) if one]
    return [
        (name, wanted, own, met)
        for name, wanted, own, met in (
            ("types", when.types, (task.type,), task.type in when.types),
            ("tags", when.tags, task.tags, bool({*when.tags} & {*task.tags})),
            ("projects", when.projects, project, bool(in_project)),
            ("users", when.users, user, bool({*when.users} & {*user})),
            ("queues", when.queues, (queue_name,), any(fnmatchcase(queue_name, one) for one in when.queues)),
        )
        if wanted
    ]


def _shown(names: Sequence[str]) -> str:
    return " or ".join(repr(name) for name in names) or "none"
