"""Tasks on a real node, by the real `clearml-task`: what a user sees of them, however podstrap came into the image.

What ends a task (abort, eviction, a drained node, the memory limit ...) is in test_cases.py, baked and injected.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests import support
from tests.bootstrap.index import Index
from tests.cluster.real import WAYS, Real, way

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("node")]


def test_console_scalars_and_artifacts_come_back_and_the_cache_makes_the_second_start_warm(
    real: Real, index: tuple[Index, str], repository: str, tmp_path: Path
) -> None:
    """In our image, and in one without git or Python; each with a cache of its own."""
    queues, (packages, address) = {}, index
    for name in ("baked", "imageVolume"):
        over = {"image": real.task_image if name == "baked" else real.bare_image}
        queues[f"{real.world.queue}-{name}"] = {"pollSeconds": 0.5, "templateOverrides": over, **way(name)}
    base = {"env": [{"name": "PIP_INDEX_URL", "value": address}]}
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    cache = {"volume": {"hostPath": {"path": str(folder), "type": "Directory"}}}
    real.controller(queues=queues, basePodTemplate=base, cache=cache)
    source = ("--repo", repository, "--branch", "main", "--script", "train.py")
    first = {queue: real.task(f"first in {queue}", queue=queue, words=source) for queue in queues}
    for queue, task in first.items():
        _trained(real, task, queue)
    asked = packages.asked()
    assert asked > 0
    second = {queue: real.task(f"second in {queue}", queue=queue, words=source) for queue in queues}
    for queue, task in second.items():
        _trained(real, task, queue)
        assert "building an environment" not in real.console(task)
    assert packages.asked() == asked, "the second start asks the index for nothing"


def _trained(real: Real, task: str, queue: str) -> None:
    real.completed(task, seconds=180)
    text, session = real.console(task), real.world.session
    assert [line for line in text.splitlines() if line.startswith("step")] == ["step 0", "step 1", "step 2"]
    assert real.brought(task) == ["imageVolume" if queue.endswith("imageVolume") else ""]
    scalars = session.call("events.scalar_metrics_iter_histogram", {"task": task})["loss"]["train"]
    assert scalars["x"] == [0, 1, 2] and scalars["y"] == pytest.approx([1, 1 / 2, 1 / 3])
    raw: dict[str, Any] = session.call("tasks.get_by_id", {"task": task})["task"]
    (artifact,) = raw["execution"]["artifacts"]
    assert artifact["key"] == "weights"
    assert raw["script"]["version_num"], "the commit is written back"


def test_two_queues_keep_their_own_limits_and_templates(real: Real) -> None:
    one, two = f"{real.world.queue}-one", f"{real.world.queue}-two"
    queues = {
        one: {"pollSeconds": 0.5, "queueSettings": {"maxPods": 1},
              "templateOverrides": {"resources": {"limits": {"memory": "300Mi"}}}},
        two: {"pollSeconds": 0.5, "queueSettings": {"maxPods": 2},
              "templateOverrides": {"resources": {"limits": {"memory": "400Mi"}}}},
    }  # fmt: skip
    real.controller(queues=queues)
    code = "import time\nprint('on', flush=True)\ntime.sleep(600)"
    ids = {queue: support.queue_id(real.world.session, queue) for queue in queues}
    tasks = {queue: [_enqueued(real, code, identity) for _ in range(3)] for queue, identity in ids.items()}

    def running(queue: str) -> list[str]:
        return [task for task in tasks[queue] if real.world.task(task).status == "in_progress"]

    support.until(lambda: (len(running(one)), len(running(two))) == (1, 2), 90, real.world.describe)
    for queue, most in ((one, 1), (two, 2)):
        for task in set(tasks[queue]) - set(running(queue)):
            real.world.message(task, f"queue {queue} runs as many pods as it may (maxPods {most})")
        limits = {_limit(pod) for task in running(queue) for pod in real.world.pods(task)}
        assert limits == {"300Mi" if queue == one else "400Mi"}
    (first,) = running(one)
    real.world.session.call("tasks.stop", {"task": first})
    support.until(lambda: running(one) and first not in running(one), 60, real.world.describe)
    assert len(running(one)) == 1
    for task in (*tasks[one], *tasks[two]):
        real.world.session.call("tasks.stop", {"task": task, "force": True})


def _enqueued(real: Real, code: str, queue: str) -> str:
    task = support.create_task(real.world.session, "sleeps", code)
    real.world.session.call("tasks.enqueue", {"task": task, "queue": queue})
    return task


def _limit(pod: dict[str, Any]) -> str:
    return str(pod["spec"]["containers"][0]["resources"]["limits"]["memory"])


@pytest.mark.parametrize("name", WAYS)
def test_the_timeline_agrees_with_kubernetes_and_stands_on_the_task(real: Real, name: str) -> None:
    real.controller(way(name))
    task = real.task("timed", "print('first', flush=True)")
    real.completed(task)
    pod = real.world.pod(task, "Succeeded")
    phases: dict[str, float] = json.loads(real.properties(task)["podstrap_timeline"])
    copied = ["bootstrap image", "copy"] if name == "initContainer" else []
    assert list(phases) == [
        "queued", "scheduled", "sandbox", *copied, "image", "container", "start", "claim",
        *[one for one in ("repository", "environment") if one in phases], "prepare", "first line",
    ]  # fmt: skip
    variables = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
    at = float(variables["PODSTRAP_CREATED_AT"]) / 1000
    moments = {}
    for phase in ["scheduled", "sandbox", *copied, "image", "container"]:
        at += phases[phase]
        moments[phase] = at
    conditions = {one["type"]: _seconds(one["lastTransitionTime"]) for one in pod["status"]["conditions"]}
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    # Kubernetes' times are whole seconds, rounded down.
    assert conditions["PodScheduled"] <= moments["scheduled"]
    assert moments["scheduled"] <= moments["sandbox"] <= moments["image"] <= moments["container"]
    assert _seconds(state["startedAt"]) - 1 <= moments["container"] <= _seconds(state["finishedAt"]) + 1
    assert moments["image"] <= _seconds(state["startedAt"]) + 1
    if name == "initContainer":
        copier = pod["status"]["initContainerStatuses"][0]["state"]["terminated"]
        assert _seconds(copier["startedAt"]) <= moments["bootstrap image"] + 1
        assert moments["copy"] <= _seconds(copier["finishedAt"]) + 1
    (line,) = [one for one in real.console(task).splitlines() if "first line after" in one]
    assert all(f"{phase} " in line for phase in phases), line


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
