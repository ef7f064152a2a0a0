"""The controller as a process against a real API server: who leads, what it may do, how it is configured."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
import requests
import yaml

from clearml_api import queues
from tests import support
from tests.cluster.boundary import Boundary, Cut
from tests.cluster.conftest import World, steps
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import leases

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("nodes")]

QUICK = ({"phase": "Running"}, {"call": "bootstrap"})


def leader(world: World) -> str:
    lease = world.plane.kube.find(leases(world.namespace, "podstrap-podstrap"))
    return str((lease or {}).get("spec", {}).get("holderIdentity", ""))


# Who leads


def test_one_of_two_leads_and_hands_over_at_once_when_it_is_told_to_stop(world: World) -> None:
    first = world.controller(steps(*QUICK), environ={"POD_NAME": "first"})
    support.until(lambda: leader(world) == "first", 30, first.text)
    second = world.controller(steps(*QUICK), environ={"POD_NAME": "second"})
    one = world.enqueue("one")
    world.status(one, "completed")
    assert "job-created" not in second.text()
    began = time.monotonic()
    assert first.stop() == 0
    support.until(lambda: leader(world) == "second", 10, second.text)
    assert time.monotonic() - began < 8, "well before the Lease's fifteen seconds: it was given away"
    world.status(world.enqueue("two"), "completed")


def test_a_leader_that_was_killed_is_followed(world: World) -> None:
    first = world.controller(steps(*QUICK), environ={"POD_NAME": "first"})
    support.until(lambda: leader(world) == "first", 30, first.text)
    second = world.controller(steps(*QUICK), environ={"POD_NAME": "second"})
    first.kill9()
    task = world.enqueue()
    world.status(task, "completed", seconds=40)
    assert leader(world) == "second", second.text()


def test_a_leader_whose_lease_was_taken_makes_no_round(world: World) -> None:
    process = world.controller(steps(*QUICK))
    path = leases(world.namespace, "podstrap-podstrap")
    support.until(lambda: leader(world), 30, process.text)
    world.plane.kube.patch(path, {"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 8}})
    support.until(lambda: "lead-lost" in process.text(), 20, process.text)
    task = world.enqueue()
    time.sleep(2)
    assert not world.jobs(task)
    world.status(task, "completed", seconds=40)  # the thief never renews


def test_an_instance_serves_one_server(world: World, tmp_path: Path) -> None:
    """Else each would take the other's Jobs for those of deleted tasks."""
    first = world.controller(steps(*QUICK))
    support.until(lambda: leader(world), 30, first.text)
    other = support.Server(tmp_path / "other")
    other.start()
    try:
        second = world.controller(steps(*QUICK), environ=other.environ)
        assert second.popen
        assert second.popen.wait(30) == 1
        assert "serves" in second.text() and "instance" in second.text()
    finally:
        other.stop()


# What it may do


