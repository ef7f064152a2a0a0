"""Every way a Job can go, one file a case in cases/: what is given, what happens, and what must then stand where.

`node: real` cases run on a real kubelet with bootstrap in a real image: nothing of the answer is written by us.
`node: simulated` is for states that this machine's kubelet cannot be brought to.

    fault   {when: in_progress | running, do: NAME, after: TEXT}  (TEXT: once it stands in the console)
    expect  status, reason (status_reason and status_message), message (of a task that waits), attempt (of its claim),
            job (the Job's final reason; "" for one that lives), pods (how many there are), console,
            another_job (the claim is another Job's than before); status "": the task does not exist any more;
            events (the reasons of podstrap's Events on the task's Jobs, among others); job: none (no Job is left)
    objects, labels   what is in the namespace, and on it, before the controller starts
    mend    {once: MESSAGE, create: {path, body} | delete: PATH}: once the task says so, the cause is taken away
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from clearml_api import tasks
from tests import support
from tests.cluster.conftest import World, job_reason, steps
from tests.cluster.kube import condition, pods
from tests.cluster.node import Node
from tests.cluster.real import Real, way
from tests.cluster.registry import Registry
from tests.cluster.simulated import SimulatedNodes

pytestmark = pytest.mark.cluster

CASES = {
    file.stem: yaml.safe_load(file.read_text()) for file in sorted(Path(__file__).with_name("cases").glob("*.yaml"))
}
REAL = [name for name, case in CASES.items() if case["node"] == "real"]
INJECTED = (
    "aborted", "bootstrap-killed", "drained", "evicted", "exit-3", "exit-75", "out-of-memory", "pod-deleted", "success",
)  # fmt: skip
"""Real cases in which bootstrap's own doing shows: they hold too where it is brought into an image without anything."""
RUNS = [*((name, "baked") for name in REAL), *((name, "imageVolume") for name in INJECTED)]
SIMULATED = [name for name, case in CASES.items() if case["node"] == "simulated"]


@pytest.mark.parametrize("name", SIMULATED)
def test_on_a_simulated_node(world: World, nodes: SimulatedNodes, name: str) -> None:
    case = CASES[name]
    task = support.create_task(world.session, name, "print(1)")
    given = json.loads(json.dumps(case.get("steps", [])).replace("{task}", task))
    _prepare(world, case)
    world.controller(steps(*given, **case.get("queue", {})), **case.get("settings", {}))
    tasks.enqueue(world.session, task, world.queue_id)
    if fault := case.get("fault"):
        world.status(task, "in_progress")
        assert fault["do"] in ("lose-node", "silence-node"), f"no such fault: {fault}"
        lost = _lose_node(world, task, nodes, removed=fault["do"] == "lose-node")
    try:
        _mend(world, task, case)
        _hold(world, task, case["expect"], name)
    finally:
        if fault:
            nodes.appear(lost) if fault["do"] == "lose-node" else nodes.back(lost)


@pytest.mark.xdist_group("node")
@pytest.mark.parametrize(("name", "how"), RUNS)
def test_on_a_real_node(
    real: Real,
    registry: Registry,
    name: str,
    how: str,
) -> None:
    world, node = real.world, real.node
    node.trust_registry(registry.address)
    text = (Path(__file__).with_name("cases") / f"{name}.yaml").read_text()
    text = text.replace("{registry}", registry.address).replace("{bridge}", node.bridge_address)
    case = yaml.safe_load(text)
    _prepare(world, case)
    images = {"bakedImages": ["*"]} if how == "baked" else {"defaultContainerImage": real.bare_image}
    real.controller({**way(how), **case.get("queue", {})}, **images, **case.get("settings", {}))
    task = world.enqueue(name, case.get("code", "print(1)"))
    first = ""
    if fault := case.get("fault"):
        first = _happen(world, task, fault, node)
    _mend(world, task, case)
    _hold(world, task, case["expect"], name, first)
    if case["expect"]["status"]:
        world.session.call("tasks.stop", {"task": task, "force": True})


def _prepare(world: World, case: dict[str, Any]) -> None:
    kube, space = world.plane.kube, f"/api/v1/namespaces/{world.namespace}"
    if labels := case.get("labels"):
        kube.patch(space, {"metadata": {"labels": labels}})
    for one in case.get("objects", ()):
        kube.create(f"{space}/{one['path']}", one["body"])
        if one["path"] == "resourcequotas":
            support.until(lambda: kube.items(f"{space}/resourcequotas")[0].get("status"))


