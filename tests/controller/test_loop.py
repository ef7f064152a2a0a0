"""The loop with a real server and real processes: pods speak the claim protocol, and die where they hurt most."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from clearml_api import queues, tasks
from clearml_api.configuration import load
from clearml_api.models import Task
from clearml_api.session import Session
from controller import reading
from controller.cluster.local import LocalCluster
from controller.loop import Loop
from controller.observer import Observer
from controller.plan import Plan
from controller.reading import Reader
from controller.run import run_controller
from controller.settings import Settings
from controller.settings_queue import QueueSettings
from controller.state import State
from protocol import environment as names
from protocol import exit_codes, labels
from protocol.errors import PodstrapError
from protocol.names import added_millis
from tests import support
from tests.controller.test_local_cluster import manifest

FAKE = Path(__file__).with_name("fake_bootstrap.py")


@dataclass
class World:
    """One queue of its own on the server, one local cluster, loops that come and go."""

    session: Session
    folder: Path
    queue: str
    name: str
    settings: Settings
    cluster: LocalCluster
    refuse: set[str] = field(default_factory=set)
    command: list[str] = field(default_factory=lambda: [sys.executable, str(FAKE)])

    def render(self, task: Task, *, queue_id: str, added: Any, attempt: int, **_: Any) -> dict[str, Any]:
        """A Job whose container is fake_bootstrap.py."""
        if task.id in self.refuse:
            raise PodstrapError("docker argument --privileged is not allowed")
        config = self.session.configuration
        env: list[dict[str, Any]] = [
            {"name": names.TASK_ID, "value": task.id},
            {"name": names.QUEUE_ID, "value": queue_id},
            {"name": names.ATTEMPT, "value": str(attempt)},
            {"name": names.POD_NAME, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": names.JOB_UID, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{labels.JOB_UID}']"}}},
            {"name": "CLEARML_API_HOST", "value": config.api_host},
            {"name": "FAKE_FOLDER", "value": str(self.folder)},
            {"name": "PYTHONPATH", "value": str(support.REPOSITORY_ROOT)},
        ]
        for key in ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"):
            env.append({"name": key, "valueFrom": {"secretKeyRef": {"name": "clearml", "key": key}}})
        job = manifest("", name=f"t-{task.id[:20]}-{added_millis(added) % 10**8}-{attempt}", task=task.id, grace=5)
        job["spec"]["template"]["spec"]["containers"][0] |= {"command": self.command, "env": env}
        job["metadata"]["labels"] |= {
            labels.QUEUE: queue_id,
            labels.ADDED: str(added_millis(added)),
            labels.ATTEMPT: str(attempt),
        }
        return job

    def loop(self) -> Loop:
        """A controller that has just started."""
        cluster = LocalCluster(self.folder / "cluster", self.secrets())
        return Loop(self.settings, self.session, cluster, render=self.render)  # type: ignore[arg-type]

    def secrets(self) -> dict[str, str]:
        config = self.session.configuration
        return {"CLEARML_API_ACCESS_KEY": config.access_key, "CLEARML_API_SECRET_KEY": config.secret_key}

    def enqueue(self, name: str = "loop", **words: str) -> str:
        """A new task in the queue; `die` and `end` as fake_bootstrap.py reads them."""
        task = support.create_task(self.session, name, "pass")
        for word, value in words.items():
            (self.folder / f"{task}.{word}").write_text(value)
        tasks.enqueue(self.session, task, self.queue)
        return task

    def enqueue_in(self, queue: str) -> str:
        """A new task in another queue."""
        task = support.create_task(self.session, "elsewhere", "pass")
        tasks.enqueue(self.session, task, queue)
        return task

    def go(self, task: str) -> None:
        (self.folder / f"{task}.go").touch()

    def starts(self, task: str) -> int:
        return len(list(self.folder.glob(f"{task}.started-*")))

    def status(self, task: str) -> str:
        return support.task(self.session, task).status

    def until(self, loop: Loop, what: Any, seconds: float = 30) -> Any:
        """Rounds until something is so."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            loop.round()
            if answer := what():
                return answer
            loop.cluster.wait(0.05)
        raise AssertionError(f"did not happen: {loop.cluster.snapshot()}")


