"""How the controller learns which way podstrap can be brought into images: from the API server and from its nodes.

Nodes are simulated, so that they may refuse what this machine's own would mount (test_node_injection.py has that).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from controller.notes import StopMark
from controller.reasons import Reason
from tests import support
from tests.cluster.boundary import Boundary, Instead, made_a_job
from tests.cluster.conftest import World, steps
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import Object
from tests.cluster.simulated import SimulatedNodes, Step
from tests.cluster.works import Bootstraps

pytestmark = pytest.mark.cluster
FOREIGN = {"bakedImages": [], "defaultContainerImage": "python:3.12"}
WHY = 'failed to generate container spec: failed to stat "": stat : no such file or directory'
OLD = {"podstrap.test/node": "old-runtime"}


def brought(pod: Object) -> str:
    return str(pod["metadata"]["annotations"].get("podstrap.io/injection", ""))


@pytest.fixture(scope="module")
def old_nodes(control_plane: ControlPlane, bootstraps: Bootstraps) -> Iterator[SimulatedNodes]:
    """Nodes whose runtime does not know image volumes."""

    def work(pod: Object, term: threading.Event) -> Iterable[Step]:
        if any("image" in one for one in pod["spec"]["volumes"]):
            return [{"waiting": {"reason": "CreateContainerError", "message": WHY}}]
        return [{"phase": "Running"}, *bootstraps.bootstrap(pod, term)]

    one = SimulatedNodes(control_plane.client("admin"), ["old-runtime"], {"work": work}, labels=OLD)
    one.start()
    yield one
    one.stop()


def on_old_nodes(**more: object) -> dict[str, object]:
    found = steps({"call": "work"}, **more)
    found["templateOverrides"]["nodeSelector"] = OLD
    return found


@pytest.mark.usefixtures("old_nodes")
def test_a_refused_image_volume_is_followed_by_an_init_container_and_the_task_says_so(world: World) -> None:
    process = world.controller(on_old_nodes(maxAttempts=1), **FOREIGN)
    task = world.enqueue()
    world.message(task, "takes no image volume (CreateContainerError: failed to generate")
    world.status(task, "completed")
    pod = world.pod(task, "Succeeded")
    assert brought(pod) == "initContainer" and pod["metadata"]["labels"]["podstrap.io/attempt"] == "2"
    notes = [one["value"] for one in pod["spec"]["containers"][0]["env"] if one["name"] == "PODSTRAP_INJECTION_NOTE"]
    assert notes == [f"CreateContainerError: {WHY}"]
    assert f"why='no image volume: CreateContainerError: {WHY}" in process.text().replace("\\'", "'"), process.text()


@pytest.mark.usefixtures("old_nodes")
def test_a_controller_that_was_killed_after_the_refusal_goes_on_with_the_init_container(world: World) -> None:
    first = world.controller(on_old_nodes(maxAttempts=1), **FOREIGN)
    task = world.enqueue()
    support.until(lambda: any(one["spec"].get("suspend") for one in world.jobs(task)), 60, first.text)
    first.kill9()
    (job,) = world.jobs(task)
    mark = StopMark.from_text(job["metadata"]["annotations"]["podstrap.io/stopped-because"])
    assert mark is not None and mark.word is Reason.IMAGE_VOLUME_REFUSED
    assert mark.reason.startswith("no image volume: CreateContainerError")
    world.controller(on_old_nodes(maxAttempts=1), **FOREIGN)
    world.status(task, "completed", seconds=90)
    assert brought(world.pod(task, "Succeeded")) == "initContainer"


@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize(("minor", "way"), [("37", "imageVolume"), ("35+", "imageVolume"), ("34", "initContainer")])
def test_the_api_servers_version_is_asked_once_and_decides(world: World, minor: str, way: str) -> None:
    between = Boundary(world.plane.url, world.plane.ca, _answering("/version", 200, {"major": "1", "minor": minor}))
    process = world.controller(steps({"phase": "Running"}, {"call": "bootstrap"}), kubeconfig=_to(world, between),
                               **FOREIGN)  # fmt: skip
    tasks = [world.enqueue(f"task {number}") for number in range(2)]
    for task in tasks:
        world.status(task, "completed")
        assert [brought(one) for one in world.pods(task)] == [way], process.text()
    assert len([path for _, _, path in between.seen if path == "/version"]) == 1
    between.close()


@pytest.mark.usefixtures("nodes")
def test_an_api_server_whose_gate_is_off_is_taken_at_its_word(world: World) -> None:
    """It drops the field that it must not know, and then misses the volume's type."""
    said = "spec.template.spec.volumes[2]: Required value: must specify a volume type"
    refused: list[str] = []

    def hook(before: bool, method: str, path: str) -> None:
        if before and made_a_job(method, path) and not refused:
            refused.append(path)
            body = {"kind": "Status", "status": "Failure", "reason": "Invalid", "code": 422, "message": said}
            raise Instead(422, {"Content-Type": "application/json"}, json.dumps(body).encode())

    between = Boundary(world.plane.url, world.plane.ca, hook)
    process = world.controller(steps({"phase": "Running"}, {"call": "bootstrap"}), kubeconfig=_to(world, between),
                               **FOREIGN)  # fmt: skip
    for number in range(2):
        task = world.enqueue(f"task {number}")
        world.status(task, "completed", seconds=20)
        assert [brought(one) for one in world.pods(task)] == ["initContainer"], process.text()
    assert "takes no image volumes" in process.text()
    between.close()


def _to(world: World, between: Boundary) -> Path:
    return world.plane.kubeconfig(f"to-{world.namespace}", server=between.url, token=world.plane._tokens["admin"])


def _answering(path: str, status: int, body: object):  # type: ignore[no-untyped-def]
    def hook(before: bool, method: str, asked: str) -> None:
        if before and asked == path:
            raise Instead(status, {"Content-Type": "application/json"}, json.dumps(body).encode())

    return hook
