"""Projects by name: `a/b/c` is a project whose parents `a/b` and `a` are made with it."""

from __future__ import annotations

from standalone.store import Document
from standalone.wire import COMPANY, USER, Call, Refusal, invalid, new_id


def project_of(call: Call, identity: str) -> Document:
    """The project. Raises Refusal 401."""
    found = call.store.get("project", identity)
    if found is None:
        raise Refusal(400, 401, "Invalid project id", id=identity)
    return found


def plain_name(name: str) -> str:
    """Without empty parts and blanks around the others."""
    return "/".join(part.strip() for part in name.split("/") if part.strip())


def moved_to(call: Call) -> str | None:
    """The project that a `move` names by `project` or `project_name`; None: no project."""
    if name := call.text("project_name"):
        return ensure(call, name)
    identity = call.text("project")
    return str(project_of(call, identity)["id"]) if identity else None


def ensure(call: Call, name: str, fields: Document | None = None) -> str:
    """The project of this name, made with its parents when it is not there; its id."""
    name = plain_name(name)
    if not name or len(name.rpartition("/")[2]) < 3:
        raise invalid("Project name cannot be blank")
    known = next(call.store.find("project", name=name), None)
    if known:
        return str(known["id"])
    parent, _, base = name.rpartition("/")
    document: Document = {
        "id": new_id(),
        "company": COMPANY,
        "user": USER,
        "name": name,
        "basename": base,
        "description": "",
        "created": call.now,
        "last_update": call.now,
        "tags": [],
        "system_tags": [],
        "featured": 9999,
        **(fields or {}),
    }
    if parent:
        document["parent"] = ensure(call, parent)
        document["path"] = [*(project_of(call, document["parent"]).get("path") or ()), document["parent"]]
    call.store.put("project", document)
    return str(document["id"])
