"""A release on a real control plane: installed, changed, rolled back and removed while tasks run, its container run
with its service account and nothing more; and the commands that people type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clearml_api import queues
from controller import settings_file
from tests import support
from tests.cluster.chart import (
    CHART,
    Helm,
    Refused,
    controller,
)
from tests.cluster.conftest import World, job_reason, steps
from tests.cluster.kube import Object

pytestmark = pytest.mark.cluster

QUICK = ({"phase": "Running"}, {"call": "bootstrap"})
NOWHERE = {"nodeSelector": {"podstrap.test/node": "none"}}
"""The controller's pod waits for a node for ever; its container runs as a process of the test."""


# A release's life


def values_of(world: World, *names: str, **more: Any) -> dict[str, Any]:
    """For the tests' server; each queue's pods run on simulated nodes."""
    environ = world.environ
    glue = {
        "apiServerUrlReference": environ["CLEARML_API_HOST"],
        "webServerUrlReference": environ["CLEARML_WEB_HOST"],
        "fileServerUrlReference": environ["CLEARML_FILES_HOST"],
        "queues": {name: steps(*QUICK) for name in names},
        "pollSeconds": 0.3,
        **NOWHERE,
        **more,
    }
    keys = {
        "agentk8sglueKey": environ["CLEARML_API_ACCESS_KEY"],
        "agentk8sglueSecret": environ["CLEARML_API_SECRET_KEY"],
    }
    return {"clearml": keys, "agentk8sglue": glue}


def deployment(world: World) -> Object:
    found: Object = world.plane.kube.get(f"/apis/apps/v1/namespaces/{world.namespace}/deployments/podstrap")
    return found


def started(world: World, name: str) -> support.Process:
    """The Deployment's container as it stands now."""
    pod = deployment(world)["spec"]["template"]
    process = controller(world.plane, world.namespace, pod, name, world.folder / name)
    world.processes.append(process)
    return process


@pytest.fixture
def volume(world: World) -> Iterator[str]:
    """A storage class with one volume, which a claim of the test takes."""
    kube, name = world.plane.kube, world.namespace
    spec = {
        "storageClassName": name, "capacity": {"storage": "100Gi"}, "accessModes": ["ReadWriteMany"],
        "hostPath": {"path": "/nonexistent"}, "persistentVolumeReclaimPolicy": "Retain",
    }  # fmt: skip
    kube.create("/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": spec})
    yield name
    kube.delete(f"/api/v1/persistentvolumes/{name}")


@pytest.mark.usefixtures("nodes")
def test_install_upgrade_rollback_and_uninstall_lose_and_double_no_task(helm: Helm, world: World, volume: str) -> None:
    kube, place = world.plane.kube, ("--namespace", world.namespace)
    cache = {"podstrap": {"cache": {"persistentVolumeClaim": {"create": True, "storageClassName": volume}}}}
    notes = helm("install", "podstrap", CHART, *place, values=values_of(world, world.queue) | cache)
    assert f"serves {world.environ['CLEARML_API_HOST']}" in notes and f'"{world.queue}"' in notes
    first = started(world, "first")
    tasks = [world.enqueue("before")]
    world.status(tasks[0], "completed")
    assert "is forbidden" not in first.text(), first.text()

    second_queue = f"{world.queue}-2"
    second_id = queues.create(world.session, second_queue)
    helm("upgrade", "podstrap", CHART, *place, values=values_of(world, world.queue, second_queue) | cache)
    sets = f"/apis/apps/v1/namespaces/{world.namespace}/replicasets"
    support.until(lambda: len(kube.items(sets)) == 2, 30)
    second = started(world, "second")  # as a rolling update does: the new one first, then the old one is told to stop
    tasks += [world.enqueue(f"while it rolls, {number}") for number in range(5)]
    assert first.stop() == 0
    one = support.create_task(world.session, "in the new queue", "print(1)")
    world.session.call("tasks.enqueue", {"task": one, "queue": second_id})
    tasks.append(one)
    for task in tasks:
        world.status(task, "completed")
        assert len(world.jobs(task)) == 1

    helm("rollback", "podstrap", "1", *place)
    support.until(lambda: second_queue not in kube.get(f"/api/v1/namespaces/{world.namespace}/configmaps/podstrap")
                  ["data"]["settings.yaml"], 10)  # fmt: skip
    third = started(world, "third")
    assert second.stop() == 0
    world.status(world.enqueue("after the rollback"), "completed")
    assert third.stop() == 0
    for process in (first, second, third):
        assert "is forbidden" not in process.text(), process.text()

    support.until(lambda: all(job_reason(one) for one in world.jobs()), 30)
    helm("uninstall", "podstrap", *place)
    left = [f"{one} {found['metadata']['name']}" for one, found in remaining(world)]
    assert left == ["persistentvolumeclaims podstrap-cache"]