def _mend(world: World, task: str, case: dict[str, Any]) -> None:
    if not (mend := case.get("mend")):
        return
    kube, space = world.plane.kube, f"/api/v1/namespaces/{world.namespace}"
    said = lambda: re.search(mend["once"], world.task(task).status_message, re.S)  # noqa: E731
    support.until(said, 90, lambda: world.describe(task))
    if made := mend.get("create"):
        kube.create(f"{space}/{made['path']}", made["body"])
    else:
        kube.delete(f"{space}/{mend['delete']}")


def _happen(world: World, task: str, fault: dict[str, Any], node: Node) -> str:
    """The uid of the Job that held the claim before."""
    world.status(task, fault["when"], seconds=90)
    claim = world.task(task).claim
    assert claim is not None
    pod = claim.pod
    if text := fault.get("after"):
        support.until(lambda: text in support.console(world.session, task), 30, lambda: world.describe(task))
    kube, path = world.plane.kube, pods(world.namespace, pod)
    if fault["do"] == "delete-pod":
        kube.delete(path)
    elif fault["do"] == "evict":
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": world.namespace}}
        kube.create(f"{path}/eviction", body)
    elif fault["do"] == "drain":
        words = ("drain", node.name, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s")
        node.kubectl(*words, f"--pod-selector=podstrap.io/task={task}")
        world.message(task, "unschedulable", 5) if world.task(task).status == "queued" else None
        node.kubectl("uncordon", node.name)
    elif fault["do"] == "abort":
        world.session.call("tasks.stop", {"task": task})
    elif fault["do"] == "delete":
        world.session.call("tasks.delete", {"task": task, "force": True})
    elif fault["do"] in ("reset", "enqueue-again"):
        world.session.call("tasks.reset", {"task": task, "force": True})
        if fault["do"] == "enqueue-again":
            tasks.enqueue(world.session, task, world.queue_id)
    elif fault["do"] == "kill-pid-1":
        _kill_pid_1(world.pod(task))
    else:
        pytest.fail(f"no such fault: {fault}")
    return claim.job_uid


def _kill_pid_1(pod: dict[str, Any]) -> None:
    """From the node, as the kernel would: the process that has the pod's name in its environment and is 1 inside."""
    mark = f"PODSTRAP_POD_UID={pod['metadata']['uid']}".encode()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                inside = re.search(r"^NSpid:.*\s(\d+)$", (entry / "status").read_text(), re.M)
                if inside and inside[1] == "1":
                    subprocess.run(["kill", "-9", entry.name], check=True)
                    return
        except OSError:
            continue
    raise AssertionError("the pod's PID 1 was not found")


def _lose_node(world: World, task: str, nodes: SimulatedNodes, *, removed: bool) -> str:
    lost = world.pod(task)["spec"]["nodeName"]
    nodes.silence(lost)
    kube, path = world.plane.kube, f"/api/v1/nodes/{lost}"
    support.until(lambda: condition(kube.get(path), "Ready") is None, 60)
    support.until(lambda: world.pod(task)["metadata"].get("deletionTimestamp"), 60, lambda: world.describe(task))
    assert world.task(task).status == "in_progress", "nobody can say yet that it does not run there any more"
    if removed:
        kube.delete(path)
    return lost


def _hold(world: World, task: str, expect: dict[str, Any], name: str, first_job: str = "") -> None:
    """What must stand on the task and in the cluster, as soon as it does."""

    def missing() -> str:
        reasons = [job_reason(one) for one in world.jobs(task)]
        if "job" in expect and (reasons if expect["job"] == "none" else expect["job"] not in reasons):
            return f"jobs {reasons}"
        if absent := set(expect.get("events", ())) - (seen := {one["reason"] for one in world.events(task)}):
            return f"events {absent} among {seen}"
        found = tasks.get(world.session, task)
        if found is None:
            return "" if expect["status"] == "" else "the task is gone"
        if found.status != expect["status"]:
            return f"status {found.status}"
        if "reason" in expect and not re.search(expect["reason"], f"{found.status_reason}\n{found.status_message}"):
            return f"reason {found.status_reason!r} {found.status_message!r}"
        if "message" in expect and not re.search(expect["message"], found.status_message, re.S):
            return f"message {found.status_message!r}"
        if "attempt" in expect and (found.claim is None or found.claim.attempt != expect["attempt"]):
            return f"claim {found.claim}"
        if "pods" in expect and len(world.pods(task)) != expect["pods"]:
            return f"pods {len(world.pods(task))}"
        if expect.get("another_job") and (found.claim is None or found.claim.job_uid == first_job):
            return f"claim {found.claim} of the first Job {first_job}"
        if "console" in expect and not re.search(expect["console"], text := support.console(world.session, task)):
            return f"console {text!r}"
        return ""

    support.until(
        lambda: not missing(), 90, lambda: f"{name}: {missing()}\n{world.describe(task if expect['status'] else '')}"
    )
