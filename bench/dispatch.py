"""Queue to Job: our controller, a bare loop that posts the same manifests, and ClearML's own glue, side by side.

One run, one API server (real, on loopback), one queue server (the embedded one). Time is counted from the API
server's own watch: from the first object's creation to the last, over their number less one. The bare loop keeps one
connection alive and does nothing but POST. The glue (clearml-agent's k8s_example.py) runs with a real kubectl.

    make bench-dispatch [TASKS=1000] [GLUE_TASKS=100] [ROUNDS=3]

Raw samples: bench/results/dispatch.json. Last line: one JSON object.
"""

from __future__ import annotations

import contextlib
import copy
import http.client
import json
import os
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import requests

from clearml_api import queues, tasks
from tests import support
from tests.cluster import tools
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import jobs, pods
from tests.cluster.simulated import SimulatedNodes

TASKS = int(os.environ.get("TASKS", "1000"))
GLUE_TASKS = int(os.environ.get("GLUE_TASKS", "100"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
TRICKLE = 60
"""Tasks enqueued one by one, to see how long each waits for its Job."""
POLL_SECONDS = 2.0
RESULTS = Path(__file__).parent / "results" / "dispatch.json"


class Created(threading.Thread):
    """When each object of a collection was created, as its watch tells: name -> monotonic seconds."""

    def __init__(self, plane: ControlPlane, path: str) -> None:
        super().__init__(daemon=True)
        self.seen: dict[str, float] = {}
        self._kube = plane.client("admin")
        self._path = path
        self._version = self._kube.get(path, limit=1)["metadata"]["resourceVersion"]
        self.start()

    def run(self) -> None:
        """Until nothing happens for a minute and a half, long after the measurement."""
        with contextlib.suppress(requests.RequestException):
            for event in self._kube.watch(self._path, self._version, timeoutSeconds="600"):
                if event["type"] == "ADDED":
                    self.seen.setdefault(event["object"]["metadata"]["name"], time.monotonic())

    def ms_per_object(self, count: int, seconds: float = 300, describe: Any = lambda: "") -> float:
        support.until(lambda: len(self.seen) >= count, seconds, lambda: f"{len(self.seen)} of {count}: {describe()}")
        moments = sorted(self.seen.values())
        return 1000 * (moments[-1] - moments[0]) / (len(moments) - 1)


class Bench:
    """The parts that every measurement shares."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Its controllers at their own defaults: on two cores, quicker ones would fill the time of whoever posts.
        self.plane = ControlPlane(tools.kubernetes(), folder / "plane", quick=False)
        self.server = support.Server(folder / "server")
        self.plane.start()
        self.server.start()
        self.nodes = SimulatedNodes(self.plane.client("admin"), ["node-1", "node-2"], drive=False)
        self.nodes.start()
        self.session = support.session_of(self.server.environ)

    def close(self) -> None:
        self.nodes.stop()
        self.server.stop()
        self.plane.stop()

    def namespace(self, name: str) -> str:
        self.plane.kube.create("/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def queue(self, name: str, count: int) -> str:
        queue = queues.create(self.session, name)
        for number in range(count):
            tasks.enqueue(self.session, support.create_task(self.session, f"task {number}", "print(1)"), queue)
        return queue

    def controller(self, queue: str, namespace: str) -> support.Process:
        words = ["controller", "--queue", queue, "--namespace", namespace]
        words += ["--kubeconfig", str(self.plane.kubeconfig("admin"))]
        environ = {**support.base_environ(), **self.server.environ}
        process = support.Process(words, environ, self.folder / f"{namespace}.log")
        process.start()
        return process

    def ours(self, number: int) -> tuple[float, list[dict[str, Any]]]:
        """Milliseconds a task, and the manifests as they were posted."""
        space = self.namespace(f"ours-{number}")
        self.queue(f"queue {space}", TASKS)
        created = Created(self.plane, jobs(space))
        controller = self.controller(f"queue {space}", space)
        try:
            took = created.ms_per_object(TASKS, describe=lambda: controller.text()[-2000:])
        finally:
            controller.stop()
        return took, [_as_posted(one) for one in self.plane.kube.items(jobs(space))]

    def bare(self, number: int, manifests: list[dict[str, Any]]) -> float:
        """The same manifests over one connection, nothing else."""
        space = self.namespace(f"bare-{number}")
        bodies = [
            json.dumps({**one, "metadata": {**one["metadata"], "namespace": space}}).encode() for one in manifests
        ]
        created = Created(self.plane, jobs(space))
        token = self.plane.kube._session.headers["Authorization"]
        context = ssl.create_default_context(cafile=str(self.plane.ca))
        connection = http.client.HTTPSConnection("127.0.0.1", self.plane.port, context=context)
        headers = {"Authorization": token, "Content-Type": "application/json"}
        for body in bodies:
            connection.request("POST", f"{jobs(space)}?fieldValidation=Strict", body, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 201, answer.status
        return created.ms_per_object(len(bodies))

    def glue(self) -> float:
        """clearml-agent's own glue: pods, one kubectl a task."""
        space = self.namespace("glue")
        queue = f"queue {space}"
        self.queue(queue, GLUE_TASKS)
        created = Created(self.plane, pods(space))
        script = self.folder / "glue.py"
        template = self.folder / "glue.yaml"
        template.write_text("apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - image: podstrap/task:latest\n")
        script.write_text(
            "from clearml_agent.glue.k8s import K8sIntegration\n"
            f"K8sIntegration(namespace={space!r}, template_yaml={str(template)!r}).k8s_daemon({queue!r})\n"
        )
        binaries = self.folder / "path"
        binaries.mkdir()
        (binaries / "kubectl").symlink_to(tools.kubernetes() / "kubectl")
        kubeconfig = self.plane.kubeconfig("admin")
        environ = {
            **support.base_environ(), **self.server.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(self.folder),
            "PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        with (self.folder / "glue.log").open("wb") as log:
            process = subprocess.Popen([sys.executable, str(script)], env=environ, stdout=log, stderr=log)
        try:
            return created.ms_per_object(GLUE_TASKS, 600, (self.folder / "glue.log").read_text)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def waits(self) -> list[float]:
        """Seconds from enqueueing to the Job, tasks that come one by one to an idle controller."""
        space = self.namespace("trickle")
        queue = self.queue(f"queue {space}", 0)
        created = Created(self.plane, jobs(space))
        controller = self.controller(f"queue {space}", space)
        enqueued: dict[str, float] = {}
        try:
            support.until(lambda: "started" in controller.text(), 30, controller.text)
            for number in range(TRICKLE):
                task = support.create_task(self.session, f"task {number}", "print(1)")
                enqueued[task] = time.monotonic()
                tasks.enqueue(self.session, task, queue)
                time.sleep(0.173)
            created.ms_per_object(TRICKLE)
        finally:
            controller.stop()
        return [at - next(when for task, when in enqueued.items() if task in name) for name, at in created.seen.items()]


def _as_posted(job: dict[str, Any]) -> dict[str, Any]:
    """Without what the API server added."""
    found = copy.deepcopy(job)
    kept = ("name", "labels", "annotations")
    found["metadata"] = {key: found["metadata"][key] for key in kept if key in found["metadata"]}
    for key in ("status",):
        found.pop(key, None)
    spec = found["spec"]
    for key in ("selector", "completionMode", "suspend", "parallelism", "completions", "manualSelector"):
        spec.pop(key, None)
    template = spec["template"]["metadata"]["labels"]
    for key in [key for key in template if "controller-uid" in key or "job-name" in key]:
        del template[key]
    return {"apiVersion": "batch/v1", "kind": "Job", **found}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        try:
            ours, bare = [], []
            for number in range(ROUNDS):
                took, manifests = bench.ours(number)
                ours.append(took)
                bare.append(bench.bare(number, manifests))
                print(
                    f"round {number}: ours {ours[-1]:.2f} ms a task, bare {bare[-1]:.2f}", file=sys.stderr, flush=True
                )
            waits = sorted(bench.waits())
            glue = bench.glue()
        finally:
            bench.close()
    raw = {"ours_ms": ours, "bare_ms": bare, "glue_ms": [glue], "wait_s": waits, "poll_seconds": POLL_SECONDS}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(raw, indent=1))
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    summary = {
        "tasks": TASKS,
        "ours_ms_per_task": round(statistics.median(ours), 2),
        "bare_ms_per_task": round(statistics.median(bare), 2),
        "glue_ms_per_task": round(glue, 1),
        "ours_over_bare": round(statistics.median(ratios), 2),
        "glue_over_ours": round(glue / statistics.median(ours), 1),
        "wait_p99_s": round(waits[min(len(waits) - 1, int(len(waits) * 0.99))], 3),
        "poll_s": POLL_SECONDS,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
