"""How the ClearML API speaks: endpoints by name, one envelope for every answer, errors with code and subcode.

An endpoint is a small function registered under `service.action`. It gets a `Call` (payload, store, who, when) and
answers the `data`; a `Refusal` becomes an error envelope. Names, codes and texts are those of API 2.34 as measured.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from standalone.store import Document, Store

API_VERSION = "2.34"
COMPANY = "d1bd92a3b039400cbafc60a7a5b1e52b"
USER = "podstrap"
USER_NAME = "Podstrap"


_SINCE = {
    "queues": "2.4", "queues.get_next_task": "1.0", "queues.get_num_entries": "2.15", "queues.peek_task": "2.15",
    "workers": "2.4", "server.info": "2.12", "tasks.completed": "2.2", "tasks.add_or_update_artifacts": "2.10",
    "tasks.delete_artifacts": "2.10", "tasks.make_public": "2.9", "tasks.make_private": "2.9",
    "tasks.add_or_update_model": "2.13", "tasks.delete_models": "2.13", "models.add_or_update_metadata": "2.13",
    "models.delete_metadata": "2.13", "events.get_task_log": "2.9", "events.get_task_plots": "1.8",
    "events.get_multi_task_plots": "1.8", "events.debug_images": "2.7", "events.get_debug_image_sample": "2.12",
    "events.scalar_metrics_iter_raw": "2.16", "projects.get_task_tags": "2.8", "projects.get_model_tags": "2.8",
    "projects.get_hyper_parameters": "2.9", "projects.get_task_parents": "2.12", "projects.make_public": "2.9",
}  # fmt: skip
"""Since which API version an endpoint (or a whole service) is as it is; 1.0 where nothing is said."""


class Refusal(Exception):
    """An answer that is an error. `facts` stand behind the message: what it was about."""

    def __init__(self, code: int, subcode: int, message: str, **facts: object) -> None:
        self.code, self.subcode, self.facts = code, subcode, facts
        told = ", ".join(f"{name}={value}" for name, value in facts.items())
        self.message = f"{message}: {told}" if facts else message
        super().__init__(self.message)


@dataclass
class Call:
    """One request, inside its transaction."""

    store: Store
    data: dict[str, Any]
    config: dict[str, str] = field(default_factory=dict)
    """Host addresses that answers mention."""

    def __post_init__(self) -> None:
        self.now = stamp()

    def text(self, name: str, default: str = "") -> str:
        """A text field."""
        value = self.data.get(name)
        return default if value is None else str(value)

    def texts(self, *names: str) -> list[str]:
        """A field that is a text or a list of them, under the first of several names that is there."""
        for name in names:
            value = self.data.get(name)
            if value is not None:
                return [str(one) for one in value] if isinstance(value, (list, tuple)) else [str(value)]
        return []

    def number(self, name: str, default: int) -> int:
        """A whole number."""
        value = self.data.get(name)
        try:
            return default if value is None else int(value)
        except (TypeError, ValueError):
            raise invalid(f"error for field '{name}'. value is not a number") from None

    def flag(self, name: str) -> bool:
        """A boolean."""
        return bool(self.data.get(name))


Function = Callable[[Call], Document]


@dataclass(frozen=True)
class Endpoint:
    """A function and the fields that it cannot do without."""

    function: Function
    required: tuple[str, ...] = ()


ENDPOINTS: dict[str, Endpoint] = {}


def endpoint(*names: str, required: Sequence[str] = ()) -> Callable[[Function], Function]:
    """Register a function under `service.action`."""

    def register(function: Function) -> Function:
        for name in names:
            ENDPOINTS[name] = Endpoint(function, tuple(required))
        return function

    return register


def run(name: str, call: Call) -> Document:
    """The endpoint's answer. Raises Refusal."""
    found = ENDPOINTS.get(name)
    if found is None:
        raise unknown(name)
    for required in found.required:
        if call.data.get(required) is None:
            raise invalid(f"error for field '{required}'. field is required!")
    return found.function(call)


def envelope(
    name: str, data: Document | None, refusal: Refusal | None = None, version: str = API_VERSION
) -> dict[str, Any]:
    """The whole answer."""
    identity = new_id()
    return {
        "meta": {
            "id": identity,
            "trx": identity,
            "endpoint": {"name": name, "requested_version": version, "actual_version": _since(name)},
            "result_code": refusal.code if refusal else 200,
            "result_subcode": refusal.subcode if refusal else 0,
            "result_msg": refusal.message if refusal else "OK",
            "error_stack": None,
            "error_data": {},
        },
        "data": data or {},
    }


def _since(name: str) -> str | None:
    if name not in ENDPOINTS and name != "auth.login":
        return None
    return _SINCE.get(name) or _SINCE.get(name.partition(".")[0], "1.0")


def unknown(name: str) -> Refusal:
    """No such endpoint."""
    return Refusal(404, 0, f"Unable to find endpoint for name {name} and version {API_VERSION}")


def invalid(why: str) -> Refusal:
    """A field is missing or of the wrong kind."""
    return Refusal(400, 12, f"Validation error ({why})")


def bad_data(why: str) -> Refusal:
    """A value that the data's rules do not allow."""
    return Refusal(400, 800, f"Data validation error: {why}")


def new_id() -> str:
    """32 hexadecimal digits."""
    return uuid.uuid4().hex


def stamp() -> str:
    """Now, as the server writes it: milliseconds, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "000+00:00")


def check_name(name: str) -> str:
    """Names have at least three characters."""
    if len(name.strip()) < 3:
        raise bad_data("name=String value is too short")
    return name
