"""Models: where a task's weights were put, with their facts."""

from __future__ import annotations

from standalone.known_fields import check
from standalone.many import many
from standalone.project_tree import moved_to
from standalone.projection import base_fields, expanded, project
from standalone.query import candidates, scroll, select
from standalone.store import Document
from standalone.task_life import publish
from standalone.tasks import PUBLISHED, archived_tags, reached, task_of
from standalone.wire import COMPANY, USER, Call, Refusal, check_name, endpoint, new_id

REFERENCES = {"company": "company", "user": "user", "project": "project", "task": "task", "parent": "model"}
FIELDS = (
    "name", "uri", "comment", "tags", "system_tags", "framework", "design", "labels", "ready", "parent", "project",
    "task", "metadata",
)  # fmt: skip


def model_of(call: Call, identity: str) -> Document:
    """The model. Raises Refusal 201."""
    found = call.store.get("model", identity)
    if found is None:
        raise Refusal(400, 201, "Invalid model id", company=COMPANY, id=identity)
    return found


def _new(call: Call, fields: Document) -> Document:
    model: Document = {
        "id": new_id(),
        "company": COMPANY,
        "user": USER,
        "created": call.now,
        "last_update": call.now,
        "last_change": call.now,
        "tags": [],
        "system_tags": [],
        "last_changed_by": USER,
        "design": {},
        "labels": {},
        "ready": True,
        "metadata": {},
        "last_iteration": 0,
        "last_metrics": {},
        **fields,
    }
    check_name(str(model.get("name") or ""))
    model["metadata"] = _metadata(model["metadata"])
    call.store.put("model", model)
    return model


@endpoint("models.create", required=("uri", "name"))
def _create(call: Call) -> Document:
    given = {key: call.data[key] for key in FIELDS if call.data.get(key) is not None}
    if call.text("task"):
        task_of(call, call.text("task"))
    return {"id": _new(call, given)["id"], "created": True}


@endpoint("models.get_by_id", required=("model",))
def _get_by_id(call: Call) -> Document:
    found = call.store.get("model", call.text("model"))
    if found is None:
        text = "Invalid model id (no such public or company model)"
        raise Refusal(400, 201, text, id=call.text("model"), company=COMPANY)
    return {"model": found}


@endpoint("models.get_by_task_id", required=("task",))
def _get_by_task_id(call: Call) -> Document:
    output = task_of(call, call.text("task"))["models"].get("output") or []
    return {"model": model_of(call, output[-1]["model"])} if output else {}


@endpoint("models.get_all")
def _get_all(call: Call) -> Document:
    check("model", [*call.texts("only_fields"), *call.texts("order_by")], REFERENCES, follow=False)
    found = select(call, candidates(call.store, "model", call.data))
    return {"models": [project(model, call.texts("only_fields")) for model in found], **scroll(call)}


@endpoint("models.get_all_ex", "models.get_by_id_ex")
def _get_all_ex(call: Call) -> Document:
    check("model", [*call.texts("only_fields"), *call.texts("order_by")], REFERENCES, follow=True)
    found = select(call, candidates(call.store, "model", call.data))
    fields = base_fields(call, REFERENCES)
    rows = [project(expanded(call, model, REFERENCES), fields, with_id=True) for model in found]
    return {"models": rows, **scroll(call)}


@endpoint("models.edit", "models.update", required=("model",))
def _edit(call: Call) -> Document:
    model = model_of(call, call.text("model"))
    fields = {key: call.data[key] for key in FIELDS if call.data.get(key) is not None}
    if "name" in fields:
        check_name(str(fields["name"]))
    if "metadata" in fields:
        fields["metadata"] = _metadata(fields["metadata"])
    task = call.store.get("task", str(model.get("task") or ""))
    if task:
        reached(call, task)
    stamp = {"last_change": call.now, "last_changed_by": USER, "last_update": call.now}
    call.store.put("model", {**model, **fields, **stamp})
    return {"updated": 1, "fields": {**fields, **stamp}}


@endpoint("models.set_ready", "models.publish", required=("model",))
def _set_ready(call: Call) -> Document:
    task = _publish(call, call.text("model"))
    return {"updated": 1, "fields": {}, **({"published_task": task} if task else {})}


@endpoint("models.publish_many", required=("ids",))
def _publish_many(call: Call) -> Document:
    return many(call, lambda identity: {"updated": True, "published_task": _publish(call, identity)})