def remaining(world: World) -> list[tuple[str, Object]]:
    """What of a release is there, of all the kinds that the chart makes."""
    kube, found = world.plane.kube, []
    kinds = ("apps/v1/deployments", "v1/configmaps", "v1/secrets", "v1/serviceaccounts", "v1/persistentvolumeclaims",
             "rbac.authorization.k8s.io/v1/roles", "rbac.authorization.k8s.io/v1/rolebindings")  # fmt: skip
    for kind in kinds:
        version, plural = kind.rsplit("/", 1)
        group = f"/api/{version}" if version == "v1" else f"/apis/{version}"
        selector = {"labelSelector": "app.kubernetes.io/instance=podstrap"}
        for one in kube.items(f"{group}/namespaces/{world.namespace}/{plural}", **selector):
            found.append((plural, one))
    return found


@pytest.mark.usefixtures("nodes")
def test_a_drain_job_works_its_queues_until_empty(helm: Helm, world: World) -> None:
    values = values_of(world, world.queue)
    values["podstrap"] = {"runAs": "Job", "drain": {"timeoutSeconds": 120, "failOnTaskFailure": True}}
    helm("install", "podstrap", CHART, "--namespace", world.namespace, values=values)
    tasks = [world.enqueue(f"task {number}") for number in range(2)]
    pod = world.plane.kube.get(f"/apis/batch/v1/namespaces/{world.namespace}/jobs/podstrap-drain-1")["spec"]["template"]
    process = controller(world.plane, world.namespace, pod, "drain", world.folder / "drain")
    world.processes.append(process)
    assert process.popen
    assert process.popen.wait(100) == 0, process.text()
    assert [world.task(task).status for task in tasks] == ["completed", "completed"]


# What people type


def test_make_install_puts_the_plain_manifests_in_place(shell: Callable[[str], str], world: World) -> None:
    kube, make = world.plane.kube, f"make install NAMESPACE={world.namespace}"
    with pytest.raises(AssertionError, match="CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY"):
        shell(make)
    deployments = f"/apis/apps/v1/namespaces/{world.namespace}/deployments"
    assert kube.items(deployments) == []
    assert "n0t-a" not in shell(f"CLEARML_API_ACCESS_KEY=4KQ2X CLEARML_API_SECRET_KEY=n0t-a-placeholder {make}")
    shell(make)  # again, without keys: the Secret is there
    held = kube.get(f"/api/v1/namespaces/{world.namespace}/secrets/podstrap-clearml")["data"]
    assert set(held) == {"CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"}
    assert [one["metadata"]["name"] for one in kube.items(deployments)] == ["podstrap"]
    text = kube.get(f"/api/v1/namespaces/{world.namespace}/configmaps/podstrap")["data"]["settings.yaml"]
    assert settings_file.load_text(text).namespace == world.namespace


def test_a_second_controller_of_one_name_that_makes_jobs_in_one_namespace_is_refused(helm: Helm, world: World) -> None:
    kube, other = world.plane.kube, f"{world.namespace}-b"
    kube.create("/api/v1/namespaces", {"metadata": {"name": other}})
    try:
        helm("install", "podstrap", CHART, "--namespace", world.namespace, values=values_of(world, world.queue))
        same = values_of(world, world.queue, namespace=world.namespace)
        with pytest.raises(Refused, match="exists and cannot be imported into the current release"):
            helm("install", "podstrap", CHART, "--namespace", other, values=same)
        renamed = values_of(world, world.queue, namespace=world.namespace, instance="podstrap")
        with pytest.raises(Refused, match=r'Role "podstrap-podstrap" in namespace .* cannot be imported'):
            helm("install", "renamed", CHART, "--namespace", other, values=renamed)
        helm("install", "another", CHART, "--namespace", other, values=same)
        roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{world.namespace}/roles"
        assert {one["metadata"]["name"] for one in kube.items(roles)} == {"podstrap-podstrap", "podstrap-another"}
    finally:
        kube.delete(f"/api/v1/namespaces/{other}")
