"""Projects: a tree by names with slashes; a project's parents are made with it."""

from __future__ import annotations

from standalone.project_tree import ensure, project_of
from standalone.query import base_fields, candidates, expanded, project, select
from standalone.store import Document
from standalone.tasks import delete
from standalone.wire import COMPANY, Call, Refusal, endpoint

REFERENCES = {"company": "company", "user": "user", "parent": "project"}


@endpoint("projects.create", required=("name",))
def _create(call: Call) -> Document:
    name = call.text("name").strip("/")
    if next(call.store.find("project", name=name), None):
        raise Refusal(400, 801, f"Project with the same name already exists: name={name}, company={COMPANY}")
    given = {
        key: call.data[key]
        for key in ("description", "tags", "system_tags", "default_output_destination")
        if call.data.get(key) is not None
    }
    return {"id": ensure(call, name, given)}


@endpoint("projects.get_by_id", required=("project",))
def _get_by_id(call: Call) -> Document:
    return {"project": project_of(call, call.text("project"))}


@endpoint("projects.get_all")
def _get_all(call: Call) -> Document:
    found = select(call, candidates(call.store, "project", call.data))
    return {"projects": [project(one, call.texts("only_fields")) for one in found]}


@endpoint("projects.get_all_ex")
def _get_all_ex(call: Call) -> Document:
    rows = []
    fields = base_fields(call, REFERENCES)
    for one in select(call, candidates(call.store, "project", call.data)):
        row = project(expanded(call, one, REFERENCES), fields, with_id=True)
        if call.flag("include_stats"):
            row["stats"] = {"active": _stats(call, one["id"])}
        rows.append(row)
    return {"projects": rows}


@endpoint("projects.update", required=("project",))
def _update(call: Call) -> Document:
    one = project_of(call, call.text("project"))
    names = ("name", "description", "tags", "system_tags", "default_output_destination")
    fields = {key: call.data[key] for key in names if call.data.get(key) is not None}
    if "name" in fields:
        fields["basename"] = str(fields["name"]).rpartition("/")[2]
    call.store.put("project", {**one, **fields, "last_update": call.now})
    return {"updated": 1, "fields": fields}


@endpoint("projects.delete", required=("project",))
def _delete(call: Call) -> Document:
    one = project_of(call, call.text("project"))
    tasks = list(call.store.find("task", project=one["id"]))
    if tasks and not call.flag("force"):
        text = "Project has associated non-archived tasks, use force=true to delete"
        raise Refusal(400, 402, f"{text}: id={one['id']}")
    for task in tasks:
        if call.flag("delete_contents"):
            delete(call, task)
        else:
            call.store.put("task", {**task, "project": None})
    call.store.delete("project", one["id"])
    return {"deleted": 1, "disassociated_tasks": len(tasks)}


@endpoint("projects.get_hyper_parameters", required=("project",))
def _get_hyper_parameters(call: Call) -> Document:
    found: dict[tuple[str, str], Document] = {}
    for task in call.store.find("task", project=call.text("project")):
        for section, params in (task.get("hyperparams") or {}).items():
            for name in params:
                found[section, name] = {"section": section, "name": name}
    rows = [found[key] for key in sorted(found)]
    return {"parameters": rows, "remaining": 0, "total": len(rows)}


@endpoint("projects.get_project_tags", "projects.get_task_tags", "projects.get_model_tags", "organization.get_tags")
def _get_tags(call: Call) -> Document:
    kinds = ("task", "model")
    tags = {tag for kind in kinds for one in call.store.find(kind) for tag in one.get("tags") or ()}
    answer: Document = {"tags": sorted(tags)}
    if call.flag("include_system"):
        answer["system_tags"] = sorted({tag for one in call.store.find("task") for tag in one.get("system_tags") or ()})
    return answer


def _stats(call: Call, identity: str) -> Document:
    counts: dict[str, int] = {}
    for task in call.store.find("task", project=identity):
        counts[task["status"]] = counts.get(task["status"], 0) + 1
    return {"total_runtime": 0, "total_tasks": sum(counts.values()), "status_count": counts}
