"""Projects by name: `a/b/c` is a project whose parents `a/b` and `a` are made with it."""

from __future__ import annotations

from standalone.store import Document
from standalone.wire import COMPANY, USER, Call, Refusal, invalid, new_id


def project_of(call: Call, identity: str) -> Document:
    """The project. Raises Refusal 401."""
    found = call.store.get("project", identity)
    if found is None:
        raise Refusal(400, 401, f"Invalid project id: id={identity}")
    return found


def ensure(call: Call, name: str, fields: Document | None = None) -> str:
    """The project of this name, made with its parents when it is not there; its id."""
    name = "/".join(part.strip() for part in name.split("/") if part.strip())
    if len(name) < 3:
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
        document["parent"] = ensure(call, parent) if len(parent) >= 3 else None
    call.store.put("project", document)
    return str(document["id"])
