"""A controller that watches many Jobs and pods: its memory, whether churn makes it grow, and what it asks while idle.

A real API server holds JOBS_WATCHED (10,000) finished Jobs of ours with a pod each, of tasks that the embedded server
does not have, made by the bench itself (no Job controller runs). The controller starts, lists, and is measured; then
CHURN (10,000) pods change their status one after another, an hour's worth of a busy cluster, and it is measured again.
Requests are counted by a proxy on each side over half a minute of idling.

Last line: one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from clearml_api import queues
from tests import support
from tests.cluster import tools
from tests.cluster.boundary import Boundary
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import Kube, jobs, pods

WATCHED = int(os.environ.get("JOBS_WATCHED", "10000"))
CHURN = int(os.environ.get("CHURN", "10000"))
IDLE_SECONDS = 30.0
POLL_SECONDS = 2.0
RESULTS = Path(__file__).parent / "results" / "watch.json"
SPACE = "watched"


def main() -> None:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        plane, server = ControlPlane(tools.kubernetes(), folder / "plane"), support.Server(folder / "server")
        plane.start()
        server.start()
        plane.end("kube-controller-manager")
        plane.end("kube-scheduler")
        try:
            print(json.dumps(_measure(plane, server, folder)))
        finally:
            server.stop()
            plane.stop()


def _measure(plane: ControlPlane, server: support.Server, folder: Path) -> dict[str, Any]:
    session = support.session_of(server.environ)
    queues.create(session, "the queue")
    plane.kube.create("/api/v1/namespaces", {"metadata": {"name": SPACE}})
    plane.kube.create(f"/api/v1/namespaces/{SPACE}/serviceaccounts", {"metadata": {"name": "default"}})
    names = [uuid.uuid4().hex for _ in range(WATCHED)]
    clients = [plane.client("admin") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda pair: _job_and_pod(clients[pair[0] % 4], pair[1]), enumerate(names)))
    kubernetes, clearml = Boundary(plane.url, plane.ca), Boundary(server.environ["CLEARML_API_HOST"])
    words = ["controller", "--queue", "the queue", "--namespace", SPACE]
    words += ["--metrics", f"127.0.0.1:{support.free_port()}", "--kubeconfig"]
    words.append(str(plane.kubeconfig("admin", server=kubernetes.url)))
    environ = {**support.base_environ(), **server.environ, "CLEARML_API_HOST": clearml.url}
    process = support.Process(words, environ, folder / "controller.log")
    process.start()
    support.until(lambda: "started" in process.text() and len(clearml.seen) > 4, 120, process.text)
    time.sleep(10)
    before = _resident(process)
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: _touch(clients[number % 4], names[number % WATCHED], number), range(CHURN)))
    churned = time.monotonic() - began
    time.sleep(10)
    after = _resident(process)
    with kubernetes.counting() as asked, clearml.counting() as polled:
        time.sleep(IDLE_SECONDS)
    process.stop()
    lists = [path for _, method, path in asked if method == "GET" and "leases" not in path and "watch=1" not in path]
    raw = {"before_mb": before, "after_mb": after, "asked": asked, "polled": polled, "churn_seconds": churned}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(raw, indent=1))
    return {
        "jobs": WATCHED,
        "pods": WATCHED,
        "rss_mb": round(before["now"], 1),
        "rss_peak_mb": round(before["peak"], 1),
        "churned_pods": CHURN,
        "rss_after_churn_mb": round(after["now"], 1),
        "clearml_requests_per_poll": round(len(polled) / (IDLE_SECONDS / POLL_SECONDS), 2),
        "kubernetes_lists_while_idle": len(lists),
    }


def _resident(process: support.Process) -> dict[str, float]:
    """MB now, and the most it ever was."""
    assert process.popen
    text = Path(f"/proc/{process.popen.pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines() if line.startswith(("VmRSS", "VmHWM")))
    return {"now": int(fields["VmRSS"].split()[0]) / 1000, "peak": int(fields["VmHWM"].split()[0]) / 1000}


def _job_and_pod(kube: Kube, task: str) -> None:
    name = f"podstrap-{task}-00000000-1"
    found = {
        "app.kubernetes.io/managed-by": "podstrap", "podstrap.io/controller": "podstrap", "podstrap.io/task": task,
        "podstrap.io/queue": "0" * 32, "podstrap.io/added": "1795819863930", "podstrap.io/attempt": "1",
    }  # fmt: skip
    spec = {"restartPolicy": "Never", "containers": [{"name": "task", "image": "team/image:1", "env": [
        {"name": f"VARIABLE_{number}", "value": "x" * 40} for number in range(20)]}]}  # fmt: skip
    job = kube.create(
        jobs(SPACE),
        {"metadata": {"name": name, "labels": found}, "spec": {"backoffLimit": 0, "template": {"spec": spec}}},
    )
    uid = job["metadata"]["uid"]
    owned = {**found, "batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": name}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": True}
    metadata = {"name": f"{name}-aaaaa", "labels": owned, "ownerReferences": [owner]}
    kube.create(pods(SPACE), {"metadata": metadata, "spec": spec})
    ended = {"name": "task", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": {"terminated": {
        "exitCode": 0, "reason": "Completed", "message": "m" * 300}}}  # fmt: skip
    kube.patch(
        f"{pods(SPACE, name)}-aaaaa/status",
        {"status": {"phase": "Succeeded", "containerStatuses": [ended]}},
        strategic=True,
    )
    stamp = "2026-01-01T00:00:00Z"
    usual = {"status": "True", "reason": "CompletionsReached", "lastTransitionTime": stamp, "lastProbeTime": stamp}
    conditions = [{"type": kind, **usual} for kind in ("SuccessCriteriaMet", "Complete")]
    status = {"startTime": stamp, "completionTime": stamp, "succeeded": 1, "conditions": conditions}
    kube.patch(f"{jobs(SPACE, name)}/status", {"status": status}, strategic=True)


def _touch(kube: Kube, task: str, number: int) -> None:
    path = f"{pods(SPACE)}/podstrap-{task}-00000000-1-aaaaa/status"
    kube.patch(path, {"status": {"message": f"change {number}"}}, strategic=True)


if __name__ == "__main__":
    main()
