"""The controller and what tasks may, on a real node: secrets, service accounts, a controller killed or run by a Job."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from controller import permissions
from controller.settings_file import load_text
from tests import support
from tests.cluster.bridge import Bridge
from tests.cluster.forward import Forward
from tests.cluster.kube import Kube, jobs, pods
from tests.cluster.real import WAYS, Real, way

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("node")]
TOKEN = "hunter2-of-the-task-itself"


@pytest.mark.parametrize("name", WAYS)
def test_credentials_stand_in_no_manifest_no_dump_of_the_environment_and_no_log(real: Real, name: str) -> None:
    code = "import os\nfor pair in sorted(os.environ.items()): print(*pair, flush=True)\nprint('dumped', flush=True)"
    process = real.controller(way(name))
    task = real.task("dumps", code, words=("--docker_args", f"-e API_TOKEN={TOKEN}"), image=real.task_image)
    real.completed(task)
    pod = real.world.pod(task, "Succeeded")["metadata"]["name"]
    space = f"--namespace={real.world.namespace}"
    seen = {
        "console": real.console(task),
        "pod log": real.node.kubectl("logs", space, pod, "--all-containers"),
        "manifests": real.node.kubectl("get", "jobs,pods,events", space, "--output=json"),
        "description": real.node.kubectl("describe", "pod", space, pod),
        "controller log": process.text(),
    }
    assert "dumped" in seen["console"] and "API_TOKEN" in seen["console"], seen["console"]
    for secret in (real.environ["CLEARML_API_SECRET_KEY"], TOKEN):
        assert not [where for where, text in seen.items() if secret in text]


def test_a_tasks_pod_and_its_service_account_may_do_nothing(real: Real) -> None:
    real.controller()
    code = "import os\nprint('token:', os.path.exists('/var/run/secrets/kubernetes.io'), flush=True)"
    task = real.task("looks for a token", code)
    real.completed(task)
    assert "token: False" in real.console(task)
    account = real.world.pod(task, "Succeeded")["spec"]["serviceAccountName"]
    as_pod = _account(real, account)
    space = real.world.namespace
    for what in (pods(space), jobs(space), f"/api/v1/namespaces/{space}/secrets"):
        with pytest.raises(requests.HTTPError, match="403"):
            as_pod.get(what)
    real.world.plane.kube.create(f"/api/v1/namespaces/{space}/serviceaccounts", {"metadata": {"name": "nobody"}})
    assert _granted(as_pod, space) == _granted(_account(real, "nobody"), space), "what Kubernetes grants to everybody"


def _account(real: Real, name: str) -> Kube:
    """A client that is this service account."""
    plane = real.world.plane
    path = f"/api/v1/namespaces/{real.world.namespace}/serviceaccounts/{name}/token"
    token = plane.kube.create(path, {"spec": {"expirationSeconds": 600}})["status"]["token"]
    return Kube(plane.url, token, str(plane.ca))


def _granted(client: Kube, namespace: str) -> set[tuple[str, str]]:
    review = {"spec": {"namespace": namespace}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    rules = client.create(path, review)["status"]["resourceRules"]
    return {(verb, kind) for rule in rules for verb in rule["verbs"] for kind in rule["resources"]}


def test_a_controller_killed_in_the_middle_changes_nothing_for_its_tasks(real: Real) -> None:
    queue = {"queueSettings": {"maxPods": 1}}
    first = real.controller(queue)
    running = real.task(
        "runs on", "import time\nprint('on', flush=True)\ntime.sleep(8)\nprint('to the end', flush=True)"
    )
    real.world.status(running, "in_progress", seconds=90)
    waiting = real.task("waits", "print('later')")
    first.kill9()
    second = real.controller(queue)
    for task in (running, waiting):
        real.completed(task)
        assert len(real.world.jobs(task)) == len(real.world.pods(task)) == 1
    assert "to the end" in real.console(running)
    assert f"job-created task={running}" not in second.text()


@pytest.fixture
def api_server_for_pods(real: Real, bridge: Bridge) -> Any:
    """Where pods reach the API server: HOST, PORT."""
    forward = Forward(bridge.address, real.world.plane.port)
    yield bridge.address, forward.port
    forward.close()


def test_a_kubernetes_job_drains_the_queues_with_our_controller_image(
    real: Real, controller_image: str, api_server_for_pods: tuple[str, int]
) -> None:
    """As its own service account, which has the Role that `podstrap role` writes and nothing else."""
    kube, space = real.world.plane.kube, real.world.namespace
    queue = {real.world.queue: {"pollSeconds": 0.5}}
    whole = {**real.settings(), "namespace": space, "queues": queue, "pollSeconds": 0.3, "reconcileSeconds": 2}
    tasks = [real.task(f"drained {number}", "print('drained')") for number in range(2)]
    _install(kube, space, json.dumps(whole))
    host, port = api_server_for_pods
    server = [
        {"name": "KUBERNETES_SERVICE_HOST", "value": host},
        {"name": "KUBERNETES_SERVICE_PORT", "value": str(port)},
    ]
    clearml = [{"name": "CLEARML_API_HOST", "value": real.servers["apiServerUrlReference"]}]
    container = {
        "name": "controller", "image": controller_image, "imagePullPolicy": "IfNotPresent",
        "args": ["controller", "--config", "/etc/podstrap/settings.yaml", "--drain", "--timeout", "120"],
        "env": [*server, *clearml], "envFrom": [{"secretRef": {"name": "podstrap-clearml"}}],
        "volumeMounts": [{"name": "settings", "mountPath": "/etc/podstrap"}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "readOnlyRootFilesystem": True},
    }  # fmt: skip
    spec = {
        "serviceAccountName": "podstrap", "restartPolicy": "Never", "containers": [container],
        "nodeSelector": {"kubernetes.io/hostname": real.node.name},
        "volumes": [{"name": "settings", "configMap": {"name": "podstrap"}}],
    }  # fmt: skip
    body = {"backoffLimit": 0, "template": {"spec": spec}}
    kube.create(jobs(space), {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "drain"}, "spec": body})

    def log() -> str:
        return real.node.kubectl("logs", f"--namespace={space}", "job/drain") + real.world.describe()

    def state() -> Any:
        return kube.get(jobs(space, "drain"))["status"]

    support.until(lambda: state().get("succeeded") or state().get("failed"), 150, log)
    assert state().get("succeeded") == 1, log()
    for task in tasks:
        assert real.world.task(task).status == "completed"
        assert "drained" in real.console(task)


def _install(kube: Kube, space: str, text: str) -> None:
    """What `podstrap role` writes, a service account, and the settings."""
    kube.create(f"/api/v1/namespaces/{space}/serviceaccounts", {"metadata": {"name": "podstrap"}})
    for one in permissions.manifests(load_text(text), "podstrap", space):
        plural = {"Role": "roles", "RoleBinding": "rolebindings"}[one["kind"]]
        kube.create(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{space}/{plural}", one)
    data = {"metadata": {"name": "podstrap"}, "data": {"settings.yaml": text}}
    kube.create(f"/api/v1/namespaces/{space}/configmaps", data)