@pytest.fixture
def world(server_environ: dict[str, str], tmp_path: Path) -> Iterator[World]:
    session = support.session_of(server_environ)
    name = f"loop-{time.monotonic_ns()}"
    queue = queues.create(session, name)
    settings = Settings(
        queues={name: QueueSettings(retry_backoff_seconds=0)},
        poll_seconds=0.1,
        orphan_grace_seconds=0.5,
        reconcile_seconds=60,
        max_pods=4,
    )
    one = World(session, tmp_path, queue, name, settings, LocalCluster(tmp_path / "cluster"))
    yield one
    one.cluster = LocalCluster(tmp_path / "cluster", one.secrets())
    for job in one.cluster.snapshot().jobs:
        one.cluster.delete(job)
    support.until(lambda: not one.cluster.snapshot().jobs, 10)
    session.call("queues.delete", {"queue": queue, "force": True})


def test_tasks_of_a_queue_run_and_the_queue_is_drained(world: World) -> None:
    ids = [world.enqueue(f"number {n}") for n in range(5)]
    for one in ids:
        world.go(one)
    loop = world.loop()
    world.until(loop, lambda: loop.round().drained)
    assert [world.status(one) for one in ids] == ["completed"] * 5
    assert [world.starts(one) for one in ids] == [1] * 5


def test_idle_controller_makes_one_request_a_poll(world: World) -> None:
    task = world.enqueue()
    world.go(task)
    loop = world.loop()
    world.until(loop, lambda: loop.round().drained)
    before = world.session.requests
    for _ in range(3):
        loop.round()
    assert world.session.requests - before == 3


@pytest.mark.parametrize("point", ["start", "removed", "claimed", "running"])
def test_pod_killed_anywhere_is_run_again_with_its_history(world: World, point: str) -> None:
    task = world.enqueue(die=point)
    world.go(task)
    world.until(world.loop(), lambda: world.status(task) == "completed")
    claim = support.task(world.session, task).claim
    assert claim and claim.attempt == 2
    if point != "start":
        assert "SIGKILL" in claim.history[0]
    assert world.starts(task) == (2 if point == "running" else 1)


def test_killed_controller_forgets_nothing(world: World) -> None:
    """A new controller every round."""
    ids = [world.enqueue(die="running"), world.enqueue(die="claimed"), world.enqueue()]
    world.settings = world.settings.model_copy(update={"orphan_grace_seconds": 0.001})
    for one in ids:
        world.go(one)
    end = time.monotonic() + 30
    while not all(world.status(one) == "completed" for one in ids):
        loop = world.loop()
        loop.round()
        loop.round()
        assert time.monotonic() < end
    assert sum(world.starts(one) for one in ids) == 4


def test_disrupted_pod_goes_on_in_the_same_job(world: World) -> None:
    task = world.enqueue()
    loop = world.loop()
    world.until(loop, lambda: world.starts(task))
    assert isinstance(loop.cluster, LocalCluster)
    cluster = loop.cluster
    cluster.evict(cluster.snapshot().jobs[0].pods[0].uid)
    world.until(loop, lambda: cluster.snapshot().jobs[0].pods[0].phase == "Failed")
    world.go(task)
    world.until(loop, lambda: world.status(task) == "completed")
    claim = support.task(world.session, task).claim
    assert claim and claim.attempt == 2 and world.starts(task) == 2
    assert len(loop.cluster.snapshot().jobs) == 1


