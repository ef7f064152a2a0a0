"""One control plane for all tests of a worker, one embedded server, and a world of its own for each test.

PODSTRAP_TEST_KUBECONFIG names a kubeconfig of another cluster (with a token or a client certificate that may do
everything): then that one is used, and what needs a node of our own is skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from clearml_api import queues, tasks
from clearml_api.models import Task
from clearml_api.session import Session
from tests import support
from tests.cluster import tools
from tests.cluster.chart_fixtures import helm, monitoring, offline_helm, shell  # noqa: F401
from tests.cluster.control_plane import ControlPlane
from tests.cluster.given_cluster import GivenCluster
from tests.cluster.kube import Object, condition, jobs, pods
from tests.cluster.node import Node
from tests.cluster.node_fixtures import (  # noqa: F401
    bare_image,
    bootstrap_image,
    bridge,
    bridge_address,
    busybox_image,
    controller_image,
    node,
    old_python_image,
    own_image,
    registry,
    task_image,
)
from tests.cluster.real import Real
from tests.cluster.simulated import ANNOTATION, SimulatedNodes, Step
from tests.cluster.task_sources import index, repository  # noqa: F401
from tests.cluster.works import Bootstraps

OTHER_CLUSTER = "PODSTRAP_TEST_KUBECONFIG"
SETTINGS: Mapping[str, Any] = {
    "pollSeconds": 0.3,
    "reconcileSeconds": 2,
    "orphanGraceSeconds": 3,
    "defaultContainerImage": "podstrap-test/task:latest",
    "bakedImages": ["*"],
}


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skip counts as a failure here: a machine that can run these tests must run them all.

    PODSTRAP_MAY_SKIP=1 is for machines that cannot: no root, no Debian, another cluster than our own.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped and not exitstatus and not os.environ.get("PODSTRAP_MAY_SKIP"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The control plane."""
    if os.environ.get(OTHER_CLUSTER):
        one: ControlPlane = GivenCluster(Path(os.environ[OTHER_CLUSTER]), tmp_path_factory.mktemp("given"))
        yield one
        return
    one = ControlPlane(tools.kubernetes(), tmp_path_factory.mktemp("plane"), (bridge_address(),))
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="session")
def bootstraps(api: Session) -> Bootstraps:
    """What simulated pods do."""
    return Bootstraps(api)


@pytest.fixture(scope="session")
def nodes(control_plane: ControlPlane, bootstraps: Bootstraps) -> Iterator[SimulatedNodes]:
    """Two simulated nodes."""
    one = SimulatedNodes(control_plane.client("admin"), ["simulated-1", "simulated-2"], bootstraps.works())
    one.start()
    yield one
    one.stop()


