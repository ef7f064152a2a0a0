"""A release on a real kubelet: the controller runs in the very pod that the chart describes, with its probes, its user,
its read-only root and its service account, while tasks run as pods beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from clearml_api import queues
from tests import support
from tests.cluster.chart import CHART, Helm
from tests.cluster.conftest import World
from tests.cluster.forward import Forward
from tests.cluster.kube import Object, pods
from tests.cluster.node import Node
from tests.scraping import scrape, total

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("node")]

SELECTOR = {"labelSelector": "app.kubernetes.io/name=podstrap"}


@dataclass
class Release:
    """One on the node."""

    world: World
    node: Node
    helm: Helm
    values: dict[str, Any]

    def apply(self, verb: str, **glue: Any) -> None:
        more = {**self.values, "agentk8sglue": {**self.values["agentk8sglue"], **glue}}
        self.helm(verb, "podstrap", CHART, "--namespace", self.world.namespace, values=more)

    def deployment(self) -> Object:
        path = f"/apis/apps/v1/namespaces/{self.world.namespace}/deployments/podstrap"
        found: Object = self.world.plane.kube.get(path)
        return found

    def pods(self) -> list[Object]:
        return self.world.plane.kube.items(pods(self.world.namespace), **SELECTOR)

    def rolled_out(self) -> Object:
        """Its one pod, once that is ready and no older one is there."""

        def only() -> Object | None:
            now = self.deployment()
            status, seen = now["status"], now["status"].get("observedGeneration") == now["metadata"]["generation"]
            counts = [status.get(name) for name in ("replicas", "updatedReplicas", "readyReplicas")]
            found = self.pods()
            return found[0] if seen and counts == [1, 1, 1] and len(found) == 1 else None

        found: Object = support.until(only, 120, self.describe)
        return found

    def describe(self) -> str:
        lines = [f"{self.deployment()['status']}"]
        for one in self.pods():
            name = one["metadata"]["name"]
            lines.append(f"{name} {one['status']}")
            if one["status"].get("phase") == "Running":
                lines.append(self.node.kubectl("logs", f"--namespace={self.world.namespace}", name))
        return "\n".join([*lines, self.node.logs()])


@pytest.fixture
def release(
    world: World, node: Node, helm: Helm, controller_image: str, task_image: str, server_environ: dict[str, str]
) -> Iterator[Release]:
    """Values by which its pods find the tests' servers on the bridge, where no cluster address leads."""
    api = urlsplit(server_environ["CLEARML_API_HOST"])
    files = urlsplit(server_environ.get("CLEARML_FILES_HOST") or server_environ["CLEARML_API_HOST"])
    forwards = [Forward(node.bridge_address, port) for port in (api.port or 80, files.port or 80, world.plane.port)]
    urls = [f"http://{node.bridge_address}:{one.port}" for one in forwards]
    here = {"kubernetes.io/hostname": node.name}
    registry, _, name = controller_image.partition("/")
    repository, _, tag = name.partition(":")
    glue = {
        "apiServerUrlReference": urls[0], "webServerUrlReference": urls[0], "fileServerUrlReference": urls[1],
        "defaultContainerImage": task_image, "bakedImages": ["*"], "pollSeconds": 0.3, "nodeSelector": here,
        "basePodTemplate": {"nodeSelector": here, "terminationGracePeriodSeconds": 5},
        "extraEnvs": [
            {"name": "KUBERNETES_SERVICE_HOST", "value": node.bridge_address},
            {"name": "KUBERNETES_SERVICE_PORT", "value": str(forwards[2].port)},
        ],
    }  # fmt: skip
    keys = {
        "agentk8sglueKey": server_environ["CLEARML_API_ACCESS_KEY"],
        "agentk8sglueSecret": server_environ["CLEARML_API_SECRET_KEY"],
    }
    own = {"image": {"registry": registry, "repository": repository, "tag": tag}}
    yield Release(world, node, helm, {"clearml": keys, "agentk8sglue": glue, "podstrap": own})
    for one in forwards:
        one.close()


def test_a_release_lives_on_a_real_node_and_its_tasks_outlive_it(release: Release) -> None:
    world, kube = release.world, release.world.plane.kube
    release.apply("install", queues={world.queue: {}})
    pod = release.rolled_out()
    _is_as_hardened_as_the_chart_says(release, pod)
    first = world.enqueue("the first", "print('hello from a pod')")
    world.status(first, "completed", seconds=90)
    address = f"{pod['status']['podIP']}:8081"
    support.until(lambda: total(scrape(address), "podstrap_jobs_ended_total", 'reason="Completed"') == 1, 30)
    assert total(scrape(address), "podstrap_kubernetes_requests_total", 'status="403"') == 0, "its Role is enough"

    running = world.enqueue(
        "through the upgrade", "import time\nfor n in range(8):\n    print('at', n)\n    time.sleep(1)"
    )
    world.status(running, "in_progress", seconds=90)
    second_queue = f"{world.queue}-2"
    second_id = queues.create(world.session, second_queue)
    release.apply("upgrade", queues={world.queue: {}, second_queue: {}}, debugMode=True)
    during = [world.enqueue(f"while it rolls, {number}", "print('once')") for number in range(3)]
    of_second = support.create_task(world.session, "in the new queue", "print('once')")
    world.session.call("tasks.enqueue", {"task": of_second, "queue": second_id})
    after = release.rolled_out()
    assert after["metadata"]["uid"] != pod["metadata"]["uid"]
    for task in (running, *during, of_second):
        world.status(task, "completed", seconds=120)
        assert len(world.jobs(task)) == len(world.pods(task)) == 1, world.describe(task)
    for task in during:
        assert support.console(world.session, task).count("once\n") == 1
    assert [support.console(world.session, running).count(f"at {number}\n") for number in range(8)] == [1] * 8

    outlives = world.enqueue("outlives the release", "import time\ntime.sleep(6)\nprint('done')")
    world.status(outlives, "in_progress", seconds=90)
    release.helm("uninstall", "podstrap", "--namespace", world.namespace)
    support.until(lambda: not release.pods(), 60)
    world.status(outlives, "completed", seconds=90)
    assert kube.items(f"/apis/apps/v1/namespaces/{world.namespace}/deployments") == []


def _is_as_hardened_as_the_chart_says(release: Release, pod: Object) -> None:
    """By what the kernel says about the controller's process, not by what the manifest says: the image has no shell."""
    process = _process(release.node, "/etc/podstrap/settings.yaml")
    lines = (process / "status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert status["Uid"].split() == ["10001"] * 4 and status["Gid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert "10001" in status["Groups"].split(), "fsGroup"
    mounts = dict(line.split()[4:6] for line in (process / "mountinfo").read_text().splitlines())
    assert "ro" in mounts["/"].split(",") and "rw" in mounts["/tmp"].split(",")
    (container,) = pod["status"]["containerStatuses"]
    assert container["ready"] and container["started"] and container["restartCount"] == 0


def _process(node: Node, word: str) -> Path:
    """The folder in /proc of the one process of the node's pods with this word on its command line."""
    found = []
    for path in (Path("/proc") / str(pid) for pid in node.cgroup.processes()):
        with contextlib.suppress(OSError):  # it has just ended
            if word in (path / "cmdline").read_bytes().decode().split("\0"):
                found.append(path)
    (one,) = found
    return one