def test_reset_and_enqueued_again_the_old_pod_ends_before_the_new_one_begins(world: World) -> None:
    task = world.enqueue()
    loop = world.loop()
    world.until(loop, lambda: world.starts(task))
    world.session.call("tasks.reset", {"task": task})
    tasks.enqueue(world.session, task, world.queue)
    world.until(loop, lambda: world.starts(task) == 2)
    world.go(task)
    world.until(loop, lambda: world.status(task) == "completed")
    pods = [pod for job in loop.cluster.snapshot().jobs for pod in job.pods]
    claim = support.task(world.session, task).claim
    assert claim and claim.attempt == 1 and len(pods) <= 2


def test_end_that_the_pod_could_not_report_is_set_from_its_last_words(world: World) -> None:
    task = world.enqueue(end="silent")
    world.go(task)
    world.until(world.loop(), lambda: world.status(task) == "completed")


def test_pod_that_cannot_begin_fails_its_task_with_the_log(world: World) -> None:
    world.command = [sys.executable, "-c", "print('no credentials here'); raise SystemExit(1)"]
    task = world.enqueue()
    loop = world.loop()
    world.until(loop, lambda: world.status(task) == "failed")
    found = support.task(world.session, task)
    assert "exit code 1 before it began" in found.status_reason
    assert "no credentials here" in found.status_message
    assert queues.get_all(world.session, [world.queue], max_entries=9)[0].entries == ()


def test_task_that_dies_at_every_attempt_fails_with_its_history(world: World) -> None:
    world.command = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    task = world.enqueue()
    world.until(world.loop(), lambda: world.status(task) == "failed")
    message = support.task(world.session, task).status_message
    assert "3 attempts" in message and "attempt 1: killed by signal 9" in message


def test_task_whose_job_cannot_be_made_waits_with_the_reason_and_others_run(world: World) -> None:
    bad, good = world.enqueue("bad"), world.enqueue("good")
    world.refuse.add(bad)
    world.go(good)
    loop = world.loop()
    world.until(loop, lambda: world.status(good) == "completed")
    assert world.status(bad) == "queued"
    assert "--privileged is not allowed" in support.task(world.session, bad).status_message


def run(world: World, **more: Any) -> int:
    return run_controller(world.settings, world.session, world.loop().cluster, stop=threading.Event(), **more)