@dataclass
class World:
    """A namespace, a queue and a controller of a test's own."""

    plane: ControlPlane
    session: Session
    environ: Mapping[str, str]
    folder: Path
    namespace: str
    queue: str
    queue_id: str
    processes: list[support.Process] = field(default_factory=list)

    def controller(self, queue: Mapping[str, Any] | None = None, *words: str, kubeconfig: Path | None = None,
                   environ: Mapping[str, str] | None = None, **settings: Any) -> support.Process:  # fmt: skip
        """Started; stopped at the test's end. `queue`: the settings of our queue; `settings`: the file's."""
        number = len(self.processes)
        file = self.folder / f"settings-{number}.yaml"
        whole = {
            **SETTINGS,
            "namespace": self.namespace,
            "queues": {self.queue: {"retryBackoffSeconds": 0, **(queue or {})}},
            **settings,
        }
        file.write_text(json.dumps(whole))
        command = ["controller", "--config", str(file), "--kubeconfig"]
        command += [str(kubeconfig or self.plane.kubeconfig("admin")), *words]
        variables = {**support.base_environ(), **self.environ, **(environ or {})}
        process = support.Process(command, variables, self.folder / f"controller-{number}.log")
        self.processes.append(process)
        process.start()
        return process

    def enqueue(self, name: str = "a task", code: str = "print('hello')", **script: Any) -> str:
        task = support.create_task(self.session, name, code, **script)
        tasks.enqueue(self.session, task, self.queue_id)
        return task

    def task(self, task: str) -> Task:
        return support.task(self.session, task)

    def jobs(self, task: str = "") -> list[Object]:
        selector = {"labelSelector": f"podstrap.io/task={task}"} if task else {}
        return self.plane.kube.items(jobs(self.namespace), **selector)

    def pods(self, task: str = "") -> list[Object]:
        selector = {"labelSelector": f"podstrap.io/task={task}"} if task else {}
        return self.plane.kube.items(pods(self.namespace), **selector)

    def pod(self, task: str, phase: str = "Running", seconds: float = 60) -> Object:
        """The first pod of a task in a phase."""
        return dict(
            support.until(
                lambda: next((one for one in self.pods(task) if one["status"]["phase"] == phase), None),
                seconds,
                lambda: self.describe(task),
            )
        )

    def status(self, task: str, *wanted: str, seconds: float = 60) -> Task:
        """The task once its status is one of those."""
        support.until(lambda: self.task(task).status in wanted, seconds, lambda: self.describe(task))
        return self.task(task)

    def message(self, task: str, part: str, seconds: float = 60) -> None:
        support.until(lambda: part in self.task(task).status_message, seconds, lambda: self.describe(task))

    def events(self, task: str, *words: str) -> list[Object]:
        """Podstrap's own Events on the task's Jobs, those that are gone included."""
        found = self.plane.kube.items(f"/api/v1/namespaces/{self.namespace}/events")
        ours = [one for one in found if (one.get("source") or {}).get("component") == "podstrap"]
        ours = [one for one in ours if task[:20] in one["involvedObject"]["name"]]
        return [one for one in ours if not words or one["reason"] in words]

    def describe(self, task: str = "") -> str:
        found = [f"task {self.task(task)}"] if task else []
        found += [
            f"job {one['metadata']['name']} {one['spec'].get('suspend')} {one['status']}" for one in self.jobs(task)
        ]
        for one in self.pods(task):
            found.append(
                f"pod {one['metadata']['name']} {one['spec'].get('nodeName')} {json.dumps(one['status'])[:1500]}"
            )
        for process in self.processes:
            found.append(process.text()[-3000:])
        return "\n".join(found)


@pytest.fixture
def world(control_plane: ControlPlane, server_environ: dict[str, str], api: Session, tmp_path: Path) -> Iterator[World]:
    """A namespace and a queue of its own."""
    name = f"t-{uuid.uuid4().hex[:10]}"
    control_plane.kube.create("/api/v1/namespaces", {"metadata": {"name": name}})
    one = World(control_plane, api, server_environ, tmp_path, name, name, queues.create(api, name))
    yield one
    for process in one.processes:
        process.kill9()
    with contextlib.suppress(requests.RequestException):
        control_plane.kube.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def real(world: World, node: Node, pods_reach_it: dict[str, str], task_image: str, bootstrap_image: str,  # noqa: F811
         bare_image: str) -> Real:  # fmt: skip  # noqa: F811
    """The world with the real node and our images."""
    return Real(world, node, pods_reach_it, task_image, bootstrap_image, bare_image)


def steps(*found: Step, **more: Any) -> dict[str, Any]:
    """Queue settings whose pods go through these steps on a simulated node."""
    over = {
        "annotations": {ANNOTATION: json.dumps(found)},
        "nodeSelector": {"podstrap.test/node": "simulated"},
        **more.pop("templateOverrides", {}),
    }
    return {"templateOverrides": over, **more}


def job_reason(job: Object) -> str:
    """Of a Job's failure; `Complete`, or empty while it lives."""
    if found := condition(job, "Failed"):
        return str(found["reason"])
    return "Complete" if condition(job, "Complete") else ""
