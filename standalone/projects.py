"""Projects: a tree by names with slashes; a project's parents are made with it."""

from __future__ import annotations

from standalone.known_fields import check
from standalone.project_tree import ensure, plain_name, project_of
from standalone.projection import base_fields, expanded, project
from standalone.query import candidates, select
from standalone.store import Document
from standalone.tasks import delete
from standalone.wire import COMPANY, Call, Refusal, endpoint

REFERENCES = {"company": "company", "user": "user", "parent": "project"}


@endpoint("projects.create", required=("name",))
def _create(call: Call) -> Document:
    name = plain_name(call.text("name"))
    if next(call.store.find("project", name=name), None):
        raise Refusal(400, 801, "Project with the same name already exists", name=name, company=COMPANY)
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
    check("project", [*call.texts("only_fields"), *call.texts("order_by")], REFERENCES, follow=False)
    found = select(call, candidates(call.store, "project", call.data))
    shown = [{key: value for key, value in one.items() if key != "path"} for one in found]
    return {"projects": [project(one, call.texts("only_fields")) for one in shown]}


@endpoint("projects.get_all_ex")
def _get_all_ex(call: Call) -> Document:
    rows = []
    fields = base_fields(call, REFERENCES)
    check("project", [*call.texts("only_fields"), *call.texts("order_by")], REFERENCES, follow=True)
    for one in select(call, candidates(call.store, "project", call.data)):
        one.pop("path", None)
        row = project(expanded(call, one, REFERENCES), fields, with_id=True)
        if call.flag("include_stats"):
            row["stats"] = {"active": _stats(call, one["id"])}
            below = list(call.store.find("project", parent=one["id"]))
            row["sub_projects"] = [{"id": child["id"], "name": child["name"]} for child in below]
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
        raise Refusal(400, 402, "Project has associated tasks (use force=true)", id=one["id"])
    contents = call.flag("delete_contents")
    for task in tasks:
        if contents:
            delete(call, task)
        else:
            task.pop("project", None)
            call.store.put("task", task)
    call.store.delete("project", one["id"])
    gone, loose = (len(tasks), 0) if contents else (0, len(tasks))
    counts = {"disassociated_tasks": loose, "deleted_tasks": gone, "deleted_models": 0}
    return {"deleted": 1, **counts, "urls": None}


@endpoint("projects.validate_delete", required=("project",))
def _validate_delete(call: Call) -> Document:
    """What would go with it."""
    identity = project_of(call, call.text("project"))["id"]
    answer: Document = {"pipelines": 0, "datasets": 0, "reports": 0, "non_archived_reports": 0}
    for kind in ("task", "model"):
        found = list(call.store.find(kind, project=identity))
        answer[f"{kind}s"] = len(found)
        answer[f"non_archived_{kind}s"] = sum("archived" not in (one.get("system_tags") or ()) for one in found)
    return answer


@endpoint("projects.get_hyper_parameters", required=("project",))
def _get_hyper_parameters(call: Call) -> Document:
    found: dict[tuple[str, str], Document] = {}
    for task in call.store.find("task", project=call.text("project")):
        for section, params in (task.get("hyperparams") or {}).items():
            for name in params:
                found[section, name] = {"section": section, "name": name}
    rows = [found[key] for key in sorted(found)]
    return {"parameters": rows, "remaining": 0, "total": len(rows)}


@endpoint("projects.get_project_tags")
def _get_project_tags(call: Call) -> Document:
    return _tags(call, "project")


@endpoint("projects.get_task_tags")
def _get_task_tags(call: Call) -> Document:
    return _tags(call, "task")


@endpoint("projects.get_model_tags")
def _get_model_tags(call: Call) -> Document:
    return _tags(call, "model")


@endpoint("organization.get_tags")
def _get_all_tags(call: Call) -> Document:
    return _tags(call, "task", "model")


def _tags(call: Call, *kinds: str) -> Document:
    projects = call.texts("projects") or None
    found = [one for kind in kinds for one in call.store.find(kind, project=projects)]
    answer: Document = {"tags": sorted({tag for one in found for tag in one.get("tags") or ()})}
    if call.flag("include_system"):
        answer["system_tags"] = sorted({tag for one in found for tag in one.get("system_tags") or ()})
    return answer


_STATUSES = (
    "closed", "completed", "created", "failed", "in_progress", "published", "publishing", "queued", "stopped",
    "unknown",
)  # fmt: skip


def _stats(call: Call, identity: str) -> Document:
    """Of what is not archived."""
    counts = dict.fromkeys(_STATUSES, 0)
    started: list[str] = []
    for task in call.store.find("task", project=identity):
        if "archived" not in task["system_tags"]:
            counts[task["status"]] = counts.get(task["status"], 0) + 1
            started += [task["started"]] if task.get("started") else []
    return {
        "total_runtime": 0,
        "total_tasks": sum(counts.values()),
        "status_count": counts,
        "completed_tasks_24h": 0,
        "last_task_run": max(started, default=None),
    }
