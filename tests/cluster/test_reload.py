"""A controller whose settings file changes while it works: no task is lost, none is started twice."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from clearml_api import queues, tasks
from tests import support
from tests.cluster.conftest import SETTINGS, World, steps
from tests.cluster.kube import jobs, leases
from tests.cluster.works import Bootstraps

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("nodes")]

QUICK = ({"phase": "Running"}, {"call": "bootstrap"})
SLOW = ({"phase": "Running"}, {"call": "claim"}, {"seconds": 4}, {"call": "complete"})


class ConfigMap:
    """A file as a kubelet mounts it: a link to a file behind a link to a folder, which is swapped whole."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.folder = world.folder / "mounted"
        self.folder.mkdir()
        self.file = self.folder / "settings.yaml"
        self.file.symlink_to(Path("..data", "settings.yaml"))
        self.text = ""

    def settings(self, queue: Mapping[str, Any] | None = None, **settings: Any) -> None:
        queues = {self.world.queue: dict(queue or {})}
        self.write(json.dumps({**SETTINGS, "namespace": self.world.namespace, "queues": queues, **settings}))

    def write(self, text: str) -> None:
        data = self.folder / f"..{uuid.uuid4().hex[:8]}"
        data.mkdir()
        (data / "settings.yaml").write_text(text)
        new = self.folder / "..data_tmp"
        new.symlink_to(data.name)
        new.replace(self.folder / "..data")
        self.text = text

    def controller(self, *words: str) -> support.Process:
        command = ["controller", "--config", str(self.file), "--kubeconfig"]
        command += [str(self.world.plane.kubeconfig("admin")), *words]
        number = len(self.world.processes)
        log = self.world.folder / f"controller-{number}.log"
        process = support.Process(command, {**support.base_environ(), **self.world.environ}, log)
        self.world.processes.append(process)
        process.start()
        return process


@pytest.fixture
def mounted(world: World) -> ConfigMap:
    return ConfigMap(world)


def taken(process: support.Process, times: int = 1) -> None:
    support.until(lambda: process.text().count("settings-taken") >= times, 30, process.text)


def label(world: World, task: str) -> str:
    (job,) = world.jobs(task)
    return str(job["metadata"]["labels"].get("version", ""))


def labelled(version: str, *found: Any, **more: Any) -> dict[str, Any]:
    made = steps(*(found or QUICK), **more)
    made["templateOverrides"]["labels"] = {"version": version}
    return made


def test_a_changed_file_holds_for_the_next_task_and_a_broken_one_changes_nothing(
    world: World, mounted: ConfigMap
) -> None:
    port = support.free_port()
    mounted.settings(labelled("one"))
    process = mounted.controller("--health", f"127.0.0.1:{port}")

    def ready() -> requests.Response:
        return requests.get(f"http://127.0.0.1:{port}/readyz", timeout=2)

    first = world.enqueue("first")
    world.status(first, "completed")
    mounted.settings(labelled("two"))
    taken(process)
    second = world.enqueue("second")
    world.status(second, "completed")
    assert (label(world, first), label(world, second)) == ("one", "two")

    good = mounted.text
    mounted.write(good.replace("labels", "labelz"))
    support.until(lambda: "settings-refused" in process.text(), 30, process.text)
    third = world.enqueue("third")
    world.status(third, "completed")
    assert label(world, third) == "two"
    answer = ready()
    assert answer.status_code == 200 and "labelz" in answer.text and "did you mean labels" in answer.text
    note = lambda: world.plane.kube.get(leases(world.namespace, "podstrap-podstrap"))["metadata"]["annotations"].get(  # noqa: E731
        "podstrap.io/note", ""
    )
    support.until(lambda: "labelz" in note(), 20)
    (world.folder / "good.yaml").write_text(good)
    command = [*support.PODSTRAP, "status", "--config", str(world.folder / "good.yaml")]
    command += ["--kubeconfig", str(world.plane.kubeconfig("admin"))]
    environ = {**support.base_environ(), **world.environ, "PYTHONPATH": str(support.REPOSITORY_ROOT)}
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.startswith("controller: the settings file cannot be used") and "labelz" in said
    assert process.text().count("settings-refused") == 1

    mounted.settings(labelled("four"))
    taken(process, 2)
    assert ready().text == "ok\n"
    support.until(lambda: not note(), 20)


