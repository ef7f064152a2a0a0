"""Tasks: made, read, copied, deleted. Their life from queue to end stands in `task_life`, their fields in
`task_fields`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from standalone.project_tree import ensure
from standalone.query import base_fields, candidates, expanded, project, select
from standalone.store import Document
from standalone.wire import COMPANY, USER, Call, Refusal, check_name, endpoint, invalid, new_id

TYPES = (
    "training", "testing", "inference", "data_processing", "application", "monitor", "controller", "optimizer",
    "service", "qc", "custom", "dataset", "report", "import", "annotation", "annotation_manual",
)  # fmt: skip
REFERENCES = {
    "company": "company", "user": "user", "project": "project", "parent": "task", "execution.queue": "queue",
}  # fmt: skip
EDITABLE = (
    "name", "tags", "system_tags", "type", "comment", "parent", "project", "output_dest", "execution", "hyperparams",
    "configuration", "script", "container", "models", "runtime", "input", "report", "output",
)  # fmt: skip


def task_of(call: Call, identity: str) -> Document:
    """The task. Raises Refusal 101."""
    found = call.store.get("task", identity)
    if found is None:
        raise Refusal(400, 101, f"Invalid task id: id={identity}, company={COMPANY}")
    return found


def new_task(call: Call, fields: Mapping[str, Any]) -> Document:
    """A task document with every field that the server always gives."""
    task: Document = {
        "id": new_id(),
        "company": COMPANY,
        "user": USER,
        "name": check_name(str(fields["name"])),
        "type": check_type(str(fields.get("type") or "training")),
        "status": "created",
        "created": call.now,
        "last_update": call.now,
        "last_change": call.now,
        "last_changed_by": USER,
        "tags": [],
        "system_tags": [],
        "report_assets": [],
        "output": {},
        "last_iteration": 0,
        "last_metrics": {},
        "unique_metrics": [],
        "metric_stats": {},
        "hyperparams": {},
        "configuration": {},
        "runtime": {},
        "container": {},
        **{key: copy.deepcopy(fields[key]) for key in EDITABLE if fields.get(key) is not None and key != "name"},
    }
    if output := task.pop("output_dest", None):
        task["output"] = {**task["output"], "destination": output}
    shape(task)
    return task


def shape(task: Document) -> None:
    """Give sub-documents the fields that clients rely on."""
    task["execution"] = {
        "test_split": 0,
        "parameters": {},
        "model_desc": {},
        "model_labels": {},
        "artifacts": [],
        **(task.get("execution") or {}),
    }
    task["models"] = {"input": [], "output": [], **(task.get("models") or {})}
    script = task.get("script") or {}
    task["script"] = {
        "binary": "python", "repository": "", "entry_point": "", "requirements": {},
        **{key: value for key, value in script.items() if value is not None},
    }  # fmt: skip


def check_type(kind: str) -> str:
    """A type that the server knows."""
    if kind not in TYPES:
        raise invalid(f"error for field 'type'. value '{kind}' is not a valid choice..")
    return kind


@endpoint("tasks.create", required=("name", "type"))
def _create(call: Call) -> Document:
    task = new_task(call, call.data)
    call.store.put("task", task)
    return {"id": task["id"]}


@endpoint("tasks.validate", required=("name", "type"))
def _validate(call: Call) -> Document:
    new_task(call, call.data)
    return {}


@endpoint("tasks.get_by_id", required=("task",))
def _get_by_id(call: Call) -> Document:
    found = call.store.get("task", call.text("task"))
    if found is None:
        raise Refusal(400, 101, f"Invalid task id: ids=({call.text('task')})")
    return {"task": found}


@endpoint("tasks.get_by_id_ex", required=("id",))
def _get_by_id_ex(call: Call) -> Document:
    return _get_all_ex(call)


@endpoint("tasks.get_all")
def _get_all(call: Call) -> Document:
    found = select(call, candidates(call.store, "task", call.data))
    return {"tasks": [project(task, call.texts("only_fields")) for task in found]}


@endpoint("tasks.get_all_ex", "reports.get_all_ex")
def _get_all_ex(call: Call) -> Document:
    found = select(call, candidates(call.store, "task", call.data))
    fields = base_fields(call, REFERENCES)
    return {"tasks": [project(expanded(call, task, REFERENCES), fields, with_id=True) for task in found]}


@endpoint("tasks.get_types")
def _get_types(call: Call) -> Document:
    return {"types": sorted({task["type"] for task in call.store.find("task", project=call.texts("projects") or None)})}


@endpoint("tasks.clone", required=("task",))
def _clone(call: Call) -> Document:
    """A new task from an old one's definition: status, results and events stay behind."""
    source = task_of(call, call.text("task"))
    fields = {key: source.get(key) for key in EDITABLE if key not in ("runtime", "output", "models", "report")}
    fields["models"] = {"input": (source.get("models") or {}).get("input", [])}
    execution = {key: value for key, value in (source.get("execution") or {}).items() if key != "queue"}
    execution["artifacts"] = [one for one in execution.get("artifacts") or [] if one.get("mode") == "input"]
    fields["execution"] = execution
    fields["system_tags"] = [tag for tag in source.get("system_tags") or [] if tag not in ("development", "archived")]
    hyperparams = dict(source.get("hyperparams") or {})
    hyperparams.pop("properties", None)
    fields["hyperparams"] = hyperparams
    renamed = {
        "new_task_name": "name", "new_task_comment": "comment", "new_task_tags": "tags",
        "new_task_system_tags": "system_tags", "new_task_parent": "parent", "new_task_project": "project",
        "new_task_hyperparams": "hyperparams", "new_task_configuration": "configuration",
        "new_task_container": "container", "execution_overrides": "execution_overrides",
    }  # fmt: skip
    given = {target: call.data[name] for name, target in renamed.items() if call.data.get(name) is not None}
    overrides = given.pop("execution_overrides", {})
    fields["execution"] = {**execution, **overrides}
    answer: Document = {}
    if name := call.text("new_project_name"):
        fields["project"] = ensure(call, name)
        answer["new_project"] = {"id": fields["project"], "name": name}
    task = new_task(call, {**fields, "parent": source["id"], **given})
    call.store.put("task", task)
    return {"id": task["id"], **answer}


