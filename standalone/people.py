"""Workers, the one user, and what the server says of itself."""

from __future__ import annotations

from standalone.projection import project
from standalone.store import Document
from standalone.task_status import seconds_since
from standalone.wire import API_VERSION, COMPANY, USER, USER_NAME, Call, Refusal, endpoint

_SILENT_SECONDS = 600.0


@endpoint("workers.register", required=("worker",))
def _register(call: Call) -> Document:
    worker = _worker(call)
    call.store.put(
        "worker",
        {
            **worker,
            "timeout": call.number("timeout", 600),
            "queues": call.texts("queues"),
            "tags": call.texts("tags"),
            "system_tags": call.texts("system_tags"),
            "register_time": call.now,
        },
    )
    return {}


@endpoint("workers.status_report", required=("worker", "timestamp"))
def _status_report(call: Call) -> Document:
    """Also moves the task's worker and time of update: `tasks.stop` asks them."""
    worker = _worker(call)
    worker.update(last_report=call.now, machine_stats=call.data.get("machine_stats") or {})
    if call.data.get("queues") is not None:
        worker["queues"] = call.texts("queues")
    identity = call.text("task")
    worker["task"] = identity or None
    call.store.put("worker", worker)
    task = call.store.get("task", identity) if identity else None
    if identity and task is None:
        raise Refusal(400, 101, "Invalid task id", id=identity, company=COMPANY)
    if task and task["status"] == "in_progress":
        moved = {"last_worker": worker["id"], "last_worker_report": call.now, "last_update": call.now}
        call.store.put("task", {**task, **moved})
    return {}


@endpoint("workers.unregister", required=("worker",))
def _unregister(call: Call) -> Document:
    call.store.delete("worker", call.text("worker"))
    return {}


@endpoint("workers.get_all")
def _get_all(call: Call) -> Document:
    rows = []
    for worker in call.store.find("worker"):
        if seconds_since(worker["last_activity"], call.now) > max(_SILENT_SECONDS, worker.get("timeout") or 0):
            call.store.delete("worker", worker["id"])
            continue
        rows.append(_shown(call, worker))
    return {"workers": rows}


@endpoint("workers.get_count")
def _get_count(call: Call) -> Document:
    return {"count": len(_get_all(call)["workers"])}


def _worker(call: Call) -> Document:
    known = call.store.get("worker", call.text("worker")) or {"id": call.text("worker"), "register_time": call.now}
    return {**known, "last_activity": call.now}


def _shown(call: Call, worker: Document) -> Document:
    task = call.store.get("task", worker.get("task") or "")
    queues = []
    for identity in worker.get("queues") or ():
        if queue := call.store.get("queue", identity):
            queues.append({"id": identity, "name": queue["name"], "num_tasks": call.store.count_entries(identity)})
    return {
        "id": worker["id"],
        "key": f"worker_{COMPANY}_{USER}_{worker['id']}",
        "company": {"id": COMPANY, "name": "clearml"},
        "user": {"id": USER, "name": USER_NAME},
        "ip": "127.0.0.1",
        "register_time": worker.get("register_time"),
        "register_timeout": worker.get("timeout", 600),
        "last_activity_time": worker["last_activity"],
        "last_report_time": worker.get("last_report"),
        "queues": queues,
        "tags": worker.get("tags") or [],
        "system_tags": worker.get("system_tags") or [],
        **_occupation(call, task),
    }


def _occupation(call: Call, task: Document | None) -> Document:
    """What a worker works on."""
    if task is None:
        return {}
    facts = {"id": task["id"], "name": task["name"], "last_iteration": task["last_iteration"]}
    shown: Document = {"task": {**facts, "running_time": task.get("active_duration") or 0}}
    if project := call.store.get("project", task.get("project") or ""):
        shown["project"] = {"id": project["id"], "name": project["name"]}
    return shown


@endpoint("users.get_current_user")
def _get_current_user(call: Call) -> Document:
    user = {
        "id": USER,
        "name": USER_NAME,
        "role": "user",
        "created": _created(call),
        "company": {"id": COMPANY, "name": "clearml"},
    }
    steps = {"agentName": "clearml", "configure": "clearml-init", "install": "pip install clearml"}
    started = {**steps, "packageName": "clearml"}
    return {"user": user, "getting_started": started, "settings": {"max_download_items": 50000}}


@endpoint("users.get_all", "users.get_all_ex")
def _get_users(call: Call) -> Document:
    user = {"id": USER, "company": COMPANY, "name": USER_NAME, "created": _created(call)}
    return {"users": [project(user, call.texts("only_fields"))]}


@endpoint("users.get_by_id", required=("user",))
def _get_user(call: Call) -> Document:
    if call.text("user") != USER:
        raise Refusal(400, 301, "Invalid user id", id=call.text("user"), company=COMPANY)
    return {"user": _get_users(call)["users"][0]}


@endpoint("users.get_preferences")
def _get_preferences(call: Call) -> Document:
    return {"preferences": (call.store.get("preferences", USER) or {}).get("preferences", {})}


@endpoint("users.set_preferences")
def _set_preferences(call: Call) -> Document:
    before = _get_preferences(call)["preferences"]
    given = call.data.get("preferences") or {}
    call.store.put("preferences", {"id": USER, "preferences": {**before, **given}})
    return {"updated": 1, "fields": {"preferences": {**before, **given}}} if given else {"updated": 0, "fields": {}}


@endpoint("organization.get_user_companies")
def _get_companies(_call: Call) -> Document:
    owner = {"id": USER, "name": USER_NAME, "avatar": None}
    return {"companies": [{"id": COMPANY, "name": "clearml", "allocated": 1, "owners": [owner]}]}


@endpoint("organization.get_entities_count")
def _get_entities_count(call: Call) -> Document:
    return {f"{kind}s": sum(1 for _ in call.store.find(kind)) for kind in ("task", "project", "model")}


@endpoint("server.info")
def _info(_call: Call) -> Document:
    return {"version": "2.3.0", "build": "", "commit": "", "api_version": API_VERSION}


@endpoint("server.config", "server.endpoints", "auth.get_token_for_user", "auth.create_user")
def _forbidden(_call: Call) -> Document:
    raise Refusal(403, 20, "Forbidden (not allowed for role)", role="user", allowed="(root, system)")


@endpoint("auth.get_credentials")
def _get_credentials(call: Call) -> Document:
    return {"credentials": [{"access_key": call.config.get("access_key", "")}]}


@endpoint("auth.create_credentials", "auth.revoke_credentials", "auth.edit_credentials")
def _keep_credentials(_call: Call) -> Document:
    raise Refusal(400, 301, "Invalid user id (protected identity)")


@endpoint("server.report_stats_option")
def _report_stats_option(_call: Call) -> Document:
    return {"supported": False}


@endpoint("debug.ping", "auth.validate_token")
def _ping(_call: Call) -> Document:
    return {"msg": "ClearML server"}


@endpoint("login.supported_modes")
def _supported_modes(_call: Call) -> Document:
    return {
        "authenticated": True,
        "basic": {"enabled": False, "guest": {"enabled": False}},
        "server_errors": {"es_connection_error": False, "missed_es_upgrade": False},
        "sso": {},
        "sso_providers": [],
    }


def _created(call: Call) -> str:
    known = call.store.get("user", USER)
    if known is None:
        known = {"id": USER, "created": call.now, "name": USER_NAME}
        call.store.put("user", known)
    return str(known["created"])
