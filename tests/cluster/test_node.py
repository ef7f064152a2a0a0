"""The node itself: what a pod meets on it is what it meets in a cluster, and its end leaves the machine as it was."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from protocol import exit_codes
from tests.cluster import image_set, tools
from tests.cluster.bridge import Bridge
from tests.cluster.control_plane import ControlPlane
from tests.cluster.images import Entry, Image, write_layer
from tests.cluster.kube import Kube, jobs, pods
from tests.cluster.node import Node
from tests.cluster.node_fixtures import worker
from tests.cluster.registry import Registry
from tests.support import until

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("node")]
NAMESPACE = "node-tests"
BUSYBOX = image_set.BUSYBOX_IMAGE


@pytest.fixture(scope="module")
def kube(control_plane: ControlPlane, node: Node) -> Iterator[Kube]:
    """The API server of a cluster that has the node, and a namespace for these tests."""
    one, path = control_plane.kube, f"/api/v1/namespaces/{NAMESPACE}"
    one.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    until(lambda: one.find(f"{path}/serviceaccounts/default"), 30)
    yield one
    one.delete(path)
    until(lambda: not one.items(pods(NAMESPACE)), 60, node.logs)


def pod(script: str, image: str = BUSYBOX, **container: Any) -> dict[str, Any]:
    """A pod's specification that runs a shell script once."""
    main = {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}
    here = {"kubernetes.io/hostname": f"node{worker()}"}  # simulated nodes of other tests may be there too
    rest = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "nodeSelector": here}
    return {**rest, "containers": [{**main, **container}]}


