"""A ClearML server and a cluster as small models, and pods that speak the claim protocol one call at a time.

For the state machine of test_plan_machine.py: every call can be the controller's last (`crash_at`), and pods stop
between any two of their calls. The server answers as clearml-api.md says; test_loop.py holds the same loop against
a real one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from clearml_api.configuration import Configuration
from clearml_api.errors import ApiError, ApiUnreachable
from clearml_api.models import task_of
from controller.cluster.interface import NameTaken, same_job
from controller.state import ClusterState, JobEnd, JobFacts, PodFacts
from protocol import labels
from protocol.claim import RUNTIME_KEY, Claim, started_reason
from protocol.termination import Outcome, TerminationMessage

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


NEVER = -1
"""The code of a pod that was removed before its container started."""


class Crash(BaseException):
    """kill -9 of the controller."""


@dataclass
class Clock:
    """Time that only moves when told; each look is a millisecond later, so that no two entries are alike."""

    now: datetime = START

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Server:
    """Just enough of a ClearML server; also the controller's session."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.configuration = Configuration(api_host="http://model")
        self.tasks: dict[str, dict[str, Any]] = {}
        self.queues: dict[str, list[dict[str, Any]]] = {}
        self.console: dict[str, list[dict[str, Any]]] = {}
        self.calls: list[str] = []
        self.crash_at: int | None = None
        """The controller dies at this call (counted from 0), before it when even, after it when odd."""
        self.down = False

    def call(self, endpoint: str, payload: Mapping[str, Any], *, bounds: object = None) -> dict[str, Any]:
        """As Session.call, with the controller's death before or after the call's effect."""
        self.calls.append(endpoint)
        if self.down:
            raise ApiUnreachable(f"no answer to {endpoint}")
        countdown, self.crash_at = self.crash_at, None if self.crash_at is None else self.crash_at - 2
        if countdown == 0:
            raise Crash
        answer = self.do(endpoint, payload)
        if countdown == 1:
            raise Crash
        return answer

    def send_lines(self, endpoint: str, lines: bytes, *, bounds: object = None) -> dict[str, Any]:
        """As Session.send_lines."""
        return self.call(endpoint, {"events": [json.loads(line) for line in lines.splitlines()]})

    def do(self, endpoint: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The call itself, for pods and users."""
        handler: Callable[[Mapping[str, Any]], dict[str, Any] | None] = getattr(self, "_" + endpoint.replace(".", "_"))
        return handler(payload) or {}

    def task(self, name: str) -> dict[str, Any]:
        if name not in self.tasks:
            raise ApiError("tasks", 400, 101, f"unknown task {name}")
        return self.tasks[name]

    def status(self, name: str, status: str, message: str = "") -> None:
        changed = self.clock().isoformat()
        self.task(name).update(status=status, status_message=message, status_reason="", status_changed=changed)

    def _tasks_create(self, payload: Mapping[str, Any]) -> None:
        self.tasks[payload["id"]] = {"id": payload["id"], "status": "created", "runtime": {}, "status_message": ""}

    def _tasks_enqueue(self, payload: Mapping[str, Any]) -> None:
        name, queue = payload["task"], self.queues[payload["queue"]]
        if any(entry["task"] == name for entry in queue):
            raise ApiError("tasks.enqueue", 400, 706, "already queued")
        self.status(name, "queued")
        queue.append({"task": name, "added": self.clock().isoformat()})

    def _tasks_reset(self, payload: Mapping[str, Any]) -> None:
        self.status(payload["task"], "created")
        self.task(payload["task"])["runtime"] = {}
        self.console.pop(payload["task"], None)
        self._drop(payload["task"])

    def _tasks_stop(self, payload: Mapping[str, Any]) -> None:
        name = payload["task"]
        if self.task(name)["status"] == "in_progress":
            self.task(name)["status_message"] = "stopping"
        elif self.task(name)["status"] == "queued":
            self._drop(name)
            self.status(name, "stopped")

    def _drop(self, name: str) -> None:
        for queue in self.queues.values():
            queue[:] = [entry for entry in queue if entry["task"] != name]

    def _tasks_get_by_id(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        return {"task": self._copy(self.task(payload["task"]))}

    def _tasks_get_all(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        return {"tasks": [self._copy(self.tasks[name]) for name in payload["id"] if name in self.tasks]}

    def _copy(self, task: dict[str, Any]) -> dict[str, Any]:
        return {**task, "runtime": dict(task["runtime"])}

    def _tasks_edit_runtime(self, payload: Mapping[str, Any]) -> None:
        task = self.task(payload["task"])
        if task["status"] in ("completed", "failed", "stopped"):
            raise ApiError("tasks.edit_runtime", 400, 110, "finished")
        task["runtime"].update(payload["add_or_update"])

    def _change(self, payload: Mapping[str, Any], status: str, allowed: tuple[str, ...]) -> None:
        if self.task(payload["task"])["status"] not in allowed and not payload.get("force"):
            raise ApiError(f"tasks.{status}", 400, 110, "invalid status change")
        self.status(payload["task"], status, payload.get("status_message", ""))

    def _tasks_started(self, payload: Mapping[str, Any]) -> None:
        self._change(payload, "in_progress", ("created", "queued", "stopped", "completed", "in_progress"))
        self.task(payload["task"])["status_reason"] = payload.get("status_reason", "")

    def _tasks_completed(self, payload: Mapping[str, Any]) -> None:
        self._change(payload, "completed", ("in_progress", "stopped", "completed"))

    def _tasks_failed(self, payload: Mapping[str, Any]) -> None:
        self._change(payload, "failed", ("in_progress", "stopped", "failed"))

    def _tasks_stopped(self, payload: Mapping[str, Any]) -> None:
        self._change(payload, "stopped", ("queued", "in_progress", "failed", "stopped"))

    def _tasks_update(self, payload: Mapping[str, Any]) -> None:
        self.task(payload["task"])["status_message"] = payload["status_message"]

    def _events_add_batch(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        for event in payload["events"]:
            self.console.setdefault(event["task"], []).append(event)
        return {"added": len(payload["events"]), "errors": 0}

    def _events_get_task_log(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        return {"events": self.console.get(payload["task"], [])[-payload["batch_size"] :]}

    def _tasks_ping(self, payload: Mapping[str, Any]) -> None:
        self.task(payload["task"])

    def _queues_get_all(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        most = payload.get("max_task_entries", 0)
        wanted = payload.get("id") or list(self.queues)
        found = [(name, self.queues[name]) for name in wanted if name in self.queues]
        return {"queues": [{"id": name, "name": name, "entries": list(entries[:most])} for name, entries in found]}

    def _queues_create(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        if payload["name"] in self.queues:
            raise ApiError("queues.create", 400, 801, "taken")
        self.queues[payload["name"]] = []
        return {"id": payload["name"]}

    def _queues_remove_task(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        queue = self.queues[payload["queue"]]
        left = [entry for entry in queue if entry["task"] != payload["task"]]
        if len(left) == len(queue):
            raise ApiError("queues.remove_task", 400, 703, "not in that queue")
        queue[:] = left
        return {"removed": 1}

    def _queues_move_task_to_front(self, payload: Mapping[str, Any]) -> None:
        queue = self.queues[payload["queue"]]
        mine = [entry for entry in queue if entry["task"] == payload["task"]]
        if not mine:
            raise ApiError("queues.move_task_to_front", 400, 703, "not in that queue")
        queue[:] = mine + [entry for entry in queue if entry["task"] != payload["task"]]


@dataclass
class Pod:
    """A pod, and how far its bootstrap has come."""

    uid: str
    at: str = "pending"
    """pending, start, removed, claimed, checked, running, then gone."""
    claim: Claim | None = None
    words: TerminationMessage | None = None
    code: int | None = None
    signal: int | None = None
    disruption: str = ""
    terminating: bool = False
    created: datetime = START
    lost_at: datetime | None = None
    """Its node does not answer since: what becomes of it shows nowhere in the cluster until the node is back."""
    given_up: bool = False
    trouble: tuple[str, str] = ("", "")
    """Why it does not start: a kubelet's reason and message."""

    @property
    def alive(self) -> bool:
        return self.code is None


@dataclass
class Job:
    """A Job with Kubernetes' rules for ours."""

    manifest: Mapping[str, Any]
    uid: str
    pods: list[Pod] = field(default_factory=list)
    end: JobEnd | None = None
    stopped: bool = False
    created: datetime = START
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> Mapping[str, str]:
        return dict(self.manifest["metadata"]["labels"])


class Cluster:
    """Jobs and pods that move only when told."""

    def __init__(self, clock: Clock, server: Server) -> None:
        self.clock = clock
        self.server = server
        self.jobs: dict[str, Job] = {}
        self.made = 0
        self.events: list[tuple[str, str]] = []

    def snapshot(self) -> ClusterState:
        return ClusterState(tuple(self._facts(name, job) for name, job in self.jobs.items()))

    def _facts(self, name: str, job: Job) -> JobFacts:
        pods = tuple(
            self._hidden(pod)
            if pod.lost_at
            else PodFacts(
                name=pod.uid,
                uid=pod.uid,
                phase=("Pending" if pod.at == "pending" else "Running")
                if pod.alive
                else ("Failed" if pod.code else "Succeeded"),
                exit_code=None if pod.code == NEVER else pod.code,
                signal=pod.signal,
                reason="" if pod.alive or pod.code == NEVER else "Error",
                created=pod.created,
                started=None if pod.at == "pending" else pod.created,
                waiting_reason=pod.trouble[0] if pod.alive and pod.at == "pending" else "",
                waiting_message=pod.trouble[1],
                disruption=pod.disruption,
                termination=pod.words.to_text() if pod.words else "",
                deleting=pod.terminating,
            )
            for pod in job.pods
        )
        metadata = job.manifest["metadata"]
        return JobFacts(
            name, job.uid, labels=job.labels, annotations={**metadata.get("annotations", {}), **job.notes}, end=job.end,
            stopped=job.stopped, pods=pods, created=job.created,
        )  # fmt: skip

    def _hidden(self, pod: Pod) -> PodFacts:
        return PodFacts(
            pod.uid, pod.uid, phase="Failed" if pod.given_up else "Running", node="node", created=pod.created,
            started=pod.created, deleting=True, gone_by=pod.lost_at, disruption="DeletionByTaintManager",
            reason="NodeLost" if pod.given_up else "", termination=TerminationMessage(Outcome.RUNNING, "").to_text(),
        )  # fmt: skip

    def give_up(self, job: JobFacts, pod: PodFacts, why: str) -> None:
        self._maybe_crash(before=True)
        for known in self.jobs[job.name].pods if job.name in self.jobs else ():
            if known.uid == pod.uid and not known.given_up:
                known.given_up = True
                self._next(self.jobs[job.name])
        self._maybe_crash(before=False)

    def lose(self, pod: Pod) -> None:
        pod.lost_at = self.clock()

    def polls(self) -> None:
        """Pods on lost nodes that still reach the server look whether the task is their own."""
        for job, pod in self.living_pods():
            if pod.lost_at and not self.holds(pod, job.labels[labels.TASK]):
                pod.code = 0

    def node_is_back(self, job: Job, pod: Pod) -> None:
        """It tells what became of the pod."""
        if pod.given_up:
            return
        pod.lost_at = None
        if pod.code is not None:
            self._end(job, pod, pod.code)

    def create(self, manifest: Mapping[str, Any]) -> bool:
        self._maybe_crash(before=True)
        name = manifest["metadata"]["name"]
        if known := self.jobs.get(name):
            if same_job(known.labels, manifest["metadata"]["labels"]):
                return False
            raise NameTaken(name)
        self.made += 1
        self.jobs[name] = Job(manifest, f"job{self.made}", [self._pod()], created=self.clock())
        self._maybe_crash(before=False)
        return True

    def stop(self, job: JobFacts, mark: str = "") -> None:
        self._maybe_crash(before=True)
        if (known := self.jobs.get(job.name)) and known.uid == job.uid:
            known.stopped = True
            if mark:
                known.notes[labels.STOPPED_BECAUSE] = mark
            for pod in known.pods:
                pod.terminating = pod.terminating or pod.alive
        self._maybe_crash(before=False)

    def delete(self, job: JobFacts) -> None:
        self._maybe_crash(before=True)
        if (known := self.jobs.get(job.name)) and known.uid == job.uid:
            assert not any(pod.alive and not pod.given_up for pod in known.pods), "deleted while its pods live"
            del self.jobs[job.name]
        self._maybe_crash(before=False)

    def note(self, job: JobFacts, text: str) -> None:
        self._maybe_crash(before=True)
        if (known := self.jobs.get(job.name)) and known.uid == job.uid:
            known.notes[labels.TOLD] = text
        self._maybe_crash(before=False)

    def event(self, job: JobFacts, word: str, message: str, *, warning: bool) -> None:
        self.events.append((job.uid, word))

    def wait(self, seconds: float) -> bool:
        return False

    def probe(self, manifest: Mapping[str, Any]) -> None:
        """All are taken."""

    def cover(self, namespaces: Iterable[str]) -> None:
        """One namespace has it all."""

    def tail(self, namespace: str, pod: str, lines: int) -> str:
        return ""

    def _maybe_crash(self, *, before: bool) -> None:
        server = self.server
        if server.crash_at == (0 if before else 1):
            server.crash_at = None
            raise Crash
        if not before and server.crash_at is not None:
            server.crash_at -= 2

    def _pod(self) -> Pod:
        self.made += 1
        return Pod(f"pod{self.made}", created=self.clock())

    def living_pods(self) -> list[tuple[Job, Pod]]:
        return [(job, pod) for job in self.jobs.values() for pod in job.pods if pod.alive]

    def step(self, job: Job, pod: Pod, code: int = 0) -> None:
        """The pod's next call, as bootstrap makes them."""
        task, queue = job.labels["podstrap.io/task"], job.labels["podstrap.io/queue"]
        if pod.terminating and not pod.lost_at and pod.at != "checked":
            self._terminated(job, pod, task)
        elif pod.at == "pending":
            pod.at = "pending" if pod.trouble[0] else "start"
        elif pod.at == "start":
            self._begin(job, pod, task, queue)
        elif pod.at == "removed":
            told = job.manifest.get("told", {})
            attempt = int(job.labels["podstrap.io/attempt"])
            self._take(job, pod, task, attempt, tuple(told.get("history", ())), told.get("failures", 0))
        elif pod.at == "claimed":
            raw = self.server.tasks.get(task)
            mine = raw is not None and pod.claim is not None and pod.claim.same_holder(self._claim(task))
            if raw is None or not mine or raw["status"] not in ("queued", "in_progress"):
                self._leave(job, pod, task, Outcome.CLAIM_LOST, 0)
            else:
                pod.at = "checked"
        elif pod.at == "checked":
            if task in self.server.tasks:
                attempt = pod.claim.attempt if pod.claim else 0
                self.server.do("tasks.started", {"task": task, "status_reason": started_reason(pod.uid, attempt)})
            pod.at = "running"
            pod.words = TerminationMessage(Outcome.RUNNING, task, job.uid, phase="run")
        else:
            self._work(job, pod, task, code)

    def _begin(self, job: Job, pod: Pod, task: str, queue: str) -> None:
        """An earlier pod of this Job may hold the claim; else the queue decides."""
        held = self._claim(task)
        raw = self.server.tasks.get(task)
        if (
            held
            and held.job_uid == job.uid
            and not held.requeued
            and raw
            and raw["status"] in ("queued", "in_progress")
        ):
            self._take(job, pod, task, held.attempt + 1, held.history, held.failures)
            return
        try:
            self.server.do("queues.remove_task", {"queue": queue, "task": task})
            pod.at = "removed"
        except ApiError:
            self._leave(job, pod, task, Outcome.CLAIM_LOST, 0)

    def _take(
        self, job: Job, pod: Pod, task: str, attempt: int, history: tuple[str, ...], failures: int
    ) -> None:  # fmt: skip
        pod.claim = Claim(job.uid, attempt, pod.uid, history=history, failures=failures)
        try:
            self.server.do("tasks.edit_runtime", {"task": task, "add_or_update": {RUNTIME_KEY: pod.claim.to_text()}})
            pod.at = "claimed"
        except ApiError:
            self._leave(job, pod, task, Outcome.CLAIM_LOST, 0)

    def _work(self, job: Job, pod: Pod, task: str, code: int) -> None:
        if not self.holds(pod, task):
            self._leave(job, pod, task, Outcome.CLAIM_LOST, 0)
        elif self.server.tasks[task]["status_message"] == "stopping":
            self.server.do("tasks.stopped", {"task": task})
            self._leave(job, pod, task, Outcome.STOPPED, 0)
        elif code and job.manifest.get("told", {}).get("retries_left"):
            tried = self.server.tasks[task]
            tried["tried"] = tried.get("tried", 0) + 1
            self._leave(job, pod, task, Outcome.FAILED, code)  # the status is left to the controller
        else:
            ran = self.server.tasks[task]
            ran["ran"] = ran.get("ran", 0) + 1
            self.server.do("tasks.failed" if code else "tasks.completed", {"task": task})
            self._leave(job, pod, task, Outcome.FAILED if code else Outcome.COMPLETED, code)

    def _terminated(self, job: Job, pod: Pod, task: str) -> None:
        if pod.at == "pending":
            self._end(job, pod, NEVER)
        elif pod.at == "start":
            self.kill(job, pod)
        elif self.holds(pod, task) or pod.at == "removed":
            self._leave(job, pod, task, Outcome.DISRUPTED, 75)
        else:
            self._leave(job, pod, task, Outcome.CLAIM_LOST, 0)

    def holds(self, pod: Pod, task: str) -> bool:
        raw = self.server.tasks.get(task)
        return (
            raw is not None
            and raw["status"] == "in_progress"
            and pod.claim is not None
            and pod.claim.same_holder(self._claim(task))
        )

    def _claim(self, task: str) -> Claim | None:
        raw = self.server.tasks.get(task)
        return task_of(raw).claim if raw else None

    def kill(self, job: Job, pod: Pod) -> None:
        """kill -9 of bootstrap: no last word beyond the checkpoint."""
        pod.signal = 9
        self._end(job, pod, 137)

    def evict(self, pod: Pod) -> None:
        pod.disruption, pod.terminating = "EvictionByEvictionAPI", True

    def finish_silently(self, job: Job, pod: Pod, task: str) -> None:
        """The task ran to its end while the server did not answer: only the last words know."""
        pod.words = TerminationMessage(Outcome.COMPLETED, task, job.uid, phase="report", exit_code=0)
        self._end(job, pod, 0)

    def _leave(self, job: Job, pod: Pod, task: str, outcome: Outcome, code: int) -> None:
        pod.words = TerminationMessage(outcome, task, job.uid, exit_code=code)
        self._end(job, pod, code)

    def _end(self, job: Job, pod: Pod, code: int) -> None:
        pod.code = code
        if pod.lost_at:
            return
        if code == 0:
            job.end = JobEnd(succeeded=True, reason="Complete", at=self.clock())
        elif not pod.disruption and code not in (75, NEVER):
            job.end = JobEnd(succeeded=False, reason="PodFailurePolicy", at=self.clock())
        else:
            self._next(job)

    def _next(self, job: Job) -> None:
        if not job.stopped:
            job.pods.append(self._pod())


__all__ = ["Clock", "Cluster", "Crash", "Job", "Pod", "Server", "replace"]
