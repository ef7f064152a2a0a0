"""The controller as a process against a real API server: who leads, what it may do, and what it does when the API
server, the ClearML server or a connection misbehaves."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import pytest
import requests
import yaml

from clearml_api import queues
from tests import support
from tests.cluster.boundary import Boundary, Cut, Instead
from tests.cluster.conftest import World, job_reason, steps
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import jobs, leases

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
    support.until(lambda: leader(world) == "second", 5, second.text)
    assert time.monotonic() - began < 2.0
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
    """Every verb in the list is used here: a created, a stopped, a forgotten Job, a log, an Event, a Lease."""
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
    world.session.call("tasks.stop", {"task": blocked})
    support.until(lambda: not world.jobs(blocked), 30, process.text)
    assert leader(world)
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


# What misbehaves


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
    assert 8 <= len(asked) <= 11 and {path for _, _, path in asked} == {asked[0][2]}, asked
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
    assert told == {"by status": 2, "by event": 2}
    between.close()


def test_a_server_that_throttles_is_obeyed(world: World, between: Boundary) -> None:
    """429 with Retry-After, twice for each Job; then it is made, once."""
    refused: list[float] = []

    def throttle(before: bool, method: str, path: str) -> None:
        if before and method == "POST" and "/jobs" in path and len(refused) < 2:
            refused.append(time.monotonic())
            raise Instead(429, {"Retry-After": "1"}, b'{"kind":"Status","reason":"TooManyRequests"}')

    between.hook = throttle
    world.controller(steps(*QUICK), kubeconfig=through(world, between))
    task = world.enqueue()
    world.status(task, "completed")
    posts = [at for at, method, path in between.seen if method == "POST" and "/jobs" in path]
    assert len(posts) == 3 and all(b - a >= 1.0 for a, b in itertools.pairwise(posts)), posts
    between.close()


def test_an_answer_that_is_lost_makes_no_second_job(world: World, between: Boundary) -> None:
    lost: list[str] = []

    def lose(before: bool, method: str, path: str) -> None:
        if not before and method == "POST" and "/jobs" in path and len(lost) < 3:
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
    from tests.cluster import tools
    from tests.cluster.simulated import SimulatedNodes
    from tests.cluster.works import Bootstraps

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
        from tests.cluster import tools

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
