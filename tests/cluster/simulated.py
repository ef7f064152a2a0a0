"""Nodes that exist only at the API server, their pods driven by a small table: for scale and for rare states.

Node objects are kept Ready by heartbeats; a pod that the scheduler binds to one goes through the steps of its
annotation `podstrap.test/steps` (a JSON list), or through STEPS. A step is what a kubelet would report:

    {"phase": "Running"}                              the container runs
    {"waiting": {"reason": ..., "message": ...}}      it cannot start
    {"exit": 3, "reason": "Error", "message": "..."}  it ended; `message` is its termination message
    {"disruption": "EvictionByEvictionAPI"}           the condition DisruptionTarget
    {"seconds": 0.5}                                  time passes
    {"call": name}                                    a function of the test does the pod's work, gives further steps

A pod that is deleted ends as bootstrap ends on SIGTERM: exit code 75, or as NEVER_BEGAN; {"deaf": true} among its
steps ignores that.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import requests

from tests.cluster.kube import Kube, Object, pods

Step = Mapping[str, Any]
Work = Callable[[Object, threading.Event], Iterable[Step]]
"""Does a pod's work until the event is set (SIGTERM); what it returns are the pod's further steps."""

ANNOTATION = "podstrap.test/steps"
NEVER_BEGAN: Step = {
    "exit": 137,
    "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was terminated",
}
"""What a kubelet says of the container of a pod that was deleted before it began."""
STEPS: tuple[Step, ...] = ({"phase": "Running"}, {"seconds": 0.2}, {"exit": 0})
HEARTBEAT_SECONDS = 2.0
_POOL = 64


class SimulatedNodes:
    """`start`, then the scheduler uses them. `works`: what {"call": name} calls. `drive`: False leaves pods alone."""

    def __init__(
        self, kube: Kube, names: Iterable[str], works: Mapping[str, Work] | None = None, *, drive: bool = True,
        labels: Mapping[str, str] | None = None, capacity: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._kube = kube
        self.names = tuple(names)
        self._works = dict(works or {})
        self._drive = drive
        self._labels = {"podstrap.test/node": "simulated", **(labels or {})}
        self._capacity = {"cpu": "64", "memory": "512Gi", "pods": "5000", **(capacity or {})}
        self._silent: set[str] = set()
        self._stop = threading.Event()
        self._terms: dict[str, threading.Event] = {}
        self._over: set[str] = set()
        """Pods whose containers have ended, by uid."""
        self._pool = ThreadPoolExecutor(_POOL, thread_name_prefix="simulated pod")
        self._threads = [threading.Thread(target=self._beat, daemon=True)]
        if drive:
            self._threads.append(threading.Thread(target=self._watch, daemon=True))

    def start(self) -> None:
        for name in self.names:
            self.appear(name)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """The node objects go; what their pods were doing is told to stop."""
        self._stop.set()
        for term in list(self._terms.values()):
            term.set()
        for name in self.names:
            with contextlib.suppress(requests.RequestException):
                self._kube.delete(f"/api/v1/nodes/{name}")
        self._pool.shutdown(wait=False, cancel_futures=True)

    def appear(self, name: str) -> None:
        """A new node of this name, Ready; also after it was lost."""
        self._silent.discard(name)
        self._kube.create("/api/v1/nodes", {"metadata": {"name": name, "labels": self._labels}})
        self._report(name)

    def silence(self, name: str) -> None:
        """No heartbeat and no word of its pods any more: the node is lost."""
        self._silent.add(name)

    def back(self, name: str) -> None:
        """The silent node answers again."""
        self._silent.discard(name)
        self._report(name)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            for name in self.names:
                if name not in self._silent:
                    with contextlib.suppress(requests.RequestException):
                        self._report(name)

    def _report(self, name: str) -> None:
        ready = {
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "simulated",
            "lastHeartbeatTime": _now(), "lastTransitionTime": _now(),
        }  # fmt: skip
        status = {"capacity": self._capacity, "allocatable": self._capacity, "conditions": [ready]}
        self._kube.patch(f"/api/v1/nodes/{name}/status", {"status": status}, strategic=True)
        taints = (self._kube.get(f"/api/v1/nodes/{name}")["spec"]).get("taints") or []
        if any(one["key"] == "node.kubernetes.io/not-ready" and one["effect"] == "NoSchedule" for one in taints):
            self._kube.patch(f"/api/v1/nodes/{name}", {"spec": {"taints": None}})

    def _watch(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(requests.RequestException, KeyError, ValueError):
                listed = self._kube.get("/api/v1/pods", fieldSelector="spec.nodeName!=")
                for pod in listed["items"]:
                    self._see(pod)
                version = listed["metadata"]["resourceVersion"]
                for event in self._kube.watch("/api/v1/pods", version, fieldSelector="spec.nodeName!="):
                    if event["type"] == "ERROR" or self._stop.is_set():
                        break
                    if event["type"] != "DELETED":
                        self._see(event["object"])

    def _see(self, pod: Object) -> None:
        if pod["spec"].get("nodeName") not in self.names or self._stop.is_set():
            return
        uid = pod["metadata"]["uid"]
        if uid not in self._terms:
            self._terms[uid] = threading.Event()
            self._pool.submit(self._live, pod, self._terms[uid])
        if pod["metadata"].get("deletionTimestamp"):
            self._terms[uid].set()
            if uid in self._over:
                self._pool.submit(self._bury, pod)

    def _live(self, pod: Object, term: threading.Event) -> None:
        """A pod's whole life on its node."""
        steps = json.loads((pod["metadata"].get("annotations") or {}).get(ANNOTATION, "null")) or list(STEPS)
        deaf = any("deaf" in step for step in steps)
        queue = [step for step in steps if "deaf" not in step]
        ended = began = False
        while queue and not ended and (deaf or not term.is_set()) and not self._stop.is_set():
            step = queue.pop(0)
            if "seconds" in step:
                (self._stop if deaf else term).wait(float(step["seconds"]))
            elif "call" in step:
                queue = [*self._works[step["call"]](pod, term), *queue]
                deaf = deaf or any("exit" in one for one in queue)
            else:
                self._apply(pod, step)
                ended, began = "exit" in step, began or "phase" in step
        if not ended and not deaf:
            term.wait()
        if term.is_set() and not ended and not self._stop.is_set():
            self._apply(pod, {"exit": 75, "reason": "Error"} if began else NEVER_BEGAN)
        self._over.add(pod["metadata"]["uid"])
        if term.is_set():
            self._bury(pod)

    def _bury(self, pod: Object) -> None:
        """A kubelet confirms a deletion once the containers have ended."""
        if pod["spec"]["nodeName"] not in self._silent and not self._stop.is_set():
            with contextlib.suppress(requests.RequestException):
                self._kube.delete(_path(pod), gracePeriodSeconds=0, preconditions={"uid": pod["metadata"]["uid"]})

    def _apply(self, pod: Object, step: Step) -> None:
        """Report one step; again after a conflict, never for a pod that is gone."""
        if pod["spec"]["nodeName"] in self._silent:
            return
        for _ in range(20):
            try:
                self._kube.patch(f"{_path(pod)}/status", {"status": _status(pod, step)}, strategic=True)
                return
            except requests.HTTPError as error:
                if error.response is not None and error.response.status_code == 404:
                    return
                time.sleep(0.1)
            except requests.RequestException:
                time.sleep(0.5)


