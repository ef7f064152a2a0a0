"""Tasks: made, read, copied, deleted. Their life from queue to end stands in `task_life`, their fields in
`task_fields`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from standalone.known_fields import check
from standalone.many import many
from standalone.project_tree import ensure, moved_to
from standalone.projection import base_fields, expanded, project
from standalone.query import candidates, scroll, select
from standalone.store import Document
from standalone.wire import COMPANY, USER, Call, Refusal, check_name, endpoint, invalid, new_id

TYPES = (
    "training", "testing", "inference", "data_processing", "application", "monitor", "controller", "optimizer",
    "service", "qc", "custom", "dataset", "report", "import", "annotation", "annotation_manual",
)  # fmt: skip
PUBLISHED = "published"
REFERENCES = {
    "company": "company", "user": "user", "project": "project", "parent": "task", "execution.queue": "queue",
    "models.input.model": "model", "models.output.model": "model",
}  # fmt: skip
EDITABLE = (
    "name", "tags", "system_tags", "type", "comment", "parent", "project", "output_dest", "execution", "hyperparams",
    "configuration", "script", "container", "models", "runtime", "input", "report", "output",
)  # fmt: skip


def task_of(call: Call, identity: str) -> Document:
    """The task. Raises Refusal 101."""
    found = call.store.get("task", identity)
    if found is None:
        raise Refusal(400, 101, "Invalid task id", id=identity, company=COMPANY)
    return found


def known(call: Call, ids: list[str]) -> list[Document]:
    """The ids' tasks, in their order. Raises Refusal 101 naming the ids that are none."""
    found = [(identity, call.store.get("task", identity)) for identity in ids]
    strangers = [identity for identity, task in found if task is None]
    if strangers:
        raise Refusal(400, 101, "Invalid task id", ids=f"({', '.join(strangers)})")
    return [task for _, task in found if task is not None]


def shown(task: Document, *, single: bool = False) -> Document:
    """A task as answers give it: without what is only ours to know; `unique_metrics` only where one is asked for."""
    hidden = ("enqueue_status",) if single else ("enqueue_status", "unique_metrics")
    return {key: value for key, value in task.items() if key not in hidden}


def check_references(call: Call, fields: Mapping[str, Any]) -> None:
    """Project and parent must be there. Raises Refusal 16."""
    for field, kind in (("project", "project"), ("parent", "task")):
        identity = fields.get(field)
        if identity and call.store.get(kind, str(identity)) is None:
            text = f"Invalid value for fields (expecting {kind.capitalize()} id)"
            raise Refusal(400, 16, text, id=identity, field=field)


def new_task(call: Call, fields: Mapping[str, Any]) -> Document:
    """A task document with every field that the server always gives."""
    check_references(call, fields)
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
    """Give sub-documents the fields that clients rely on; parameters of old clients become hyper-parameters."""
    task["execution"] = {
        "test_split": 0,
        "parameters": {},
        "model_desc": {},
        "model_labels": {},
        "artifacts": [],
        **(task.get("execution") or {}),
    }
    for name, value in (task["execution"].get("parameters") or {}).items():
        row = {"section": "Args", "name": name, "value": value, "type": "legacy"}
        task["hyperparams"] = {**task["hyperparams"], "Args": {**task["hyperparams"].get("Args", {}), name: row}}
    task["execution"]["parameters"] = {}
    task["execution"]["artifacts"] = [artifact(row) for row in task["execution"]["artifacts"] or []]
    task["models"] = {"input": [], "output": [], **(task.get("models") or {})}
    script = task.get("script") or {}
    task["script"] = {
        "binary": "python", "repository": "", "entry_point": "", "requirements": {},
        **{key: value for key, value in script.items() if value is not None},
    }  # fmt: skip


def artifact(row: Mapping[str, Any]) -> Document:
    """An artifact with what the server adds."""
    given = {key: value for key, value in row.items() if value is not None}
    return {"mode": "output", "display_data": [], **given}


def check_type(kind: str) -> str:
    """A type that the server knows."""
    if kind not in TYPES:
        raise invalid(f"error for field 'type': value '{kind}' is not a valid choice..")
    return kind


def reached(call: Call, task: Document) -> None:
    """Raise the task's `last_iteration` to the request's `iteration`, where it names one; written."""
    if call.data.get("iteration") is not None:
        top = max(task.get("last_iteration") or 0, call.number("iteration", 0))
        call.store.put("task", {**task, "last_iteration": top})


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
        raise Refusal(400, 101, "Invalid task id", ids=f"({call.text('task')})")
    return {"task": shown(found, single=True)}


@endpoint("tasks.get_by_id_ex")
def _get_by_id_ex(call: Call) -> Document:
    if not call.texts("id"):
        raise Refusal(400, 11, "Missing required fields", missing="(id)")
    return _get_all_ex(call)