def _publish(call: Call, identity: str) -> Document | None:
    """Make it final, and its task with it; what became of the task."""
    model = model_of(call, identity)
    if model.get("ready"):
        raise Refusal(400, 203, "Model is ready", company=COMPANY, model=identity)
    call.store.put("model", {**model, "ready": True, "last_update": call.now})
    task = call.store.get("task", str(model.get("task") or ""))
    if task is None or task["status"] == PUBLISHED or call.data.get("publish_task", True) is False:
        return None
    answer = publish(call, task["id"])
    return {"id": task["id"], "data": answer}


@endpoint("models.update_for_task", required=("task",))
def _update_for_task(call: Call) -> Document:
    """The model of a task's output, made when there is none."""
    task = task_of(call, call.text("task"))
    given = {key: call.data[key] for key in ("uri", "name", "comment", "tags", "system_tags") if call.data.get(key)}
    if override := call.text("override_model_id"):
        model = {**model_of(call, override), **given, "last_update": call.now}
        call.store.put("model", model)
        return {"id": model["id"], "created": False, "updated": 1, "fields": given}
    given.setdefault("name", task["name"])
    model = _new(call, {"task": task["id"], "project": task.get("project"), **given})
    rows = [*task["models"]["output"], {"name": "output", "model": model["id"], "updated": call.now}]
    call.store.put("task", {**task, "models": {**task["models"], "output": rows}})
    return {"id": model["id"], "created": True, "updated": 1, "fields": given}


@endpoint("models.add_or_update_metadata", required=("model", "metadata"))
def _add_metadata(call: Call) -> Document:
    model = model_of(call, call.text("model"))
    before = {} if call.flag("replace_metadata") else model.get("metadata") or {}
    call.store.put(
        "model", {**model, "metadata": {**before, **_metadata(call.data["metadata"])}, "last_update": call.now}
    )
    return {"updated": 1}


@endpoint("models.delete_metadata", required=("model", "keys"))
def _delete_metadata(call: Call) -> Document:
    model = model_of(call, call.text("model"))
    kept = {key: value for key, value in (model.get("metadata") or {}).items() if key not in call.texts("keys")}
    call.store.put("model", {**model, "metadata": kept})
    return {"updated": 1}


@endpoint("models.delete", required=("model",))
def _delete(call: Call) -> Document:
    return delete(call, call.text("model"))


@endpoint("models.delete_many", required=("ids",))
def _delete_many(call: Call) -> Document:
    return many(call, lambda identity: delete(call, identity))


def delete(call: Call, identity: str) -> Document:
    """Forget it; the file that it points to is the asker's to remove."""
    model = model_of(call, identity)
    task = call.store.get("task", str(model.get("task") or ""))
    if task and task["status"] == PUBLISHED and not call.flag("force"):
        text = "Task that created this model exists (and published, use force=True to delete)"
        raise Refusal(400, 206, text, task=task["id"])
    call.store.delete("model", identity)
    return {"deleted": True, "url": model.get("uri")}


@endpoint("models.archive_many", required=("ids",))
def _archive_many(call: Call) -> Document:
    return many(call, lambda identity: _mark(call, identity, archived=True))


@endpoint("models.unarchive_many", required=("ids",))
def _unarchive_many(call: Call) -> Document:
    return many(call, lambda identity: _mark(call, identity, archived=False))


def _mark(call: Call, identity: str, *, archived: bool) -> Document:
    model = model_of(call, identity)
    tags = archived_tags(model, archived=archived)
    call.store.put("model", {**model, "system_tags": tags, "last_update": call.now})
    return {"archived" if archived else "unarchived": True}


@endpoint("models.move", required=("ids",))
def _move(call: Call) -> Document:
    target = moved_to(call)
    for model in call.store.find("model", id=call.texts("ids")):
        call.store.put("model", {**model, "project": target, "last_update": call.now})
    return {"project_id": target}


@endpoint("models.get_frameworks")
def _get_frameworks(call: Call) -> Document:
    return {"frameworks": sorted({str(one["framework"]) for one in call.store.find("model") if one.get("framework")})}


def _metadata(value: object) -> Document:
    """A list of {key, type, value}, or a mapping by key already."""
    if isinstance(value, list):
        return {str(row["key"]): row for row in value if isinstance(row, dict) and row.get("key")}
    return dict(value) if isinstance(value, dict) else {}
