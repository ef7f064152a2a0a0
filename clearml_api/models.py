"""Frozen views of what the server answers: only the fields that podstrap uses, each with its type made sure.

The server's answers are input like any other: a field that is missing or of another kind reads as empty, never as
a crash later on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from protocol.claim import RUNTIME_KEY, Claim

ENDED = ("completed", "failed", "stopped", "published", "publishing", "closed")
"""The statuses of a task that runs no more and waits nowhere."""
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Script:
    """What a task runs. A `repository` may be empty: then `diff` is the whole script or notebook."""

    repository: str = ""
    branch: str = ""
    commit: str = ""
    tag: str = ""
    entry_point: str = ""
    working_dir: str = ""
    binary: str = ""
    diff: str = ""
    requirements: Mapping[str, Any] = field(default_factory=dict)
    """`pip`, `org_pip`, `conda`: each a text or a list of lines."""


@dataclass(frozen=True)
class Container:
    """The container that the task asks for."""

    image: str = ""
    arguments: str = ""
    """docker run's arguments as one string."""
    setup_shell_script: str = ""


@dataclass(frozen=True)
class Task:
    """One task. Status is one of created, queued, in_progress, completed, failed, stopped, published, …"""

    id: str
    name: str = ""
    type: str = ""
    status: str = ""
    status_message: str = ""
    status_reason: str = ""
    project: str = ""
    project_name: str = ""
    """Whole, as `Vision/Detect`; empty when it was not asked for (tasks.NAMES)."""
    project_path: tuple[str, ...] = ()
    """Ids of the projects above its own; likewise."""
    user: str = ""
    user_name: str = ""
    parent: str = ""
    tags: tuple[str, ...] = ()
    system_tags: tuple[str, ...] = ()
    queue: str = ""
    """The queue's id of `execution.queue`."""
    script: Script = field(default_factory=Script)
    container: Container = field(default_factory=Container)
    runtime: Mapping[str, Any] = field(default_factory=dict)
    hyperparams: Mapping[str, Any] = field(default_factory=dict)
    last_worker: str = ""
    status_changed: datetime = EPOCH

    @property
    def claim(self) -> Claim | None:
        """Who runs it, as far as its runtime tells."""
        return Claim.from_text(self.runtime.get(RUNTIME_KEY))


@dataclass(frozen=True)
class QueueEntry:
    """A task's place in a queue."""

    task: str
    added: datetime


@dataclass(frozen=True)
class Queue:
    """A queue and its first entries, in order."""

    id: str
    name: str
    entries: tuple[QueueEntry, ...] = ()


def task_of(raw: Mapping[str, Any]) -> Task:
    """A task of `tasks.get_by_id`, `tasks.get_all` or the like, whatever fields were asked for."""
    execution = _mapping(raw.get("execution"))
    return Task(
        id=_text(raw.get("id")),
        name=_text(raw.get("name")),
        type=_text(raw.get("type")),
        status=_text(raw.get("status")),
        status_message=_text(raw.get("status_message")),
        status_reason=_text(raw.get("status_reason")),
        project=_reference(raw.get("project")),
        project_name=_text(_mapping(raw.get("project")).get("name")),
        project_path=_texts(_mapping(raw.get("project")).get("path")),
        user=_reference(raw.get("user")),
        user_name=_text(_mapping(raw.get("user")).get("name")),
        parent=_reference(raw.get("parent")),
        tags=_texts(raw.get("tags")),
        system_tags=_texts(raw.get("system_tags")),
        queue=_reference(execution.get("queue")),
        script=_script(_mapping(raw.get("script"))),
        container=_container(_mapping(raw.get("container")), execution),
        runtime=_mapping(raw.get("runtime")),
        hyperparams=_mapping(raw.get("hyperparams")),
        last_worker=_text(raw.get("last_worker")),
        status_changed=moment(raw.get("status_changed")),
    )


def queue_of(raw: Mapping[str, Any]) -> Queue:
    """A queue of `queues.get_all`."""
    entries = raw.get("entries") or ()
    return Queue(
        id=_text(raw.get("id")),
        name=_text(raw.get("name")),
        entries=tuple(
            QueueEntry(task=_reference(entry.get("task")), added=moment(entry.get("added")))
            for entry in entries
            if isinstance(entry, Mapping) and entry.get("task")
        ),
    )


def moment(value: Any) -> datetime:
    """An aware UTC time of ClearML's ISO texts (with or without a zone); EPOCH when there is none."""
    if not isinstance(value, str) or not value:
        return EPOCH
    try:
        parsed = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        return EPOCH
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)


def _script(raw: Mapping[str, Any]) -> Script:
    return Script(
        repository=_text(raw.get("repository")).strip(),
        branch=_text(raw.get("branch")).strip(),
        commit=_text(raw.get("version_num")).strip(),
        tag=_text(raw.get("tag")).strip(),
        entry_point=_text(raw.get("entry_point")).strip(),
        working_dir=_text(raw.get("working_dir")).strip(),
        binary=_text(raw.get("binary")).strip(),
        diff=_text(raw.get("diff")),
        requirements=_mapping(raw.get("requirements")),
    )


def _container(raw: Mapping[str, Any], execution: Mapping[str, Any]) -> Container:
    image, arguments = _text(raw.get("image")).strip(), _text(raw.get("arguments")).strip()
    if not image and (command := _text(execution.get("docker_cmd")).strip()):
        # Tasks of old SDKs keep "image arguments" in one text.
        image, _, arguments = command.partition(" ")
    return Container(image, arguments.strip(), _text(raw.get("setup_shell_script")))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(item) for item in value) if isinstance(value, (list, tuple)) else ()


def _reference(value: Any) -> str:
    """An id, which `get_all_ex` gives as {id, name}."""
    return _text(value.get("id")) if isinstance(value, Mapping) else _text(value)