def test_a_new_namespace_is_watched_and_what_runs_in_the_old_one_runs_on(world: World, mounted: ConfigMap) -> None:
    other = f"{world.namespace}-b"
    mounted.settings(labelled("one", *SLOW))
    process = mounted.controller()
    first = world.enqueue("in the old one")
    world.status(first, "in_progress")
    world.plane.kube.create("/api/v1/namespaces", {"metadata": {"name": other}})
    try:
        mounted.settings(labelled("two", namespace=other))
        taken(process)
        second = world.enqueue("in the new one")
        world.status(second, "completed")
        selector = {"labelSelector": f"podstrap.io/task={second}"}
        assert len(world.plane.kube.items(jobs(other), **selector)) == 1 and not world.jobs(second)
        world.status(first, "completed")
        assert len(world.jobs(first)) == 1
    finally:
        world.plane.kube.delete(f"/api/v1/namespaces/{other}")


def test_jobs_in_a_namespace_that_the_settings_name_no_more_are_seen_after_a_restart_too(
    world: World, mounted: ConfigMap, bootstraps: Bootstraps
) -> None:
    """Else their tasks would be taken for lost and started a second time."""
    other = f"{world.namespace}-b"
    long = ({"phase": "Running"}, {"call": "claim"}, {"seconds": 12}, {"call": "complete"})
    world.plane.kube.create("/api/v1/namespaces", {"metadata": {"name": other}})
    try:
        mounted.settings(labelled("one", *long, namespace=other))
        process = mounted.controller()
        task = world.enqueue("runs on")
        world.status(task, "in_progress")
        mounted.settings(labelled("two"))
        taken(process)
        process.kill9()
        again = mounted.controller()
        support.until(lambda: "leads" in again.text(), 40, again.text)
        world.status(task, "completed", seconds=40)
        selector = {"labelSelector": f"podstrap.io/task={task}"}
        assert len(world.plane.kube.items(jobs(other), **selector)) == 1 and not world.jobs(task)
        claim = world.task(task).claim
        assert claim is not None and claim.attempt == 1 and claim.history == ()
    finally:
        world.plane.kube.delete(f"/api/v1/namespaces/{other}")


def test_what_cannot_change_says_that_it_needs_a_restart(world: World, mounted: ConfigMap) -> None:
    mounted.settings(labelled("one"))
    process = mounted.controller()
    world.status(world.enqueue(), "completed")
    mounted.settings(labelled("two"), instance="other")
    support.until(lambda: "needs a restart" in process.text(), 30, process.text)
    task = world.enqueue()
    world.status(task, "completed")
    assert label(world, task) == "one"


def test_changes_all_the_time_lose_no_task_and_start_none_twice(
    world: World, mounted: ConfigMap, bootstraps: Bootstraps
) -> None:
    mounted.settings(labelled("0"), maxPods=6)
    process = mounted.controller()
    support.until(lambda: "leads" in process.text(), 30, process.text)
    made = [support.create_task(world.session, f"task {n}", "pass") for n in range(40)]
    extra = queues.create(world.session, f"{world.queue}-extra")
    for number, task in enumerate(made):
        tasks.enqueue(world.session, task, world.queue_id if number % 2 else extra)
    version = 0

    def done() -> bool:
        nonlocal version
        version += 1
        known = [world.task(task).status for task in made]
        other = {f"{world.queue}*": labelled(str(version)), world.queue: labelled(str(version))}
        mounted.settings(queues=other, maxPods=2 + version % 5)
        support.until(lambda: process.text().count("settings-taken") >= version, 30, process.text)
        return all(status == "completed" for status in known)

    support.until(done, 120, world.describe)
    assert version > 3, "or nothing was changed under way"
    assert {task: len(bootstraps.started.get(task, ())) for task in made} == dict.fromkeys(made, 1)
    world.session.call("queues.delete", {"queue": extra, "force": True})
