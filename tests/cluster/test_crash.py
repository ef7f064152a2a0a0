"""kill -9 of the controller at its request boundaries while a hundred tasks flow, and of pods at each step of a claim.

A proxy on each side of the controller counts requests and kills it before one goes on, or after it was answered and
before the controller hears of it: every boundary is met over the seeds, since the distance between kills is drawn.
Pods are simulated, their claims are not: they are made by bootstrap's own code and die between any two calls.

PODSTRAP_CRASH_SEEDS (default 5) is how many seeds to run; `make soak` runs many.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time

import pytest

from clearml_api import queues, tasks
from clearml_api.session import Session
from tests import support
from tests.cluster.boundary import Boundary, Cut
from tests.cluster.conftest import World, steps
from tests.cluster.control_plane import ControlPlane
from tests.cluster.simulated import SimulatedNodes
from tests.cluster.works import Bootstraps

pytestmark = pytest.mark.cluster

TASKS = int(os.environ.get("PODSTRAP_CRASH_TASKS", "100"))
SEEDS = range(1, 1 + int(os.environ.get("PODSTRAP_CRASH_SEEDS", "5")))
KILLS = 25


class Killer:
    """Ends the controller at the request that was drawn; whoever restarts it draws the next."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._lock = threading.Lock()
        self._left = 0
        self.controller: support.Process | None = None
        self.kills = 0
        self.at: list[str] = []
        self.draw()

    def draw(self) -> None:
        self._left = self._chance.randint(1, 60)

    def hook(self, before: bool, method: str, path: str) -> None:
        with self._lock:
            if self.kills >= KILLS or self.controller is None:
                return
            self._left -= 1
            if self._left > 0:
                return
            self._left = 10**9
            self.kills += 1
            self.at.append(f"{'before' if before else 'after'} {method} {path.partition('?')[0].rpartition('/')[2]}")
            self.controller.kill9()
            raise Cut


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.timeout(420)
def test_each_task_has_one_live_job_and_one_outcome(
    control_plane: ControlPlane, world: World, api: Session, seed: int
) -> None:
    chance = random.Random(seed)
    killer = Killer(chance)
    kubernetes = Boundary(control_plane.url, control_plane.ca, killer.hook)
    clearml = Boundary(world.environ["CLEARML_API_HOST"], None, killer.hook)
    pods = Bootstraps(
        api,
        seconds=lambda: chance.uniform(0, 1.0),
        dies_at=lambda: chance.randint(0, 11) if chance.random() < 0.25 else -1,
    )
    label = f"crash-{seed}"
    nodes = SimulatedNodes(
        control_plane.client("admin"),
        [f"crash-{seed}-{world.namespace}"],
        pods.works(),
        labels={"podstrap.test/node": label},
    )
    nodes.start()
    watched = _Watched(world)
    ids = [world.enqueue(f"crash {number}") for number in range(TASKS)]
    queue = steps({"phase": "Running"}, {"call": "bootstrap"}, maxAttempts=50)
    queue["templateOverrides"]["nodeSelector"] = {"podstrap.test/node": label}
    kubeconfig = control_plane.kubeconfig("admin", server=kubernetes.url)
    environ = {"CLEARML_API_HOST": clearml.url, "POD_NAME": "the-controller"}
    controller = world.controller(
        queue,
        kubeconfig=kubeconfig,
        environ=environ,
        apiServerUrlReference=world.environ["CLEARML_API_HOST"],
        maxPods=30,
    )
    killer.controller = controller
    try:
        end = time.monotonic() + 400
        while not _all_ended(api, ids):
            assert time.monotonic() < end, f"{_left(api, ids)}\n{killer.at}\n{controller.text()[-5000:]}"
            if controller.popen and controller.popen.poll() is not None:
                killer.draw()
                controller.start()
            time.sleep(0.1)
    finally:
        watched.stop()
        nodes.stop()
        clearml.close()
        kubernetes.close()
    found = tasks.get_all(api, ids)
    wrong = {one: (task.status, task.status_message) for one, task in found.items() if task.status != "completed"}
    assert len(found) == TASKS and not wrong, f"{wrong}\n{killer.at}\n{controller.text()[-5000:]}"
    assert not watched.twice, f"two Jobs of one task lived at once: {watched.twice}\n{killer.at}"
    _never_two_at_once(pods)
    assert killer.kills >= 10, killer.at
    assert all(one.queue == world.queue_id for one in found.values())
    assert not next(queue.entries for queue in queues.get_all(api, [world.queue_id], max_entries=5))


class _Watched(threading.Thread):
    """Looks all the time whether a task has two Jobs that may run."""

    def __init__(self, world: World) -> None:
        super().__init__(daemon=True)
        self._world = world
        self._ended = threading.Event()
        self.twice: list[str] = []
        self.start()

    def run(self) -> None:
        while not self._ended.wait(0.3):
            living: dict[str, list[str]] = {}
            for job in self._world.jobs():
                done = any(one["type"] in ("Complete", "Failed") for one in job["status"].get("conditions") or ())
                leaving = job["spec"].get("suspend") or job["metadata"].get("deletionTimestamp")
                if not done and not leaving:
                    task = job["metadata"]["labels"]["podstrap.io/task"]
                    living.setdefault(task, []).append(job["metadata"]["name"])
            self.twice += [str(names) for names in living.values() if len(names) > 1]

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _never_two_at_once(pods: Bootstraps) -> None:
    for task, runs in pods.ran.items():
        ordered = sorted(runs, key=lambda run: run[1])
        for (pod, _, ended), (other, began, _) in itertools.pairwise(ordered):
            assert ended <= began, f"{pod} and {other} ran task {task} at the same time"


def _left(api: Session, ids: list[str]) -> dict[str, tuple[str, str]]:
    return {
        one: (task.status, task.status_message)
        for one, task in tasks.get_all(api, ids).items()
        if task.status not in support.ENDED
    }


def _all_ended(api: Session, ids: list[str]) -> bool:
    return not _left(api, ids)
