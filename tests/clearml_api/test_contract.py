"""Every request that our rooms make, held against the request schemas that the `clearml` package ships.

The calls are made through the real functions of clearml_api with a session that records instead of sending. A new
public function without an example here fails the first test, so nothing is added past the contract.
"""

from __future__ import annotations

import importlib
import inspect
import json
from typing import Any

import jsonschema
import pytest

from clearml_api import events, queues, tasks, workers
from clearml_api.configuration import Configuration
from clearml_api.session import Session

TASK = "a" * 32
QUEUE = "b" * 32


class Recording(Session):
    """Records what would be sent."""

    def __init__(self) -> None:
        super().__init__(Configuration(api_host="http://localhost:1", access_key="k", secret_key="s"))
        self.sent: list[tuple[str, Any]] = []

    def call(self, endpoint: str, payload: Any = None, *, bounds: Any = None) -> dict[str, Any]:
        self.sent.append((endpoint, json.loads(json.dumps(payload or {}))))
        return {"task": {"id": TASK}}

    def send_lines(self, endpoint: str, lines: bytes, *, bounds: Any = None) -> dict[str, Any]:
        self.sent += [(endpoint, json.loads(line)) for line in lines.split(b"\n")]
        return {"added": 1}


EXAMPLES = {
    tasks.get: lambda s: tasks.get(s, TASK),
    tasks.get_all: lambda s: tasks.get_all(s, [TASK, TASK], tasks.MANIFEST),
    tasks.named: lambda s: tasks.named(s, TASK),
    tasks.claimed: lambda s: tasks.claimed(s, "mark"),
    tasks.started: lambda s: tasks.started(s, TASK, "podstrap"),
    tasks.completed: lambda s: tasks.completed(s, TASK, "done"),
    tasks.failed: lambda s: tasks.failed(s, TASK, "exit code 3", "the last lines", force=True),
    tasks.stopped: lambda s: tasks.stopped(s, TASK, "aborted", "by a user"),
    tasks.set_message: lambda s: tasks.set_message(s, TASK, "waits"),
    tasks.ping: lambda s: tasks.ping(s, TASK),
    tasks.enqueue: lambda s: tasks.enqueue(s, TASK, QUEUE, reason="again"),
    tasks.edit_runtime: lambda s: tasks.edit_runtime(s, TASK, {"podstrap_claim": "{}"}),
    tasks.set_requirements: lambda s: tasks.set_requirements(s, TASK, "six==1.16.0", "six"),
    tasks.set_commit: lambda s: tasks.set_commit(s, TASK, "0" * 40),
    tasks.set_properties: lambda s: tasks.set_properties(s, TASK, {"podstrap_startup": 0.3}),
    queues.get_all: lambda s: queues.get_all(s, [QUEUE], max_entries=10),
    queues.create: lambda s: queues.create(s, "gpu"),
    queues.remove_task: lambda s: queues.remove_task(s, QUEUE, TASK),
    queues.move_to_front: lambda s: queues.move_to_front(s, QUEUE, TASK),
    events.add_batch: lambda s: events.add_batch(
        s,
        [
            events.log_event(TASK, "podstrap:pod", 1700000000000, "line\nline"),
            events.scalar_event(TASK, "podstrap:pod", 1700000000000, ":monitor:machine", "cpu_usage", 12.5, 10),
        ],
    ),
    events.send_encoded: lambda s: events.send_encoded(s, events.encode([events.log_event(TASK, "w", 1, "x")])),
    events.stored_times: lambda s: events.stored_times(s, TASK, "podstrap:pod", 1700000000000, 1700000000050),
    events.last_lines: lambda s: events.last_lines(s, TASK, "podstrap:controller"),
    workers.status_report: lambda s: workers.status_report(
        s, "podstrap:pod", task=TASK, queue=QUEUE, millis=1700000000000, machine_stats={"cpu_usage": [1.0]}
    ),
    workers.unregister: lambda s: workers.unregister(s, "podstrap:pod"),
}
BEYOND_THE_SDK = {"tasks.edit_runtime": "API 2.34; the schemas of clearml 2.1 end at 2.23"}
OF_THE_SERVER = {
    ("tasks.get_all", "search_hidden"): "accepted by the server since 2.14, not in the SDK's schema",
    ("queues.get_all", "max_task_entries"): "API 2.20 and newer",
    ("events.add_batch", "worker"): "clearml-agent sends it with scalars too",
    ("tasks.enqueue", "force"): "needed from in_progress; without it 400/110",
    ("tasks.update", "status_message"): "works in any state; the SDK's schema lists editable fields only",
}


def _public(module: Any) -> list[Any]:
    return [
        function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and "session" in str(inspect.signature(function))
    ]


def test_every_public_call_has_an_example() -> None:
    calls = [function for module in (tasks, queues, events, workers) for function in _public(module)]
    assert len(calls) > 15
    assert [function.__qualname__ for function in calls if function not in EXAMPLES] == []


@pytest.mark.parametrize("call", EXAMPLES.values(), ids=[f"{f.__module__}.{f.__name__}" for f in EXAMPLES])
def test_request_fits_the_schema(call) -> None:
    session = Recording()
    call(session)
    assert session.sent
    for endpoint, payload in session.sent:
        service, action = endpoint.split(".")
        if endpoint in BEYOND_THE_SDK:
            continue
        action = action.removesuffix("_ex")  # takes what get_all takes; the SDK ships the latter's schema alone
        schema = _event_schema(payload) if endpoint == "events.add_batch" else _request_schema(service, action)
        jsonschema.validate(payload, schema, cls=jsonschema.Draft7Validator)
        unknown = {name for name in payload if name not in schema["properties"]}
        assert {name for name in unknown if (f"{service}.{action}", name) not in OF_THE_SERVER} == set(), endpoint


def _request_schema(service: str, action: str) -> dict[str, Any]:
    for version in ("v2_23", "v2_20", "v2_13", "v2_9"):
        try:
            module = importlib.import_module(f"clearml.backend_api.services.{version}.{service}")
        except ImportError:
            continue
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if getattr(kind, "_action", None) == action and kind.__name__.endswith("Request"):
                return kind._schema
    raise AssertionError(f"the clearml package ships no schema of {service}.{action}")


def _event_schema(event: dict[str, Any]) -> dict[str, Any]:
    module = importlib.import_module("clearml.backend_api.services.v2_23.events")
    kind = {"log": module.TaskLogEvent, "training_stats_scalar": module.MetricsScalarEvent}[event["type"]]
    definitions = module.AddRequest._schema["definitions"]
    return {**kind._schema, "definitions": definitions}