@pytest.fixture
def limited(world: World) -> Path:
    """A kubeconfig of a service account that has the generated Role and nothing else."""
    kube, space = world.plane.kube, world.namespace
    file = world.folder / "for-role.yaml"
    file.write_text(json.dumps({"namespace": space, "queues": [world.queue]}))
    process = support.Process(["role", "--config", str(file)], support.base_environ(), world.folder / "role.yaml")
    process.start()
    assert process.popen and process.popen.wait(30) == 0
    kube.create(f"/api/v1/namespaces/{space}/serviceaccounts", {"metadata": {"name": "podstrap"}})
    for one in yaml.safe_load_all(process.text()):
        kube.create(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{space}/{one['kind'].lower()}s", one)
    path = f"/api/v1/namespaces/{space}/serviceaccounts/podstrap/token"
    token = kube.create(path, {"spec": {"expirationSeconds": 3600}})["status"]["token"]
    return world.plane.kubeconfig(f"limited-{space}", token=token)


def test_the_generated_role_is_enough_for_everything(world: World, limited: Path) -> None:
    """Every verb in the list is used here: a created, a stopped, a forgotten Job, a log, Events, a Lease."""
    kube = world.plane.kube
    process = world.controller(
        steps({"phase": "Running"}, {"call": "claim"}, {"exit": 0}), kubeconfig=limited, reconcileSeconds=1
    )
    silent = world.enqueue("says nothing at its end")
    assert "did not say how" in world.status(silent, "failed").status_message
    quota = f"/api/v1/namespaces/{world.namespace}/resourcequotas"
    kube.create(quota, {"metadata": {"name": "full"}, "spec": {"hard": {"pods": "0"}}})
    support.until(lambda: kube.items(quota)[0].get("status"))
    blocked = world.enqueue("blocked")
    world.message(blocked, "exceeded quota", 30)
    support.until(lambda: world.events(blocked, "QuotaExceeded"), 30, process.text)
    world.session.call("tasks.stop", {"task": blocked})
    support.until(lambda: not world.jobs(blocked), 30, process.text)
    assert leader(world)
    assert "no-event" not in process.text()
    assert "is forbidden: User" not in process.text(), process.text()


def test_without_a_permission_the_log_and_the_task_say_which(world: World, limited: Path) -> None:
    name = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{world.namespace}/roles/podstrap-podstrap"
    role = world.plane.kube.get(name)
    for rule in role["rules"]:
        if rule["resources"] == ["jobs"]:
            rule["verbs"].remove("create")
    world.plane.kube.call("PUT", name, role)
    world.controller(steps(*QUICK), kubeconfig=limited)
    task = world.enqueue()
    world.message(task, "may not make Jobs")
    assert world.task(task).status == "queued"


# Health and the log


def test_health_readiness_and_lines_for_machines(world: World) -> None:
    port = support.free_port()
    process = world.controller(steps(*QUICK), "--health", f"127.0.0.1:{port}", "--log-format", "json")
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return requests.get(f"{url}/readyz", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    support.until(ready, 30, process.text)
    assert requests.get(f"{url}/healthz", timeout=2).text == "ok\n"
    task = world.enqueue()
    world.status(task, "completed")
    lines = [json.loads(line) for line in process.text().splitlines()]
    created = next(line for line in lines if line.get("event") == "job-created")
    assert created["task"] == task and created["attempt"] == "1" and created["level"] == "info"


def test_not_ready_while_a_server_is_away(world: World, control_plane: ControlPlane) -> None:
    port = support.free_port()
    boundary = Boundary(world.environ["CLEARML_API_HOST"])
    environ = {"CLEARML_API_HOST": boundary.url}
    own = {"apiServerUrlReference": world.environ["CLEARML_API_HOST"]}
    process = world.controller(steps(*QUICK), "--health", f"127.0.0.1:{port}", environ=environ, **own)
    status = lambda: requests.get(f"http://127.0.0.1:{port}/readyz", timeout=2)  # noqa: E731
    support.until(lambda: "started" in process.text(), 30, process.text)
    support.until(lambda: status().status_code == 200, 30, process.text)

    def away(before: bool, method: str, path: str) -> None:
        raise Cut

    boundary.hook = away
    support.until(lambda: status().status_code == 503, 30, process.text)
    task = world.enqueue()
    boundary.hook = lambda *_: None
    world.status(task, "completed", seconds=60)
    assert status().status_code == 200
    boundary.close()


# What a person asks


def test_status_and_explain_on_kubernetes(world: World) -> None:
    process = world.controller(steps({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}))
    task = world.enqueue()
    world.message(task, "image cannot be pulled")
    where = ["--config", str(world.folder / "settings-0.yaml"), "--kubeconfig", str(world.plane.kubeconfig("admin"))]

    def podstrap(*words: str) -> str:
        environ = {**support.base_environ(), **world.environ, "PYTHONPATH": str(support.REPOSITORY_ROOT)}
        command = [*support.PODSTRAP, *words, *where]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60).stdout

    (job,) = json.loads(podstrap("status", "-o", "json"))["jobs"]
    assert (job["task"], job["stage"]) == (task, "pending") and "no such image" in job["reason"], process.text()
    assert job["node"].startswith("simulated-")
    said = podstrap("explain", task)
    assert "place 1 of 1" in said and "> image" in said and "[ImageNotFound]" in said


# The glue's command line


def test_the_glue_scripts_flags(world: World) -> None:
    template = world.folder / "template.yaml"
    template.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {labels: {team: vision}}\nspec:\n"
        "  nodeSelector: {podstrap.test/node: simulated}\n  containers:\n  - {name: anything, image: 'team/image:1'}\n"
    )
    overrides = world.folder / "overrides.yaml"
    overrides.write_text("spec:\n  containers:\n  - resources: {limits: {cpu: 2}}\n")
    second = f"second {world.namespace}"
    words = [
        "controller", "--queue", f"{world.queue},{second}", "--namespace", world.namespace, "--max-pods", "1",
        "--template-yaml", str(template), "--overrides-yaml", str(overrides), "--pod-name-prefix", "vision",
        "--create-queue", "--kubeconfig", str(world.plane.kubeconfig("admin")),
    ]  # fmt: skip
    environ = {**support.base_environ(), **world.environ}
    process = support.Process(words, environ, world.folder / "glue.log")
    world.processes.append(process)
    process.start()
    ids = [world.enqueue(f"task {number}") for number in range(2)]
    (job,) = support.until(lambda: world.jobs(), 30, process.text)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert job["metadata"]["name"].startswith("vision-") and job["metadata"]["labels"]["team"] == "vision"
    assert container["image"] == "team/image:1" and container["resources"]["limits"]["cpu"] == "2"
    support.until(lambda: any("maxPods" in world.task(one).status_message for one in ids), 20, process.text)
    assert any(queue.name == second for queue in queues.get_all(world.session))