def _status(pod: Object, step: Step) -> Object:
    container = pod["spec"]["containers"][0]
    base = {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "ready": False,
        "restartCount": 0,
    }
    if "disruption" in step:
        condition = {
            "type": "DisruptionTarget", "status": "True", "reason": step["disruption"],
            "message": step.get("message", ""), "lastTransitionTime": _now(),
        }  # fmt: skip
        return {"conditions": [condition]}
    if "waiting" in step:
        return {"phase": "Pending", "containerStatuses": [{**base, "state": {"waiting": step["waiting"]}}]}
    if "exit" in step:
        code = int(step["exit"])
        ended = {
            "exitCode": code, "reason": step.get("reason") or ("Error" if code else "Completed"),
            "message": step.get("message", ""), **({} if step is NEVER_BEGAN else {"startedAt": _now()}),
            "finishedAt": _now(),
            **({"signal": step["signal"]} if "signal" in step else {}),
        }  # fmt: skip
        phase = step.get("phase") or ("Failed" if code else "Succeeded")
        pod_reason = {key: step[f"pod_{key}"] for key in ("reason", "message") if f"pod_{key}" in step}
        return {"phase": phase, **pod_reason, "containerStatuses": [{**base, "state": {"terminated": ended}}]}
    if step["phase"] == "Running":
        state = {"running": {"startedAt": _now()}}
        ready = [
            {"type": kind, "status": "True", "lastTransitionTime": _now()} for kind in ("ContainersReady", "Ready")
        ]
        statuses = [{**base, "ready": True, "state": state}]
        return {"phase": "Running", "startTime": _now(), "conditions": ready, "containerStatuses": statuses}
    return {key: step[key] for key in ("phase", "reason", "message") if key in step}


def _path(pod: Object) -> str:
    return pods(pod["metadata"]["namespace"], pod["metadata"]["name"])


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
