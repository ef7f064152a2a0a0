"""The `…_many` endpoints: one action on each of several ids; one that is refused does not stop the others."""

from __future__ import annotations

from collections.abc import Callable

from standalone.store import Document
from standalone.wire import Call, Refusal


def many(call: Call, act: Callable[[str], Document]) -> Document:
    """What `act` answers for each of the request's ids, and why it refused the others."""
    succeeded: list[Document] = []
    failed: list[Document] = []
    given = dict(call.data)
    for identity in call.texts("ids"):
        call.data = dict(given)
        call.store.sql.execute("SAVEPOINT one")
        try:
            succeeded.append({"id": identity, **act(identity)})
        except Refusal as refusal:
            call.store.sql.execute("ROLLBACK TO one")
            error = {"codes": [refusal.code, refusal.subcode], "msg": refusal.message, "data": refusal.facts}
            failed.append({"id": identity, "error": error})
        call.store.sql.execute("RELEASE one")
    return {"succeeded": succeeded, "failed": failed}