def test_in_a_pod_the_service_account_is_found_and_its_rotated_token_too(tmp_path: Path, monkeypatch) -> None:
    """The official loader's own paths, moved; a token that changes on disk is sent from then on."""
    from kubernetes.config import incluster_config

    from controller.cluster import kubernetes

    token, ca = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first")
    ca.write_text("certificate")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(ca))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    client = kubernetes._load(None, None)
    assert kubernetes._authorization(client) == {"authorization": "bearer first"}
    token.write_text("second")
    import datetime

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz=None):  # type: ignore[no-untyped-def]
            return super().now(tz) + datetime.timedelta(minutes=2)

    monkeypatch.setattr(incluster_config.datetime, "datetime", Later)
    assert kubernetes._authorization(client) == {"authorization": "bearer second"}


def test_a_kubeconfig_with_an_exec_plugin_and_one_with_client_certificates(
    world: World, control_plane: ControlPlane
) -> None:
    plugin = world.folder / "plugin"
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    credential["status"] = {"token": control_plane._tokens["admin"]}  # type: ignore[assignment]
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(credential)}'\n")
    plugin.chmod(0o755)
    file = control_plane.kubeconfig("admin")
    config = yaml.safe_load(file.read_text())
    config["users"][0]["user"] = {"exec": {
        "apiVersion": credential["apiVersion"], "command": str(plugin), "interactiveMode": "Never"}}  # fmt: skip
    with_plugin = world.folder / "plugin.kubeconfig"
    with_plugin.write_text(yaml.safe_dump(config))
    process = world.controller(steps(*QUICK), kubeconfig=with_plugin)
    world.status(world.enqueue(), "completed")
    process.stop()
    certificate, key = control_plane.client_certificate("someone", "system:masters")
    config["users"][0]["user"] = {"client-certificate": str(certificate), "client-key": str(key)}
    with_certificate = world.folder / "certificate.kubeconfig"
    with_certificate.write_text(yaml.safe_dump(config))
    world.controller(steps(*QUICK), kubeconfig=with_certificate)
    world.status(world.enqueue("another"), "completed")