@pytest.fixture
def rendered(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """run_controller makes its own loop: give that the fake's manifests."""
    import controller.run

    real = Loop
    monkeypatch.setattr(controller.run, "Loop", lambda *a, **k: real(*a, **k, render=world.render))
    return world


def test_drain_ends_with_0_and_with_1_for_a_failed_task_when_asked(rendered: World) -> None:
    world = rendered
    for flag, code in ((False, exit_codes.OK), (True, exit_codes.FAILED)):
        task = world.enqueue(end="failed")
        world.go(task)
        assert run(world, drain=True, fail_on_task_failure=flag) == code
        assert world.status(task) == "failed"


def test_drain_ends_with_its_own_code_when_the_time_is_over(rendered: World) -> None:
    rendered.enqueue()
    assert run(rendered, drain=True, timeout=0.5) == exit_codes.DRAIN_TIMEOUT


def test_drain_leaves_what_cannot_be_made_and_says_so(rendered: World) -> None:
    rendered.refuse.add(rendered.enqueue())
    assert run(rendered, drain=True) == exit_codes.FAILED


def test_outage_is_one_line_and_the_controller_goes_on(world: World, caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    nowhere = Session(load({"CLEARML_API_HOST": f"http://127.0.0.1:{support.free_port()}", "HOME": "/nonexistent",
                            "CLEARML_API_ACCESS_KEY": "a", "CLEARML_API_SECRET_KEY": "b"}))  # fmt: skip
    codes: list[int] = []
    with caplog.at_level(logging.INFO, "podstrap.controller"):
        thread = support.InBackground(
            lambda: codes.append(run_controller(world.settings, nowhere, world.cluster, stop=stop))
        )
        thread.start()
        support.until(lambda: nowhere.requests >= 3, 20)
        stop.set()
        thread.check()
    assert codes == [0]
    assert [record.msg.split()[0] for record in caplog.records] == ["started", "round-failed", "stopped"]


def test_missing_queue_is_made_when_the_settings_say_so(world: World) -> None:
    name = f"made-{time.monotonic_ns()}"
    settings = world.settings.model_copy(update={"queues": {name: QueueSettings()}, "create_queues": True})
    Loop(settings, world.session, world.cluster).round()
    (made,) = [queue.id for queue in queues.get_all(world.session) if queue.name == name]
    world.session.call("queues.delete", {"queue": made})


class Depths(Observer):
    """What each round read of the one queue: its depth, and how many entries were looked at."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def decided(self, state: State, settings: Settings, plan: Plan) -> None:
        (queue,) = state.queues
        self.seen.append((queue.depth, len(queue.entries)))


def test_a_deep_queue_is_counted_without_a_further_request(world: World) -> None:
    for number in range(reading.MARGIN + 6):
        world.enqueue(f"number {number}")
    world.settings = world.settings.model_copy(update={"max_pods": 0})
    loop = world.loop()
    loop.observer = depths = Depths()
    loop.round()
    before = world.session.requests
    loop.round()
    assert world.session.requests - before == 2, "queues and the tasks that wait"
    assert depths.seen == [(reading.MARGIN + 6, reading.MARGIN)] * 2


def test_queues_by_pattern_are_served_a_new_one_too_and_a_name_has_its_own_settings(world: World) -> None:
    keys = {f"{world.name}-*": QueueSettings(), f"{world.name}-idle": QueueSettings(paused=True), f"x{world.name}*": {}}
    world.settings = Settings.model_validate({"queues": keys, "createQueueIfNotExists": True}).model_copy(
        update={"poll_seconds": 0.1}
    )
    made = {end: queues.create(world.session, f"{world.name}-{end}") for end in ("one", "idle")}
    loop = world.loop()
    paused = world.enqueue_in(made["idle"])
    first = world.enqueue_in(made["one"])
    world.go(first)
    world.until(loop, lambda: world.status(first) == "completed")
    made["two"] = queues.create(world.session, f"{world.name}-two")
    second = world.enqueue_in(made["two"])
    world.go(second)
    world.until(loop, lambda: world.status(second) == "completed")
    assert world.status(paused) == "queued" and "is paused" in support.task(world.session, paused).status_message
    found = {queue.name for queue in queues.get_all(world.session)}
    assert not any("*" in name for name in found), "a pattern makes no queue"
    for queue in made.values():
        world.session.call("queues.delete", {"queue": queue, "force": True})


def test_rules_by_project_cost_no_request_and_see_the_projects_name(world: World) -> None:
    task = world.enqueue()
    project = str(
        world.session.call("projects.create", {"name": f"Vision {world.name}/Detect", "description": ""})["id"]
    )
    world.session.call("tasks.move", {"ids": [task], "project": project})
    calls: list[str] = []

    class Counting:
        configuration = world.session.configuration

        def call(self, endpoint: str, payload: Any = None, **more: Any) -> Any:
            calls.append(endpoint)
            return world.session.call(endpoint, payload, **more)

    def read(rules: list[dict[str, Any]]) -> tuple[Task, int]:
        settings = Settings.model_validate({"queues": [world.name], "rules": rules})
        reader = Reader(settings, Counting(), world.cluster)  # type: ignore[arg-type]
        calls.clear()
        state = reader.read(datetime.now(timezone.utc), minute=False)
        return state.tasks[task], len(calls)

    plain, without = read([{"when": {"tags": ["x"]}}])
    named, with_names = read([{"when": {"projects": [f"Vision {world.name}"]}}])
    assert (plain.project_name, named.project_name) == ("", f"Vision {world.name}/Detect")
    assert with_names == without == 2