@endpoint("tasks.delete", required=("task",))
def _delete(call: Call) -> Document:
    task = task_of(call, call.text("task"))
    if task["status"] != "created" and not call.flag("force"):
        raise Refusal(400, 123, f"Task cannot be deleted (has status {task['status']}): task={task['id']}")
    delete(call, task)
    return {"deleted": True, "updated_children": 0, "updated_models": 0, "deleted_models": 0}


@endpoint("tasks.delete_many", required=("ids",))
def _delete_many(call: Call) -> Document:
    succeeded = []
    for identity in call.texts("ids"):
        if task := call.store.get("task", identity):
            delete(call, task)
            succeeded.append({"id": identity, "deleted": True})
    return {"succeeded": succeeded, "failed": []}


def delete(call: Call, task: Document) -> None:
    """Remove a task with its events and queue entries."""
    call.store.remove_from_queues(task["id"])
    call.store.delete_events(task["id"])
    call.store.delete("task", task["id"])


@endpoint("tasks.archive", "tasks.archive_many")
def _archive(call: Call) -> Document:
    return _mark(call, archived=True)


@endpoint("tasks.unarchive", "tasks.unarchive_many")
def _unarchive(call: Call) -> Document:
    return _mark(call, archived=False)


def _mark(call: Call, *, archived: bool) -> Document:
    done = 0
    ids = call.texts("tasks", "ids")
    for task in call.store.find("task", id=ids) if ids else ():
        tags = [tag for tag in task["system_tags"] if tag != "archived"] + (["archived"] if archived else [])
        status = {"status": "created"} if archived and task["status"] == "queued" else {}
        if archived:
            call.store.remove_from_queues(task["id"])
        call.store.put("task", {**task, **status, "system_tags": tags, "last_change": call.now})
        done += 1
    name = "archived" if archived else "unarchived"
    return {name: done, "succeeded": [{"id": one, name: True} for one in ids], "failed": []}


@endpoint("tasks.move", required=("ids",))
def _move(call: Call) -> Document:
    target = call.text("project") or ensure(call, call.text("project_name"))
    for task in call.store.find("task", id=call.texts("ids")):
        call.store.put("task", {**task, "project": target, "last_change": call.now})
    return {"project_id": target}
