"""The task calls, by name. Each is one request; facts about the real server stand where they matter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from clearml_api.errors import UNKNOWN_TASK, ApiError
from clearml_api.models import Task, task_of
from clearml_api.session import Bounds, Session
from protocol.claim import RUNTIME_KEY

FACTS = (
    "id", "name", "type", "status", "status_message", "status_reason", "project", "user", "parent", "tags",
    "system_tags", "execution.queue", "runtime", "last_worker", "status_changed",
)  # fmt: skip
"""What a controller needs to decide about a task."""
MANIFEST = (*FACTS, "container", "execution.docker_cmd", "script.binary", "hyperparams.properties")
"""What a Job's manifest is made from."""
NAMES = ("project.name", "project.path", "user.name")
"""What a task's project and user are called, and the ids above the project: `get_all_ex` follows these references in
the same request. Asked for in place of `project` and `user`."""
_PAGE = 500


def get(session: Session, task: str, *, bounds: Bounds | None = None) -> Task | None:
    """The whole task; None when the server does not know it (deleted)."""
    try:
        return task_of(session.call("tasks.get_by_id", {"task": task}, bounds=bounds).get("task") or {})
    except ApiError as error:
        if error.subcode == UNKNOWN_TASK:
            return None
        raise


def get_all(
    session: Session, ids: Iterable[str], fields: Sequence[str] = FACTS, *, bounds: Bounds | None = None
) -> dict[str, Task]:
    """Many tasks by id, `fields` only, one request per 500; an id that is missing in the answer does not exist."""
    wanted = list(dict.fromkeys(ids))
    found: dict[str, Task] = {}
    endpoint = "tasks.get_all"
    if any(field in NAMES for field in fields):
        endpoint, fields = "tasks.get_all_ex", [field for field in fields if field not in ("project", "user")]
    for start in range(0, len(wanted), _PAGE):
        payload = {
            "id": wanted[start : start + _PAGE],
            "only_fields": list(fields),
            "search_hidden": True,
            "page": 0,
            "page_size": _PAGE,
        }
        answer = session.call(endpoint, payload, bounds=bounds)
        for raw in answer.get("tasks") or ():
            task = task_of(raw)
            found[task.id] = task
    return found


def named(session: Session, task: str, *, bounds: Bounds | None = None) -> Task | None:
    """The whole task with its NAMES, in two requests; None when the server does not know it."""
    whole = get(session, task, bounds=bounds)
    names = get_all(session, [task], ("id", *NAMES), bounds=bounds).get(task) if whole else None
    if whole is None or names is None:
        return whole
    return replace(whole, project_name=names.project_name, project_path=names.project_path, user_name=names.user_name)


def claimed(session: Session, mark: str, *, bounds: Bounds | None = None) -> dict[str, Task]:
    """Tasks queued or in progress whose claim holds `mark` (Claim.home), one request per 500."""
    found: dict[str, Task] = {}
    page = 0
    while True:
        payload = {
            "_any_": {"fields": [f"runtime.{RUNTIME_KEY}"], "pattern": re.escape(mark)},
            "status": ["queued", "in_progress"],
            "only_fields": list(FACTS),
            "order_by": ["id"],
            "search_hidden": True,
            "page": page,
            "page_size": _PAGE,
        }
        raw = session.call("tasks.get_all", payload, bounds=bounds).get("tasks") or ()
        found |= {task.id: task for task in map(task_of, raw)}
        page += 1
        if len(raw) < _PAGE:
            return {name: task for name, task in found.items() if task.claim and task.claim.home == mark}


def started(session: Session, task: str, reason: str = "", *, bounds: Bounds | None = None) -> None:
    """Status in_progress. No claim: it succeeds for whoever calls it on a queued or in_progress task."""
    session.call("tasks.started", {"task": task, "status_reason": reason}, bounds=bounds)


def completed(session: Session, task: str, message: str = "", *, bounds: Bounds | None = None) -> None:
    """Status completed, from in_progress."""
    session.call("tasks.completed", _change(task, "", message), bounds=bounds)


def failed(
    session: Session,
    task: str,
    reason: str,
    message: str,
    *,
    force: bool = False,
    bounds: Bounds | None = None,
) -> None:
    """Status failed. With `force` also from queued, but then its queue entry stays: remove it too."""
    session.call("tasks.failed", {**_change(task, reason, message), "force": force}, bounds=bounds)


def stopped(session: Session, task: str, reason: str, message: str, *, bounds: Bounds | None = None) -> None:
    """Status stopped."""
    session.call("tasks.stopped", {**_change(task, reason, message), "force": True}, bounds=bounds)


def set_message(session: Session, task: str, message: str, *, bounds: Bounds | None = None) -> None:
    """Change `status_message` alone; works in any state."""
    session.call("tasks.update", {"task": task, "status_message": message}, bounds=bounds)


def ping(session: Session, task: str, *, bounds: Bounds | None = None) -> None:
    """Keep the server's watchdog from stopping a silent task (two hours without an update)."""
    session.call("tasks.ping", {"task": task}, bounds=bounds)


def enqueue(session: Session, task: str, queue: str, *, reason: str = "", bounds: Bounds | None = None) -> None:
    """Append to a queue; status queued. Raises ApiError 706 when it is queued there already."""
    session.call("tasks.enqueue", {"task": task, "queue": queue, "status_reason": reason, "force": True}, bounds=bounds)


def edit_runtime(
    session: Session,
    task: str,
    add: Mapping[str, str],
    *,
    bounds: Bounds | None = None,
) -> None:
    """Change single keys of the task's runtime (API 2.34). Raises ApiError 110 on a finished task.

    An older server does not know the call (404): there the whole dictionary is read, merged and written.
    """
    try:
        payload = {"task": task, "add_or_update": dict(add)}
        session.call("tasks.edit_runtime", payload, bounds=bounds)
    except ApiError as error:
        if error.code != 404:
            raise
        found = get(session, task, bounds=bounds)
        runtime = {**(found.runtime if found else {}), **add}
        session.call("tasks.edit", {"task": task, "runtime": runtime, "force": True}, bounds=bounds)


def set_requirements(session: Session, task: str, pip: str, original: Any, *, bounds: Bounds | None = None) -> None:
    """Record what was installed, keeping the user's own text beside it (`org_pip`), as clearml-agent does."""
    requirements = {"pip": pip, "org_pip": original}
    session.call("tasks.set_requirements", {"task": task, "requirements": requirements}, bounds=bounds)


def set_commit(session: Session, task: str, commit: str, *, bounds: Bounds | None = None) -> None:
    """Record the commit that was really checked out."""
    session.call("tasks.edit", {"task": task, "script": {"version_num": commit}, "force": True}, bounds=bounds)


def set_properties(
    session: Session, task: str, properties: Mapping[str, object], *, bounds: Bounds | None = None
) -> None:
    """Set user properties: the hyper-parameter section `properties` of the web page's Configuration tab."""
    rows = [{"section": "properties", "name": name, "value": str(value)} for name, value in properties.items()]
    session.call("tasks.edit_hyper_params", {"task": task, "hyperparams": rows, "force": True}, bounds=bounds)


def _change(task: str, reason: str, message: str) -> dict[str, Any]:
    return {"task": task, "status_reason": reason, "status_message": message}