def run_job(kube: Kube, name: str, spec: dict[str, Any]) -> None:
    body = {"backoffLimit": 0, "template": {"spec": spec}}
    kube.create(jobs(NAMESPACE), {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": body})


def create_pod(kube: Kube, name: str, spec: dict[str, Any]) -> None:
    kube.create(pods(NAMESPACE), {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def ended(kube: Kube, node: Node, name: str, kind: str) -> dict[str, Any]:
    """How the job's only container ended, once the Job has ended; `kind` is Complete or Failed."""

    def condition() -> str:
        conditions = kube.get(jobs(NAMESPACE, name))["status"].get("conditions", ())
        return next((one["type"] for one in conditions if one["type"] in ("Complete", "Failed")), "")

    until(condition, 60, lambda: f"{pod_of(kube, name)['status']}\n{node.logs()}")
    assert condition() == kind, pod_of(kube, name)["status"]
    state: dict[str, Any] = pod_of(kube, name)["status"]["containerStatuses"][0]["state"]["terminated"]
    return state


def pod_of(kube: Kube, job: str) -> dict[str, Any]:
    return kube.items(pods(NAMESPACE), labelSelector=f"job-name={job}")[0]


def running(kube: Kube, node: Node, name: str) -> dict[str, Any]:
    """The pod once it runs."""

    def find() -> dict[str, Any]:
        found: dict[str, Any] = kube.get(pods(NAMESPACE, name))
        return found

    until(lambda: find()["status"].get("phase") == "Running", 60, lambda: f"{find()['status']}\n{node.logs()}")
    return find()


def log(node: Node, name: str) -> str:
    return node.kubectl("logs", f"--namespace={NAMESPACE}", name)


def test_a_job_succeeds_and_its_log_can_be_read(kube: Kube, node: Node) -> None:
    run_job(kube, "succeeds", pod("echo hello"))
    assert ended(kube, node, "succeeds", "Complete")["exitCode"] == 0
    assert log(node, "job/succeeds") == "hello\n"


def test_an_exit_code_reaches_the_job(kube: Kube, node: Node) -> None:
    run_job(kube, "three", pod("exit 3"))
    state = ended(kube, node, "three", "Failed")
    assert (state["exitCode"], state["reason"]) == (3, "Error")


def test_a_container_over_its_memory_is_killed_and_says_so(kube: Kube, node: Node) -> None:
    run_job(kube, "greedy", pod("exec tail /dev/zero", resources={"limits": {"memory": "32Mi"}}))
    state = ended(kube, node, "greedy", "Failed")
    assert (state["exitCode"], state["reason"]) == (137, "OOMKilled")


def test_an_image_is_pulled_from_the_registry(kube: Kube, node: Node, registry: Registry, tmp_path: Path) -> None:
    node.trust_registry(registry.address)
    reference = registry.push(image_set.busybox(tmp_path, "another"), "team/busybox")
    run_job(kube, "pulled", pod("echo from the registry", image=reference))
    ended(kube, node, "pulled", "Complete")
    assert reference in node.images()


@pytest.mark.parametrize("server", ["real", "none"])
def test_an_image_that_is_absent_says_so(kube: Kube, node: Node, registry: Registry, server: str) -> None:
    node.trust_registry(registry.address)
    address = registry.address if server == "real" else f"{node.bridge_address}:1"
    run_job(kube, f"absent-{server}", pod("true", image=f"{address}/absent:1"))
    waiting: dict[str, str] = {}

    def says_so() -> bool:
        for one in kube.items(pods(NAMESPACE), labelSelector=f"job-name=absent-{server}"):
            for status in one["status"].get("containerStatuses", ()):
                waiting.update(status["state"].get("waiting", {}))
        return waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff")

    until(says_so, 60, lambda: f"{waiting}\n{node.logs()}")
    assert f"{address}/absent:1" in waiting["message"]


def test_a_pod_reaches_a_server_of_the_tests(kube: Kube, node: Node, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("found")
    with serving(tmp_path, node.bridge_address) as url:
        run_job(kube, "reaches", pod(f"wget -q -O - {url}/word"))
        ended(kube, node, "reaches", "Complete")
    assert log(node, "job/reaches") == "found"


def test_a_pod_runs_podstrap_of_this_working_tree(kube: Kube, node: Node, task_image: str) -> None:
    run_job(kube, "podstrap", pod("git --version && exec podstrap bootstrap", image=task_image))
    assert ended(kube, node, "podstrap", "Failed")["exitCode"] == exit_codes.USAGE
    assert "PODSTRAP_TASK_ID" in log(node, "job/podstrap"), "it says what it needs"


def test_a_folder_comes_from_an_image_of_its_own(kube: Kube, node: Node, tmp_path: Path) -> None:
    script = Entry("bin/greet", b"#!/bin/sh\necho from the volume\n")
    image = Image("podstrap.test/folder:1", (write_layer(tmp_path / "layer.tar", [Entry("bin"), script]),))
    node.import_image(image.save(tmp_path / "image.tar"))
    spec = pod("/opt/tool/bin/greet && ! touch /opt/tool/x", volumeMounts=[{"name": "tool", "mountPath": "/opt/tool"}])
    spec["volumes"] = [{"name": "tool", "image": {"reference": image.reference, "pullPolicy": "IfNotPresent"}}]
    run_job(kube, "image-volume", spec)
    ended(kube, node, "image-volume", "Complete")
    lines = log(node, "job/image-volume").splitlines()  # of two streams: in no sure order
    assert sorted(lines) == ["from the volume", "touch: /opt/tool/x: Read-only file system"]


def test_root_in_a_pod_with_its_own_users_is_nobody_on_the_node(kube: Kube, node: Node) -> None:
    run_job(kube, "users", {**pod("cat /proc/self/uid_map"), "hostUsers": False})
    ended(kube, node, "users", "Complete")
    inside, outside, _ = log(node, "job/users").split()
    assert (inside, int(outside) > 0) == ("0", True)


def test_a_node_whose_kubelet_died_is_lost_and_comes_back_with_its_pods(kube: Kube, node: Node) -> None:
    create_pod(kube, "stays", {**pod("exec sleep 600"), "nodeName": node.name})
    before = running(kube, node, "stays")["status"]["containerStatuses"][0]["containerID"]
    node.kill_kubelet()
    try:
        until(lambda: ready(kube, node) == "Unknown", 60)
        assert node.cgroup.processes()
    finally:
        node.start_kubelet()
    assert running(kube, node, "stays")["status"]["containerStatuses"][0]["containerID"] == before
    kube.delete(pods(NAMESPACE, "stays"))


def test_stop_leaves_nothing_behind(control_plane: ControlPlane, kube: Kube, tmp_path: Path) -> None:
    mounts = Path("/proc/mounts").read_text()
    bridge = Bridge("psbr-two", "10.213.200.0/24")
    two = Node("two", tools.binaries(), control_plane.kubeconfig("admin"), tmp_path / "two", bridge)
    archives = [make(tmp_path).save(tmp_path / "image.tar") for make in (image_set.pause,)]
    archives.append(image_set.busybox(tmp_path).save(tmp_path / "busybox.tar"))
    settings = kernel_settings()
    two.start(*archives)
    create_pod(kube, "asleep", {**pod("trap '' TERM; sleep 600 & wait"), "nodeName": "two", "nodeSelector": {}})
    running(kube, two, "asleep")
    assert kernel_settings() == settings
    processes = two.cgroup.processes()
    assert len(processes) >= 3, "pause, sh and sleep"
    assert len(bridge.ports()) == 1
    two.stop()
    bridge.down()
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]
    assert not bridge.exists()
    assert not list(Path("/sys/fs/cgroup").rglob("podstrap-two"))
    assert Path("/proc/mounts").read_text() == mounts
    assert sorted(path.name for path in two.folder.iterdir() if path.is_dir()) == ["etc", "log"]
    two.stop()
    kube.delete(pods(NAMESPACE, "asleep"), gracePeriodSeconds=0)
    kube.delete("/api/v1/nodes/two")


def test_a_node_comes_back_after_a_power_cut(kube: Kube, node: Node) -> None:
    create_pod(kube, "cut", {**pod("exec sleep 600"), "restartPolicy": "Always", "nodeName": node.name})
    running(kube, node, "cut")
    node.power_off()
    assert node.cgroup.processes() == []
    node.power_on()
    until(lambda: restarts(kube, "cut") == 1, 90, lambda: f"{kube.get(pods(NAMESPACE, 'cut'))}\n{node.logs()}")
    kube.delete(pods(NAMESPACE, "cut"))


def restarts(kube: Kube, name: str) -> int:
    status = kube.get(pods(NAMESPACE, name))["status"]["containerStatuses"][0]
    return int(status["restartCount"]) if status["ready"] else 0


def kernel_settings() -> list[str]:
    """Some that a kubelet changes."""
    return [Path(f"/proc/sys/{name}").read_text() for name in ("vm/overcommit_memory", "kernel/panic_on_oops")]


def ready(kube: Kube, node: Node) -> str:
    """The node's condition Ready: True, False or Unknown."""
    conditions = kube.get(f"/api/v1/nodes/{node.name}")["status"]["conditions"]
    return next(str(one["status"]) for one in conditions if one["type"] == "Ready")


@contextmanager
def serving(folder: Path, host: str) -> Iterator[str]:
    """The folder by HTTP on this address; its URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *words: Any, **named: Any) -> None:
            super().__init__(*words, directory=str(folder), **named)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer((host, 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{host}:{server.server_port}"
        server.shutdown()
