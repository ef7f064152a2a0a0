"""Real tasks on the real node: a world whose pods reach the ClearML server, and tasks made by the real `clearml-task`.

What is enqueued here goes the whole way: `clearml-task`, the controller's process, the API server, the kubelet,
containerd, bootstrap as PID 1, and back to the server.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearml_api import queues
from clearml_api.models import Task
from tests import support
from tests.cluster.kube import Object
from tests.cluster.node import Node

if TYPE_CHECKING:
    from tests.cluster.conftest import World

WAYS = ("baked", "imageVolume", "initContainer")
"""How podstrap comes into a task's image."""


@dataclass
class Real:
    """One test's. `servers`: settings by which pods reach ClearML. `bare_image`: a Debian without git or Python."""

    world: World
    node: Node
    servers: Mapping[str, str]
    task_image: str
    bootstrap_image: str
    bare_image: str
    _homes: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        keys = ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY")
        secret = {"metadata": {"name": "podstrap-clearml"}, "stringData": {key: self.environ[key] for key in keys}}
        self.world.plane.kube.create(f"/api/v1/namespaces/{self.world.namespace}/secrets", secret)

    @property
    def environ(self) -> Mapping[str, str]:
        """The ClearML server as this machine reaches it."""
        return self.world.environ

    def settings(self, **more: Any) -> dict[str, Any]:
        """Of the file: our images, this node; nothing is installed (`clearml-task` asks for clearml in each task)."""
        base = {
            "nodeSelector": {"kubernetes.io/hostname": self.node.name},
            "terminationGracePeriodSeconds": 5,
            "env": [{"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"}],
        }
        return {
            **self.servers,
            "defaultContainerImage": self.task_image,
            "bakedImages": [self.task_image],
            "bootstrapImage": self.bootstrap_image,
            **more,
            "basePodTemplate": {**base, **more.get("basePodTemplate", {})},
        }

    def controller(self, queue: Mapping[str, Any] | None = None, **settings: Any) -> support.Process:
        """Of the world's own queue; `queues=` names others instead, which are made."""
        for name in settings.get("queues", ()):
            support.queue_id(self.world.session, name)
        return self.world.controller({"pollSeconds": 0.5, **(queue or {})}, **self.settings(**settings))

    def task(self, name: str, code: str = "", *, queue: str = "", image: str = "", words: Sequence[str] = ()) -> str:
        """Made and enqueued by `clearml-task`: a script of its own, unless `words` say another source."""
        folder = self.world.folder / f"clearml-task-{len(self._homes)}"
        folder.mkdir()
        self._homes.append(folder)
        command = [str(Path(sys.executable).with_name("clearml-task")), "--project", "podstrap tests", "--name", name]
        command += ["--queue", queue or self.world.queue, "--skip-task-init", *words]
        if code:
            (folder / "main.py").write_text(code)
            (folder / "requirements.txt").write_text("# none\n")
            command += ["--script", "main.py", "--requirements", "requirements.txt"]
        if image:
            command += ["--docker", image]
        environ = {**support.base_environ(), **self.environ, "HOME": str(folder)}
        done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, timeout=120)
        found = re.search(r"created id=(\w+)", done.stdout)
        assert done.returncode == 0 and found, f"{done.stdout}\n{done.stderr}"
        return found[1]

    def queue(self, name: str) -> str:
        return queues.create(self.world.session, name)

    def completed(self, task: str, seconds: float = 120) -> Task:
        """The task once it has completed; a failure says why."""
        found = self.world.status(task, "completed", "failed", "stopped", seconds=seconds)
        assert found.status == "completed", f"{found.status_message}\n{self.console(task)}\n{self.world.describe(task)}"
        return found

    def console(self, task: str) -> str:
        return support.console(self.world.session, task)

    def properties(self, task: str) -> dict[str, str]:
        """The task's user properties."""
        raw = self.world.session.call("tasks.get_by_id", {"task": task})["task"]
        return {name: row["value"] for name, row in (raw.get("hyperparams") or {}).get("properties", {}).items()}

    def brought(self, task: str) -> list[str]:
        """How podstrap came into each pod of a task; empty for a baked one."""
        return [str(one["metadata"]["annotations"].get("podstrap.io/injection", "")) for one in self.world.pods(task)]

    def pod(self, task: str) -> Object:
        """Its only pod."""
        (one,) = self.world.pods(task)
        return one


def way(name: str) -> dict[str, Any]:
    """Settings of a queue whose tasks get podstrap this way."""
    return {} if name == "baked" else {"injection": "always", "injectionMethod": name}
