"""Edits of single fields: definition, hyper-parameters, configuration, runtime, artifacts, models, requirements.

The definition of a task that is no draft may only be changed with `force` (the SDK sends it), and single parameters and
configurations of one that has ended not even so; name, tags, comment, user properties and status messages always may,
runtime keys, artifacts and models until the task has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from standalone.store import Document
from standalone.task_status import FINAL, set_fields, write
from standalone.tasks import EDITABLE, artifact, check_references, check_type, known, reached, shape, task_of
from standalone.wire import USER, Call, Refusal, bad_data, check_name, endpoint, invalid

PROPERTIES = "properties"
UPDATABLE = ("name", "tags", "system_tags", "comment", "project", "status_message", "output")


@endpoint("tasks.update", required=("task",))
def _update(call: Call) -> Document:
    """What says nothing of how the task runs, in any state."""
    return _change(call, task_of(call, call.text("task")), call.data, UPDATABLE)


@endpoint("tasks.update_batch")
def _update_batch(call: Call) -> Document:
    """`update` for each line of the request."""
    rows = [row for row in call.data["lines"] if isinstance(row, dict)]
    known(call, [str(row.get("task") or "") for row in rows])
    return {"updated": sum(_change(call, task_of(call, row["task"]), row, UPDATABLE)["updated"] for row in rows)}


@endpoint("tasks.edit", required=("task",))
def _edit(call: Call) -> Document:
    """The definition of a draft; of any task with `force`."""
    task = task_of(call, call.text("task"))
    _check_draft(call, task)
    return _change(call, task, call.data, EDITABLE)


def _change(call: Call, task: Document, data: Mapping[str, Any], allowed: Iterable[str]) -> Document:
    """Write the fields that are given and allowed; the answer shows them as they now are."""
    fields = {key: data[key] for key in allowed if data.get(key) is not None}
    if not fields:
        return {"updated": 0, "fields": {}}
    check_references(call, fields)
    if "name" in fields:
        check_name(str(fields["name"]))
    if "type" in fields:
        check_type(str(fields["type"]))
    if "output_dest" in fields:
        fields["output"] = {**task.get("output", {}), "destination": fields.pop("output_dest")}
    shown = dict(fields)
    for key in ("script", "execution", "models", "output"):
        if isinstance(fields.get(key), dict):
            fields[key] = {**(task.get(key) or {}), **fields[key]}
    if "execution" in shown and "queue" in (task.get("execution") or {}):
        fields["execution"].setdefault("queue", task["execution"]["queue"])
    stamp: Document = {"last_change": call.now, "last_changed_by": USER}
    if {"script", "execution", "hyperparams", "configuration", "models", "container", "runtime", "output"} & set(
        fields
    ):
        stamp["last_update"] = call.now
    set_fields(task, {**fields, **stamp})
    shape(task)
    call.store.put("task", task)
    return {"updated": 1, "fields": {**{key: task.get(key, shown[key]) for key in shown}, **stamp}}


@endpoint("tasks.edit_runtime", required=("task",))
def _edit_runtime(call: Call) -> Document:
    """Single keys of the runtime, escaped (`_escaped`); `tasks.edit` writes the whole dictionary as it is."""
    task = task_of(call, call.text("task"))
    _check_alive(task)
    runtime = dict(task.get("runtime") or {})
    for key in call.texts("remove"):
        runtime.pop(_escaped(key), None)
    for key, value in (call.data.get("add_or_update") or {}).items():
        runtime[_escaped(key)] = value
    write(call, task, {"runtime": runtime, "last_change": call.now, "last_update": call.now})
    return {"updated": 1}


@endpoint("tasks.edit_hyper_params", required=("task", "hyperparams"))
def _edit_hyper_params(call: Call) -> Document:
    task = task_of(call, call.text("task"))
    rows = [row for row in call.data["hyperparams"] if isinstance(row, dict)]
    sections = {str(row.get("section") or "") for row in rows}
    if sections != {PROPERTIES}:
        _check_definition(call, task)
    mode = call.text("replace_hyperparams", "none")
    found: Document = {} if mode == "all" else {name: dict(params) for name, params in task["hyperparams"].items()}
    if mode == "section":
        found = {name: params for name, params in found.items() if name not in sections}
    for row in rows:
        section, name = str(row.get("section") or ""), str(row.get("name") or "")
        if not section or not name:
            raise bad_data("hyperparams: section and name are required")
        found.setdefault(section, {})[name] = {key: row[key] for key in row if row[key] is not None}
    write(call, task, {"hyperparams": found, "last_change": call.now, "last_update": call.now})
    return {"updated": 1}


@endpoint("tasks.delete_hyper_params", required=("task", "hyperparams"))
def _delete_hyper_params(call: Call) -> Document:
    task = task_of(call, call.text("task"))
    if {str(row.get("section") or "") for row in call.data["hyperparams"]} != {PROPERTIES}:
        _check_definition(call, task)
    found = {name: dict(params) for name, params in task["hyperparams"].items()}
    for row in call.data["hyperparams"]:
        section, name = str(row.get("section") or ""), row.get("name")
        if name is None:
            found.pop(section, None)
        else:
            found.get(section, {}).pop(str(name), None)
    write(call, task, {"hyperparams": found, "last_change": call.now})
    return {"deleted": 1}


@endpoint("tasks.get_hyper_params", required=("tasks",))
def _get_hyper_params(call: Call) -> Document:
    rows = []
    for task in known(call, call.texts("tasks")):
        params = [row for section in task["hyperparams"].values() for row in section.values()]
        rows.append({"task": task["id"], "hyperparams": params})
    return {"params": rows}


@endpoint("tasks.edit_configuration", required=("task", "configuration"))
def _edit_configuration(call: Call) -> Document:
    task = task_of(call, call.text("task"))
    _check_definition(call, task)
    found: Document = {} if call.flag("replace_configuration") else dict(task["configuration"])
    for row in call.data["configuration"]:
        found[str(row.get("name") or "")] = {key: row[key] for key in row if row[key] is not None}
    write(call, task, {"configuration": found, "last_change": call.now})
    return {"updated": 1}


@endpoint("tasks.delete_configuration", required=("task", "configuration"))
def _delete_configuration(call: Call) -> Document:
    task = task_of(call, call.text("task"))
    _check_definition(call, task)
    gone = set(call.texts("configuration"))
    found = {name: row for name, row in task["configuration"].items() if name not in gone}
    write(call, task, {"configuration": found, "last_change": call.now})
    return {"deleted": 1}


@endpoint("tasks.get_configurations", required=("tasks",))
def _get_configurations(call: Call) -> Document:
    names = set(call.texts("names"))
    rows = []
    for task in known(call, call.texts("tasks")):
        wanted = [row for name, row in task["configuration"].items() if not names or name in names]
        rows.append({"task": task["id"], "configuration": wanted})
    return {"configurations": rows}


@endpoint("tasks.get_configuration_names", required=("tasks",))
def _get_configuration_names(call: Call) -> Document:
    found = [(task["id"], sorted(task["configuration"])) for task in known(call, call.texts("tasks"))]
    return {"configurations": [{"task": identity, "names": names} for identity, names in found if names]}


@endpoint("tasks.set_requirements", required=("task", "requirements"))
def _set_requirements(call: Call) -> Document:
    task = task_of(call, call.text("task"))
    script = {**(task.get("script") or {}), "requirements": call.data["requirements"]}
    write(call, task, {"script": script, "last_change": call.now, "last_update": call.now})
    return {"updated": 1, "fields": {}}


@endpoint("tasks.add_or_update_artifacts", required=("task", "artifacts"))
def _add_or_update_artifacts(call: Call) -> Document:
    task = task_of(call, call.text("task"))
    _check_alive(task)

    found = {_artifact_key(row): row for row in task["execution"].get("artifacts") or []}
    for row in call.data["artifacts"]:
        found[_artifact_key(row)] = artifact(row)
    write(call, task, {"execution.artifacts": list(found.values()), "last_update": call.now})
    return {"updated": 1}


@endpoint("tasks.delete_artifacts", required=("task", "artifacts"))
def _delete_artifacts(call: Call) -> Document:
    task = task_of(call, call.text("task"))
    _check_alive(task)
    gone = {_artifact_key(row) for row in call.data["artifacts"]}
    kept = [row for row in task["execution"].get("artifacts") or [] if _artifact_key(row) not in gone]
    write(call, task, {"execution.artifacts": kept, "last_update": call.now})
    return {"deleted": 1}


def _artifact_key(row: Document) -> tuple[Any, Any]:
    return row.get("key"), row.get("mode") or "output"


@endpoint("tasks.add_or_update_model", required=("task", "name", "type", "model"))
def _add_or_update_model(call: Call) -> Document:
    def put(rows: list[Document]) -> list[Document]:
        row = {"name": call.text("name"), "model": call.text("model"), "updated": call.now}
        return [*(one for one in rows if one.get("name") != row["name"]), row]

    if call.text("type") not in ("input", "output"):
        raise invalid(f"error for field 'type': value '{call.text('type')}' is not a valid choice..")
    if call.data.get("iteration") is not None:
        reached(call, task_of(call, call.text("task")))
    return _models(call, call.text("type"), put)


@endpoint("tasks.delete_models", required=("task", "models"))
def _delete_models(call: Call) -> Document:
    answer: Document = {"updated": 1}
    for kind in ("input", "output"):
        gone = {row.get("name") for row in call.data["models"] if row.get("type") == kind}
        answer = _models(call, kind, lambda rows, gone=gone: [row for row in rows if row.get("name") not in gone])  # type: ignore[misc]
    return answer


def _models(call: Call, kind: str, edit: Callable[[list[Document]], list[Document]]) -> Document:
    task = task_of(call, call.text("task"))
    _check_alive(task)
    models = {**task["models"], kind: edit(list(task["models"].get(kind) or []))}
    write(call, task, {"models": models, "last_update": call.now})
    return {"updated": 1}


@endpoint(
    "tasks.make_public", "tasks.make_private", "models.make_public", "models.make_private", "projects.make_public",
    "projects.make_private", required=("ids",),
)  # fmt: skip
def _make_public(call: Call) -> Document:
    return {"updated": len(call.texts("ids"))}


def _check_draft(call: Call, task: Document) -> None:
    """Anything may be edited with `force`."""
    if task["status"] != "created" and not call.flag("force"):
        raise _no_draft(task)


def _check_definition(call: Call, task: Document) -> None:
    """A task that waits or runs is changed with `force`, one that has ended never."""
    _check_alive(task)
    _check_draft(call, task)


def _check_alive(task: Document) -> None:
    """What a run reports is taken until it has ended."""
    if task["status"] in FINAL:
        raise _no_draft(task)


def _no_draft(task: Document) -> Refusal:
    return Refusal(400, 110, "Invalid task status", expected="created", status=task["status"])


def _escaped(key: str) -> str:
    """How `edit_runtime` names a key: the database of the real server takes none of these as they are."""
    plain = key.replace("%", "%25").replace(".", "%2E").replace("$", "%24")
    return f"%{plain}" if plain.startswith("_") else plain