@endpoint("tasks.get_all")
def _get_all(call: Call) -> Document:
    only = call.texts("only_fields")
    check("task", [*only, *call.texts("order_by")], REFERENCES, follow=False)
    found = select(call, candidates(call.store, "task", call.data))
    return {"tasks": [project(task if only else shown(task), only) for task in found], **scroll(call)}


@endpoint("tasks.get_all_ex")
def _get_all_ex(call: Call) -> Document:
    check("task", [*call.texts("only_fields"), *call.texts("order_by")], REFERENCES, follow=True)
    found = select(call, candidates(call.store, "task", call.data))
    fields = base_fields(call, REFERENCES)
    rows = [expanded(call, task if fields else shown(task), REFERENCES) for task in found]
    return {"tasks": [project(row, fields, with_id=True) for row in rows], **scroll(call)}


@endpoint("reports.get_all_ex")
def _get_reports(call: Call) -> Document:
    call.data["type"] = ["report"]
    return _get_all_ex(call)


@endpoint("tasks.get_types")
def _get_types(call: Call) -> Document:
    return {"types": sorted({task["type"] for task in call.store.find("task", project=call.texts("projects") or None)})}


@endpoint("tasks.clone", required=("task",))
def _clone(call: Call) -> Document:
    """A new task from an old one's definition: status, results and events stay behind."""
    source = call.store.get("task", call.text("task"))
    if source is None:
        raise Refusal(400, 101, "Invalid task id", id=call.text("task"))
    parent = call.text("new_task_parent")
    if parent and call.store.get("task", parent) is None:
        raise Refusal(400, 101, "Invalid task id (invalid parent)", parent=parent)
    fields = {key: source.get(key) for key in EDITABLE if key not in ("runtime", "output", "models", "report")}
    fields["output_dest"] = (source.get("output") or {}).get("destination")
    fields["models"] = {"input": (source.get("models") or {}).get("input", [])}
    execution = {key: value for key, value in (source.get("execution") or {}).items() if key != "queue"}
    execution["artifacts"] = [one for one in execution.get("artifacts") or [] if one.get("mode") == "input"]
    fields["execution"] = execution
    fields["system_tags"] = [tag for tag in source.get("system_tags") or [] if tag not in ("development", "archived")]
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
    return delete(call, task)


@endpoint("tasks.delete_many", required=("ids",))
def _delete_many(call: Call) -> Document:
    return many(call, lambda identity: delete(call, task_of(call, identity)))


def delete(call: Call, task: Document) -> Document:
    """Remove a task with its events and queue entries. One that has run wants `force` or must be archived."""
    free = task["status"] == "created" or "archived" in (task.get("system_tags") or ())
    if not free and not call.flag("force"):
        text = "Task cannot be deleted (due to status, use force=True)"
        raise Refusal(400, 123, text, task=task["id"], expected="created", current=task["status"])
    children = list(call.store.find("task", parent=task["id"]))
    for child in children:
        call.store.put("task", {**child, "parent": f"__DELETED__{task['id']}"})
    call.store.remove_from_queues(task["id"])
    call.store.delete_events(task["id"])
    call.store.delete("task", task["id"])
    return {"deleted": True, "updated_children": len(children), "updated_models": 0, "deleted_models": 0, "urls": None}


@endpoint("tasks.archive", required=("tasks",))
def _archive(call: Call) -> Document:
    return {"archived": len([archive(call, identity) for identity in call.texts("tasks")])}


@endpoint("tasks.archive_many", required=("ids",))
def _archive_many(call: Call) -> Document:
    return many(call, lambda identity: archive(call, identity))


def archived_tags(document: Document, *, archived: bool) -> list[str]:
    """Its system tags with or without the one that puts it away."""
    tags = [tag for tag in document["system_tags"] if tag != "archived"]
    return [*tags, "archived"] if archived else tags


def archive(call: Call, identity: str) -> Document:
    """Put away; a waiting task leaves its queue, one that runs is stopped (measured on the real server)."""
    task = task_of(call, identity)
    fields: Document = {"status_message": call.text("status_message"), "status_reason": call.text("status_reason")}
    call.store.remove_from_queues(identity)
    if task["status"] == "queued":
        fields["status"] = task.pop("enqueue_status", None) or "created"
    elif task["status"] == "in_progress":
        fields |= {"status": "stopped", "status_changed": call.now}
    fields["system_tags"] = archived_tags(task, archived=True)
    call.store.put("task", {**task, **fields, "last_change": call.now})
    return {"archived": True}


@endpoint("tasks.unarchive_many", required=("ids",))
def _unarchive_many(call: Call) -> Document:
    def unarchive(identity: str) -> Document:
        task = task_of(call, identity)
        tags = archived_tags(task, archived=False)
        call.store.put("task", {**task, "system_tags": tags, "last_change": call.now})
        return {"unarchived": True}

    return many(call, unarchive)


@endpoint("tasks.move", required=("ids",))
def _move(call: Call) -> Document:
    target = moved_to(call)
    for task in call.store.find("task", id=call.texts("ids")):
        call.store.put("task", {**task, "project": target, "last_change": call.now})
    return {"project_id": target}
