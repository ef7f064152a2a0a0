"""What Kubernetes says of a manifest, without a cluster, and the tasks that the template tests render."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from clearml_api.models import Container, Task
from controller import job_template
from controller.settings import Settings
from controller.settings_queue import QueueSettings

NOW = datetime(2025, 6, 1, 12, 0, 5, tzinfo=timezone.utc)
ADDED = datetime(2025, 6, 1, 12, 0, 0, 250000, tzinfo=timezone.utc)
TASK = Task(id="3" * 32, name="train α", container=Container())
QUEUE_ID = "9" * 32


def render(
    task: Task = TASK, settings: Settings | None = None, queue: QueueSettings | None = None, **more: Any
) -> dict[str, Any]:
    """The Job of a usual attempt."""
    usual = {"queue_id": QUEUE_ID, "queue_name": "gpu", "added": ADDED, "attempt": 1, "now": NOW}
    settings = settings or Settings().with_servers("http://api:8008", "http://web:8080", "http://files:8081")
    return job_template.render(task, settings=settings, queue=queue or QueueSettings(), **{**usual, **more})


def task_with(arguments: str = "", image: str = "") -> Task:
    """A task whose container asks for something."""
    return Task(id="3" * 32, name="train", container=Container(image=image, arguments=arguments))


def assert_kubernetes_takes(manifest: dict[str, Any]) -> None:
    """Held against Kubernetes' own JSON schema, unknown fields refused."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    kubernetes_validate.validate(manifest, "1.35", strict=True)


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The pod's spec."""
    spec: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return spec


def container_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The container that runs the task."""
    (main,) = [one for one in pod_of(manifest)["containers"] if one["name"] == "task"]
    return dict(main)


def variables_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Each variable's value, or where it comes from."""
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container_of(manifest)["env"]}
