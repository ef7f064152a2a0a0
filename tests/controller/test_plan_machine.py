"""Whatever is killed, and whenever: no task is lost, never two pods at once, capacity is never exceeded, it ends.

A state machine over the models of model.py: users, pods and controllers act in any order, the controller dies
between any two of its calls, pods between any two of theirs. At the end the disturbances stop, and every task must
come to an end by itself.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from clearml_api.errors import ApiError
from clearml_api.models import task_of
from controller.loop import Loop
from controller.notes import shape
from controller.settings import Settings
from controller.settings_queue import QueueLimits, QueueSettings
from protocol import labels
from protocol.errors import PodstrapError
from protocol.names import added_millis, job_name
from tests.controller.model import Clock, Cluster, Crash, Job, Pod, Server

GRACE = 30.0
EXAMPLES = int(os.environ.get("PODSTRAP_MACHINE_EXAMPLES", "60"))
FINAL = ("completed", "failed", "stopped")
RETRIES = 1
TROUBLE = {
    "absent": ("ErrImagePull", "r/i:1: not found"),
    "registry": ("ImagePullBackOff", "dial tcp: i/o timeout"),
    "name": ("InvalidImageName", "couldn't parse image name"),
    "room": ("Unschedulable", "0/3 nodes are available: 3 Insufficient cpu."),
    "more room": ("Unschedulable", "0/5 nodes are available: 5 Insufficient cpu."),
}
PAST_THE_CLAIM = ("removed", "claimed", "checked", "running")


def render(
    task, *, queue_id, queue_name, added, attempt, settings, queue, now, history=(), home="", **more
) -> dict[str, Any]:
    """The least manifest."""
    found = {
        labels.TASK: task.id,
        labels.QUEUE: queue_id,
        labels.ADDED: str(added_millis(added)),
        labels.ATTEMPT: str(attempt),
    }
    annotations = {labels.QUEUE_NAME: queue_name}
    failures = task.claim.failures if task.claim and task.claim.requeued else 0
    told = {"history": history, "failures": failures, "retries_left": max(0, queue.retry_own_failures - failures)}
    metadata = {"name": job_name(task.id, added, attempt), "labels": found, "annotations": annotations}
    return {"metadata": metadata, "told": told}


def settings_of(**more: Any) -> Settings:
    first = QueueSettings(
        queue_settings=QueueLimits(max_pods=2), pending_timeout_seconds=100, image_pull_grace_seconds=40
    )
    second = QueueSettings(retry_own_failures=RETRIES, image_pull_grace_seconds=40, on_node_lost="replace")
    queues = {"first": first, "second": second}
    return Settings(queues=queues, max_pods=3, orphan_grace_seconds=GRACE, reconcile_seconds=60, **more)


class World(RuleBasedStateMachine):
    """Users, pods, and a controller that may die."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.server = Server(self.clock)
        self.server.queues = {"first": [], "second": [], "foreign": []}
        self.cluster = Cluster(self.clock, self.server)
        self.wanted: dict[str, int] = {}
        self.restart()

    # Users

    @precondition(lambda self: len(self.wanted) < 3)
    @rule(queue=st.sampled_from(["first", "second"]))
    def enqueue_new(self, queue: str) -> None:
        name = f"task{len(self.wanted)}"
        self.server.do("tasks.create", {"id": name})
        self.wanted[name] = 0
        self._enqueue(name, queue)

    @precondition(lambda self: self.server.tasks)
    @rule(data=st.data(), queue=st.sampled_from(["first", "second"]))
    def reset_and_enqueue(self, data: st.DataObject, queue: str) -> None:
        name = self._draw(data, list(self.server.tasks))
        self.server.do("tasks.reset", {"task": name})
        self._enqueue(name, queue)

    @precondition(lambda self: self._ended())
    @rule(data=st.data())
    def enqueue_again(self, data: st.DataObject) -> None:
        self._enqueue(self._draw(data, self._ended()), "second")

    def _ended(self) -> list[str]:
        """Tasks that a user can enqueue again: the server refuses one that is still in the queue, which a task is
        whose superseded pod said tasks.started after a reset and that was stopped then."""
        places = [entry["task"] for entry in self.server.queues["second"]]
        ended = [name for name, task in self.server.tasks.items() if task["status"] in ("failed", "stopped")]
        return [name for name in ended if name not in places]

    @precondition(lambda self: self.server.tasks)
    @rule(data=st.data(), how=st.sampled_from(["tasks.stop", "tasks.reset", "delete", "move"]))
    def take_away(self, data: st.DataObject, how: str) -> None:
        name = self._draw(data, list(self.server.tasks))
        if how == "delete":
            self.server.do("tasks.reset", {"task": name})
            del self.server.tasks[name]
        elif how == "move":
            if self.server.tasks[name]["status"] == "queued":
                self.server._drop(name)
                self._enqueue(name, "foreign")
        else:
            self.server.do(how, {"task": name})

    def _enqueue(self, name: str, queue: str) -> None:
        self.wanted[name] += 1
        self.server.do("tasks.enqueue", {"task": name, "queue": queue})

    # The controller

    @rule(crash=st.none() | st.integers(0, 12))
    def controller_round(self, crash: int | None) -> None:
        self.server.crash_at = crash
        try:
            self.loop.round()
        except Crash:
            self.restart()
        finally:
            self.server.crash_at = None

    @rule(times=st.integers(0, 3))
    def round_without_a_server(self, times: int) -> None:
        if times:  # most of the time: a plain round, which finds more
            self.loop.round()
            return
        before = {name: [pod.terminating for pod in job.pods] for name, job in self.cluster.jobs.items()}
        self.server.down = True
        with pytest.raises(PodstrapError):
            self.loop.round()
        self.server.down = False
        assert before == {name: [pod.terminating for pod in job.pods] for name, job in self.cluster.jobs.items()}

    def restart(self) -> None:
        self.loop = Loop(
            settings_of(),
            self.server,  # type: ignore[arg-type]
            self.cluster,
            now=self.clock,
            monotonic=lambda: self.clock.now.timestamp(),
            render=render,
        )

    @rule(seconds=st.sampled_from([10.0, GRACE + 1, 90.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_seconds(seconds)
        self.cluster.polls()

    # Pods

    @precondition(lambda self: self.cluster.living_pods())
    @rule(data=st.data(), code=st.sampled_from([0, 0, 3]), times=st.integers(1, 5))
    def pod_goes_on(self, data: st.DataObject, code: int, times: int) -> None:
        self._step(*self._draw(data, self.cluster.living_pods()), code, times)

    @precondition(lambda self: self.cluster.living_pods())
    @rule(times=st.integers(1, 5))
    def newest_pod_goes_on(self, times: int) -> None:
        self._step(*self.cluster.living_pods()[-1], 0, times)

    def _step(self, job: Job, pod: Pod, code: int, times: int) -> None:
        for _ in range(times):
            if pod.alive:
                self.cluster.step(job, pod, code)

    @precondition(lambda self: self.cluster.living_pods())
    @rule(data=st.data(), how=st.sampled_from(["kill", "evict", "silent"]))
    def pod_is_disturbed(self, data: st.DataObject, how: str) -> None:
        job, pod = self._draw(data, self.cluster.living_pods())
        if how == "kill":
            self.cluster.kill(job, pod)
        elif how == "evict":
            self.cluster.evict(pod)
        elif pod.at == "running" and self.cluster.holds(pod, job.labels[labels.TASK]):
            self.cluster.finish_silently(job, pod, job.labels[labels.TASK])

    @precondition(lambda self: self._on_a_node())
    @rule(data=st.data())
    def node_is_lost(self, data: st.DataObject) -> None:
        self.cluster.lose(self._draw(data, self._on_a_node()))

    def _on_a_node(self) -> list[Pod]:
        return [pod for _, pod in self.cluster.living_pods() if pod.at == "running" and not pod.lost_at]

    @precondition(lambda self: self._lost())
    @rule(data=st.data())
    def node_is_back(self, data: st.DataObject) -> None:
        self.cluster.node_is_back(*self._draw(data, self._lost()))

    @precondition(lambda self: self._lost())
    @rule(times=st.integers(2, 6))
    def time_passes_over_a_lost_node(self, times: int) -> None:
        """Long enough for it to count as lost; then rounds in quick succession, before its pods look again."""
        self.clock.pass_seconds(31)
        self.cluster.polls()
        for _ in range(times):
            self.loop.round()

    def _lost(self) -> list[tuple[Job, Pod]]:
        return [
            (job, pod) for job in self.cluster.jobs.values() for pod in job.pods if pod.lost_at and not pod.given_up
        ]

    @precondition(lambda self: self._pending())
    @rule(data=st.data(), what=st.sampled_from(["", *TROUBLE]))
    def pod_does_not_start(self, data: st.DataObject, what: str) -> None:
        pod = self._draw(data, self._pending())
        pod.trouble = TROUBLE.get(what, ("", ""))

    def _pending(self) -> list[Pod]:
        return [pod for _, pod in self.cluster.living_pods() if pod.at == "pending"]

    @precondition(lambda self: self.cluster.jobs)
    @rule(data=st.data(), times=st.integers(0, 3))
    def job_is_deleted_by_hand(self, data: st.DataObject, times: int) -> None:
        if times:
            return
        self.loop.round()
        jobs = [name for name, job in self.cluster.jobs.items() if not any(pod.alive for pod in job.pods[:-1])]
        if not jobs:
            return
        job = self.cluster.jobs.pop(self._draw(data, jobs))
        for pod in job.pods:
            pod.code = 137 if pod.alive else pod.code
        for _ in range(3):  # remembered in the controller's memory until its task is settled
            self.loop.round()
            self.clock.pass_seconds(GRACE + 1)
            self.cluster.polls()

    def _draw(self, data: st.DataObject, among: list[Any]) -> Any:
        return among[data.draw(st.integers(0, len(among) - 1))]

    # What must hold

    @invariant()
    def never_two_at_once(self) -> None:
        acting: dict[str, list[tuple[Job, Pod]]] = {}
        for job, pod in self.cluster.living_pods():
            if pod.at in PAST_THE_CLAIM:
                acting.setdefault(job.labels[labels.TASK], []).append((job, pod))
        twice = {task: pods for task, pods in acting.items() if len(pods) > 1}
        assert not twice, twice

    @invariant()
    def within_capacity(self) -> None:
        living = [job for job in self.cluster.jobs.values() if self._lives(job)]
        assert len(living) <= 3
        assert sum(1 for job in living if job.labels[labels.QUEUE] == "first") <= 2

    @invariant()
    def nothing_runs_more_often_than_wanted(self) -> None:
        for name, task in self.server.tasks.items():
            assert task.get("ran", 0) <= self.wanted[name], name
            assert task.get("tried", 0) <= self.wanted[name] * RETRIES, name

    @invariant()
    def the_console_says_nothing_twice(self) -> None:
        for lines in self.server.console.values():
            said = [shape(line["msg"]) for line in lines]
            assert all(one != other for one, other in pairwise(said)), said

    def _lives(self, job: Job) -> bool:
        return any(pod.alive for pod in job.pods) or (job.end is None and not job.stopped)

    def teardown(self) -> None:
        """No more disturbances: everything ends."""
        for pod in self._pending():
            if pod.trouble[0] == "Unschedulable":
                pod.trouble = ("", "")
        for turn in range(200):
            self.loop.round()
            for job, pod in self.cluster.living_pods():
                if not pod.lost_at:
                    self.cluster.step(job, pod)
            self.clock.pass_seconds(13)
            self.cluster.polls()
            for job, pod in self._lost() if turn > 20 else ():  # those that no queue gives up
                self.cluster.node_is_back(job, pod)
            if not self._left():
                break
        assert not self._left(), f"lost or stuck: {self._left()}\n{self.server.queues}"
        self._idles_on_one_request()

    def _left(self) -> list[Any]:
        """Tasks that have not ended, pods that live, entries that wait."""
        ended = (*FINAL, "created")
        not_ours = {entry["task"] for entry in self.server.queues["foreign"]}
        tasks = [one for name, one in self.server.tasks.items() if one["status"] not in ended and name not in not_ours]
        return (
            tasks
            + self.cluster.living_pods()
            + self._lost()
            + self.server.queues["first"]
            + self.server.queues["second"]
        )

    def _idles_on_one_request(self) -> None:
        self.clock.pass_seconds(61)
        self.loop.round()
        self.loop.round()
        self.server.calls.clear()
        self.loop.round()
        assert self.server.calls == ["queues.get_all"]


World.TestCase.settings = settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestWorld = World.TestCase


def test_unknown_calls_are_errors_of_the_model() -> None:
    with pytest.raises(ApiError):
        Server(Clock()).do("tasks.get_by_id", {"task": "x"})


def test_a_pod_on_a_lost_node_has_time_to_see_that_the_task_is_not_its_own() -> None:
    """However fast rounds and pods follow each other: between the fence and the next pod lie several of its polls."""
    world = World()
    world.enqueue_new("second")
    world.loop.round()
    ((job, pod),) = world.cluster.living_pods()
    world._step(job, pod, 0, 5)
    assert pod.at == "running"
    world.cluster.lose(pod)
    world.clock.pass_seconds(31)
    for _ in range(30):
        for _ in range(8):
            world.loop.round()
            for one, other in world.cluster.living_pods():
                if other is not pod and other.at != "running":
                    world._step(one, other, 0, 1)
            world.never_two_at_once()
        world.clock.pass_seconds(2)
        world.cluster.polls()  # every two seconds
    assert not pod.alive and [other.at for _, other in world.cluster.living_pods()] == ["running"]
    claim = task_of(world.server.tasks["task0"]).claim
    assert claim and claim.attempt == 2 and "node lost" in claim.history[0]
