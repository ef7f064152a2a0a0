"""A stranger's cluster for the commands of the pages: the real control plane, and one simulated node with two GPUs.

What a kubelet would start there is started as a process of this machine: the controller's container, with its own
service account (`chart.controller`), and tasks' containers as the real bootstrap, which runs the real task. What
stands for the person's own values (server, nodes) is laid under those of the page by a small wrapper around helm.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocol import environment as names
from tests import support
from tests.cluster import chart, tools
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import Kube, Object
from tests.cluster.simulated import ANNOTATION, SimulatedNodes, Step
from tests.cluster.works import environ_of
from tests.docs.pages import ROOT, Block

GPUS = 2
NODE = "gpu-node"
LABELS = {
    "podstrap.test/docs": "true",
    "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB",
    "topology.kubernetes.io/zone": "a",
}
_DRIVER = """\
#!/bin/sh
n=0; while [ $n -lt {gpus} ]; do echo "GPU $n: a simulated one (UUID: GPU-$n)"; n=$((n+1)); done
"""
_NAMESPACE = re.compile(r"((?:^|\s)(?:-n|--namespace|namespace|NAMESPACE)[= ])(clearml|podstrap)\b")


@dataclass
class Stranger:
    """One person's cluster: `shell` runs what they type. Close it at the end."""

    plane: ControlPlane
    server: Mapping[str, str]
    folder: Path
    helm: Path
    namespace: str = field(default_factory=lambda: f"docs-{uuid.uuid4().hex[:8]}")
    processes: list[support.Process] = field(default_factory=list)
    consoles: dict[str, str] = field(default_factory=dict)
    """Task -> what its container printed."""

    def __post_init__(self) -> None:
        for name in ("bin", "home", "node", "page"):
            (self.folder / name).mkdir(parents=True)
        works = {"controller": self._controller, "task": self._task}
        capacity = {"nvidia.com/gpu": str(GPUS)}
        self._nodes = SimulatedNodes(self.plane.client("admin"), [NODE], works, labels=LABELS, capacity=capacity)
        self._nodes.start()
        self._write_helm()
        driver = self.folder / "node" / "nvidia-smi"
        driver.write_text(_DRIVER.format(gpus=1))
        driver.chmod(0o755)
        for one in ROOT.iterdir():
            if one.name in ("charts", "deploy", "docs", "Makefile"):
                (self.page / one.name).symlink_to(one)
        subprocess.run(["cp", "-r", str(ROOT / "examples"), str(self.page)], check=True)

    @property
    def page(self) -> Path:
        """The folder in which commands run."""
        return self.folder / "page"

    @property
    def kube(self) -> Kube:
        return self.plane.kube

    def shell(self, block: Block) -> str:
        """What the commands print. AssertionError with both streams when one fails."""
        text = _NAMESPACE.sub(rf"\g<1>{self.namespace}", block.text)
        for key in ("ACCESS", "SECRET"):
            text = text.replace(
                f"CLEARML_API_{key}_KEY=…", f"CLEARML_API_{key}_KEY={self.server[f'CLEARML_API_{key}_KEY']}"
            )
        assert "…" not in text.partition("#")[0], f"{block.place}: a person would have to fill this in:\n{text}"
        paths = [self.folder / "bin", Path(sys.executable).parent, tools.kubernetes(), support.base_environ()["PATH"]]
        environ = {
            **support.base_environ(), **self.server, "HOME": str(self.folder / "home"),
            "PATH": ":".join(map(str, paths)), "KUBECONFIG": str(self.plane.kubeconfig("admin")),
        }  # fmt: skip
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd=self.page, env=environ, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, f"{block.place}:\n{text}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        """The ends of what its processes said."""
        return "\n".join(one.text()[-3000:] for one in self.processes) + "\n".join(self.consoles.values())

    def close(self) -> None:
        for one in self.processes:
            one.kill9()
        self._nodes.stop()
        self.kube.delete(f"/api/v1/namespaces/{self.namespace}")

    # What stands for a person's own values, and for a kubelet

    def _write_helm(self) -> None:
        here = {"podstrap.test/docs": "true"}
        under = {
            "agentk8sglue": {
                "apiServerUrlReference": self.server["CLEARML_API_HOST"],
                "webServerUrlReference": self.server["CLEARML_WEB_HOST"],
                "fileServerUrlReference": self.server["CLEARML_FILES_HOST"],
                "pollSeconds": 0.3,
                "nodeSelector": here,
                "annotations": {ANNOTATION: json.dumps([{"phase": "Running"}, {"call": "controller"}])},
                "basePodTemplate": {
                    "nodeSelector": here,
                    "annotations": {ANNOTATION: json.dumps([{"phase": "Running"}, {"call": "task"}])},
                },
            }
        }
        (self.folder / "under.yaml").write_text(json.dumps(under))
        script = self.folder / "bin" / "helm"
        program, values = shlex.quote(str(self.helm)), shlex.quote(str(self.folder / "under.yaml"))
        script.write_text(
            f'#!/bin/sh\ncase "$1" in\n  install|upgrade) exec {program} "$@" --values {values} ;;\n'
            f'  *) exec {program} "$@" ;;\nesac\n'
        )
        script.chmod(0o755)

    def _controller(self, pod: Object, term: threading.Event) -> Iterable[Step]:
        name = pod["metadata"]["name"]
        process = chart.controller(self.plane, self.namespace, pod, name, self.folder / "node" / name)
        self.processes.append(process)
        while not term.wait(0.2) and process.popen and process.popen.poll() is None:
            pass
        code = process.stop()
        return [{"exit": code}]

    def _task(self, pod: Object, term: threading.Event) -> Iterable[Step]:
        name = pod["metadata"]["name"]
        folder = self.folder / "node" / name
        (folder / "work").mkdir(parents=True)
        last_word = folder / "termination-log"
        environ = {
            **support.base_environ(), **environ_of(pod), **self._secrets(pod), "HOME": str(folder),
            names.WORK_DIR: str(folder / "work"), names.CACHE_DIR: str(self.folder / "node" / "cache"),
            names.TERMINATION_LOG: str(last_word), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        if (pod["spec"]["containers"][0].get("resources") or {}).get("limits", {}).get("nvidia.com/gpu"):
            environ["PATH"] = f"{self.folder / 'node'}:{environ['PATH']}"
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*support.PODSTRAP, "bootstrap"], env=environ, cwd=folder, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            while process.poll() is None:
                if term.wait(0.2):
                    process.send_signal(signal.SIGTERM)
                    process.wait(30)
        self.consoles[environ[names.TASK_ID]] = (folder / "log").read_text(errors="replace")
        return [{"exit": process.returncode, "message": last_word.read_text() if last_word.exists() else ""}]

    def _secrets(self, pod: Object) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in pod["spec"]["containers"][0].get("env", ()):
            reference: Mapping[str, Any] = (one.get("valueFrom") or {}).get("secretKeyRef") or {}
            if reference:
                path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/secrets/{reference['name']}"
                found[one["name"]] = base64.b64decode(self.kube.get(path)["data"][reference["key"]]).decode()
        return found
