"""What the controller does when the API server, the ClearML server, a connection or the clock misbehaves."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import pytest

from tests import support
from tests.cluster import tools
from tests.cluster.boundary import Boundary, Cut, Instead, made_a_job
from tests.cluster.conftest import World, job_reason, steps
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import jobs
from tests.cluster.simulated import SimulatedNodes
from tests.cluster.test_controller import QUICK, leader
from tests.cluster.works import Bootstraps

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("nodes")]


@pytest.fixture
def between(world: World, control_plane: ControlPlane) -> Boundary:
    """A proxy before the API server."""
    return Boundary(control_plane.url, control_plane.ca)


def through(world: World, between: Boundary) -> Path:
    return world.plane.kubeconfig(f"through-{world.namespace}", server=between.url, token=world.plane._tokens["admin"])


def test_an_idle_controller_asks_clearml_once_a_poll_and_kubernetes_for_no_list(
    world: World, between: Boundary
) -> None:
    clearml = Boundary(world.environ["CLEARML_API_HOST"])
    process = world.controller(
        steps(*QUICK), kubeconfig=through(world, between), environ={"CLEARML_API_HOST": clearml.url},
        apiServerUrlReference=world.environ["CLEARML_API_HOST"], pollSeconds=0.5, reconcileSeconds=600,
    )  # fmt: skip
    for number in range(3):
        world.status(world.enqueue(f"task {number}"), "completed")
    support.until(lambda: all(job_reason(one) for one in world.jobs()), 30, process.text)
    time.sleep(2)
    with clearml.counting() as asked, between.counting() as listed:
        time.sleep(5)
    assert 5 <= len(asked) <= 11 and {path for _, _, path in asked} == {asked[0][2]}, asked
    kinds = {(method, path.partition("?")[0].split("/")[-2]) for _, method, path in listed}
    assert kinds <= {("GET", "leases"), ("PUT", "leases")}, listed
    clearml.close()
    between.close()


def test_watches_that_break_every_second_lose_nothing_and_list_once(world: World, between: Boundary) -> None:
    process = world.controller(steps(*QUICK), kubeconfig=through(world, between))
    support.until(lambda: leader(world), 30, process.text)
    ids = []
    for number in range(8):
        ids.append(world.enqueue(f"task {number}"))
        between.break_streams()
        time.sleep(1)
    for one in ids:
        world.status(one, "completed")
    lists = [path for _, method, path in between.seen if method == "GET" and "limit=500" in path]
    assert len(lists) == 2, lists
    between.close()


def test_a_version_that_is_gone_is_listed_anew(world: World, between: Boundary) -> None:
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
    told = {"by status": 0, "by event": 0}

    def forget(before: bool, method: str, path: str) -> None:
        if before and "watch=1" in path and min(told.values()) < 2:
            kind = min(told, key=lambda one: told[one])
            told[kind] += 1
            body = json.dumps(gone if kind == "by status" else {"type": "ERROR", "object": gone}).encode() + b"\n"
            raise Instead(410 if kind == "by status" else 200, {"Content-Type": "application/json"}, body)

    between.hook = forget
    world.controller(steps(*QUICK), kubeconfig=through(world, between))
    task = world.enqueue()
    world.status(task, "completed")
    support.until(lambda: told == {"by status": 2, "by event": 2}, 60, lambda: str(told))
    world.status(world.enqueue("after it"), "completed")
    between.close()


def test_a_server_that_throttles_is_obeyed(world: World, between: Boundary) -> None:
    """429 with Retry-After, twice for each Job; then it is made, once."""
    refused: list[float] = []

    def throttle(before: bool, method: str, path: str) -> None:
        if before and made_a_job(method, path) and len(refused) < 2:
            refused.append(time.monotonic())
            raise Instead(429, {"Retry-After": "1"}, b'{"kind":"Status","reason":"TooManyRequests"}')

    between.hook = throttle
    world.controller(steps(*QUICK), kubeconfig=through(world, between))
    task = world.enqueue()
    world.status(task, "completed")
    posts = [at for at, method, path in between.seen if made_a_job(method, path)]
    assert len(posts) == 3 and all(b - a >= 1.0 for a, b in itertools.pairwise(posts)), posts
    between.close()


def test_an_answer_that_is_lost_makes_no_second_job(world: World, between: Boundary) -> None:
    lost: list[str] = []

    def lose(before: bool, method: str, path: str) -> None:
        if not before and made_a_job(method, path) and len(lost) < 3:
            lost.append(path)
            raise Cut

    between.hook = lose
    process = world.controller(steps(*QUICK), kubeconfig=through(world, between))
    ids = [world.enqueue(f"task {number}") for number in range(3)]
    for one in ids:
        world.status(one, "completed")
        assert len(world.jobs(one)) == 1
    assert lost and "Traceback" not in process.text()
    between.close()


def test_lists_are_read_in_pages(world: World, between: Boundary, control_plane: ControlPlane) -> None:
    """More Jobs than one page holds, all of them known after a start."""
    body = {
        "metadata": {"labels": {"app.kubernetes.io/managed-by": "podstrap", "podstrap.io/controller": "podstrap"}},
        "spec": {"suspend": True, "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "task", "image": "busybox"}]}}},
    }  # fmt: skip
    for number in range(520):
        body["metadata"]["name"] = f"old-{number}"  # type: ignore[index]
        world.plane.kube.create(jobs(world.namespace), body)
    process = world.controller(steps(*QUICK), kubeconfig=through(world, between))
    world.status(world.enqueue(), "completed")
    pages = [path for _, method, path in between.seen if method == "GET" and "jobs?" in path and "watch" not in path]
    assert len(pages) == 2 and "continue=" in pages[1], pages
    assert "Traceback" not in process.text()
    between.close()


def test_both_servers_slow(world: World, between: Boundary) -> None:
    clearml = Boundary(world.environ["CLEARML_API_HOST"])
    clearml.delay_seconds = between.delay_seconds = 0.7
    world.controller(
        steps(*QUICK), kubeconfig=through(world, between), environ={"CLEARML_API_HOST": clearml.url},
        apiServerUrlReference=world.environ["CLEARML_API_HOST"],
    )  # fmt: skip
    ids = [world.enqueue(f"task {number}") for number in range(4)]
    for one in ids:
        world.status(one, "completed", seconds=90)
        assert len(world.jobs(one)) == 1
    clearml.close()
    between.close()


@pytest.mark.timeout(400)
def test_etcd_and_api_server_away_for_a_minute_and_restarted(world: World, tmp_path: Path) -> None:
    """A control plane of its own, since others use the shared one."""
    plane = ControlPlane(tools.kubernetes(), tmp_path / "plane")
    plane.start()
    nodes = SimulatedNodes(plane.client("admin"), ["lonely"], Bootstraps(world.session).works())
    nodes.start()
    world.plane = plane
    plane.kube.create("/api/v1/namespaces", {"metadata": {"name": world.namespace}})
    try:
        process = world.controller(steps({"phase": "Running"}, {"call": "bootstrap"}))
        world.status(world.enqueue("before"), "completed")
        plane.end("kube-apiserver")
        during = world.enqueue("during")
        time.sleep(60)
        assert world.task(during).status == "queued"
        plane.restart("kube-apiserver")
        for name in ("kube-controller-manager", "kube-scheduler"):  # they would come back too, at their own pace
            plane.end(name)
            plane.restart(name)
        world.status(during, "completed", seconds=60)
        plane.pause("kube-apiserver")
        later = world.enqueue("later")
        time.sleep(3)
        plane.resume("kube-apiserver")
        world.status(later, "completed", seconds=90)
        assert len(world.jobs(during)) == len(world.jobs(later)) == 1
        assert "Traceback" not in process.text()
        assert process.text().count("round-failed") <= 6, process.text()
    finally:
        for one in world.processes:
            one.kill9()
        nodes.stop()
        plane.stop()


@pytest.mark.parametrize("hours", [-30, 30])
def test_a_clock_that_jumps_changes_nothing(world: World, hours: int) -> None:
    """The controller's wall clock is stepped while tasks run (libfaketime)."""
    library = next((str(one) for one in Path("/usr/lib").rglob("libfaketimeMT.so.1")), "")
    if not library:
        tools.packages("faketime")
        library = str(next(Path("/usr/lib").rglob("libfaketimeMT.so.1")))
    offset = world.folder / "offset"
    offset.write_text("+0")
    environ = {
        "LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    process = world.controller(steps({"phase": "Running"}, {"call": "claim"}, {"seconds": 600}), environ=environ)
    running = world.enqueue("running")
    world.status(running, "in_progress")
    offset.write_text(f"{hours:+d}h")
    time.sleep(6)
    found = world.task(running)
    assert (found.status, found.claim.attempt) == ("in_progress", 1), world.describe(running)
    other = world.enqueue("other")
    world.status(other, "in_progress")
    assert len(world.jobs(running)) == len(world.jobs(other)) == 1
    assert "Traceback" not in process.text() and "lead-lost" not in process.text()
