"""Podstrap in other people's images, on a real node: mounted from our image or copied, as whoever the pod runs as."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import support
from tests.cluster import built, foreign_images, image_set, old_runtime
from tests.cluster.bridge import Bridge
from tests.cluster.control_plane import ControlPlane
from tests.cluster.forward import Forward
from tests.cluster.node_fixtures import worker
from tests.cluster.old_runtime import OldNode
from tests.cluster.real import WAYS, Real, way

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("node")]

NOBODY = {
    "containerSecurityContext": {
        "runAsUser": 12345, "runAsGroup": 12345, "runAsNonRoot": True, "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
    },
}  # fmt: skip
"""A uid that no image knows, and nothing to write on but volumes."""
WHO = """
import os, sys
print("uid", os.getuid(), "python", "%d.%d" % sys.version_info[:2], sys.executable, flush=True)
try:
    open("/written", "w")
    print("root is writable", flush=True)
except OSError as error:
    print("root is not writable:", error.strerror, flush=True)
"""


def user_of(real: Real, task: str) -> tuple[int, str]:
    """Who the task ran as, and on which Python."""
    text = real.console(task)
    found = re.search(r"uid (\d+) python (\S+)", text)
    assert found, text
    return int(found[1]), found[2]


@pytest.mark.parametrize("method", ["imageVolume", "initContainer"])
def test_images_with_nothing_of_ours_run_tasks(
    real: Real, busybox_image: str, old_python_image: str, method: str
) -> None:
    """A static busybox alone, a Debian without git or Python, one with an older Python: as root and as nobody."""
    images = {"busybox": busybox_image, "debian": real.bare_image, "old": old_python_image}
    queues = {}
    for name, image in images.items():
        for user, over in (("root", {}), ("nobody", NOBODY)):
            queues[f"{real.world.queue}-{name}-{user}"] = {
                "pollSeconds": 0.5, "templateOverrides": {"image": image, **over}, "injectionMethod": method,
            }  # fmt: skip
    real.controller(queues=queues)
    tasks = {queue: _enqueued(real, WHO, queue) for queue in queues}
    for queue, task in tasks.items():
        real.completed(task)
        uid, python = user_of(real, task)
        assert uid == (12345 if queue.endswith("nobody") else 0)
        assert python == ("3.9" if "-old-" in queue else "3.11"), "the image's own where it has one, else ours"
        assert ("root is not writable" in real.console(task)) is queue.endswith("nobody")
        assert real.brought(task) == [method]


def test_root_in_a_pod_with_users_of_its_own_runs_tasks(real: Real) -> None:
    over = {"image": real.bare_image, "hostUsers": False}
    queues = {
        f"{real.world.queue}-{method}": {"pollSeconds": 0.5, "templateOverrides": over, "injectionMethod": method}
        for method in ("imageVolume", "initContainer")
    }
    real.controller(queues=queues)
    code = "print('map', *open('/proc/self/uid_map').read().split(), flush=True)"
    for task in [_enqueued(real, code, queue) for queue in queues]:
        real.completed(task)
        found = re.search(r"map 0 (\d+)", real.console(task))
        assert found and int(found[1]) > 0, real.console(task)


def test_a_task_is_cloned_by_our_git_where_the_image_has_none(real: Real, repository: str) -> None:
    real.controller(way("imageVolume"), basePodTemplate={"image": real.bare_image})
    task = real.task("cloned", words=("--repo", repository, "--branch", "main", "--script", "plain.py"))
    real.completed(task)
    assert "cloned and run" in real.console(task)


def test_a_bootstrap_image_without_our_folder_is_refused_by_the_node_and_then_by_its_own_copy(
    real: Real, busybox_image: str
) -> None:
    """The wrong image in `bootstrapImage`: the runtime finds no such path, the init container no such program."""
    process = real.controller({"injectionMethod": "auto"}, bootstrapImage=busybox_image,
                              basePodTemplate={"image": real.bare_image})  # fmt: skip
    task = real.task("wrong image", "print(1)")
    found = real.world.status(task, "failed", seconds=120)
    assert "podstrap-copy" in found.status_message or "/opt/podstrap" in found.status_message, found.status_message
    assert "no image volume" in process.text()
    assert {job["metadata"]["annotations"]["podstrap.io/injection"] for job in real.world.jobs(task)} >= {
        "initContainer"
    }


@pytest.mark.parametrize("name", WAYS)
def test_the_users_own_image_built_on_ours_runs_its_own_packages(real: Real, own_image: str, name: str) -> None:
    """images/examples/own-image: `FROM` ours and two lines, as its author built it."""
    base = {"image": own_image, "env": []}
    real.controller(way(name), basePodTemplate=base, bakedImages=[own_image] if name == "baked" else [])
    code = "import sys, tomlkit\nprint('tomlkit', tomlkit.__version__, sys.prefix, flush=True)"
    task = real.task("own packages", code)
    real.completed(task)
    assert "tomlkit 0.13.3 /home/podstrap/venv" in real.console(task)
    assert real.brought(task) == ["" if name == "baked" else name]


@pytest.fixture
def old_node(real: Real, control_plane: ControlPlane, tmp_path: Path) -> Iterator[OldNode]:
    """With our images and a bare one."""
    bridge = Bridge(f"psbr-old{worker()}", f"10.213.{220 + worker()}.0/24")
    one = OldNode(f"old{worker()}", old_runtime.binaries(), control_plane.kubeconfig("admin"), tmp_path / "old", bridge)
    images = [image_set.pause(tmp_path), foreign_images.bare(), built.image("bootstrap")]
    try:
        one.start(*[image.save(tmp_path / f"old-{number}.tar") for number, image in enumerate(images)])
        yield one
    finally:
        one.stop()
        bridge.down()
        control_plane.kube.delete(f"/api/v1/nodes/{one.name}")


def test_a_node_whose_runtime_knows_no_image_volumes_gets_a_copy_by_itself(
    real: Real, old_node: OldNode, server_environ: dict[str, str]
) -> None:
    """Containerd 1.6 as it is: what it says of the mount is not written by us."""
    forward = Forward(old_node.bridge_address, int(server_environ["CLEARML_API_HOST"].rpartition(":")[2]))
    url = f"http://{old_node.bridge_address}:{forward.port}"
    servers = {f"{one}ServerUrlReference": url for one in ("api", "web", "file")}
    base = {"image": real.bare_image, "nodeSelector": {"kubernetes.io/hostname": old_node.name}}
    process = real.controller({"maxAttempts": 1}, basePodTemplate=base, **servers)
    task = _enqueued(real, "print('copied', flush=True)", real.world.queue)
    real.world.message(task, "takes no image volume", seconds=90)
    real.completed(task)
    pod = real.world.pod(task, "Succeeded")
    assert pod["metadata"]["annotations"]["podstrap.io/injection"] == "initContainer"
    text = real.console(task)
    assert "podstrap was copied into this image, the node mounts no image volume: CreateContainerError" in text
    assert "why='no image volume: CreateContainerError" in process.text() or 'why="no image volume' in process.text()
    forward.close()


SIDECAR = """
import http.server, socket, sys, threading, time

target, port, quit_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass

def serve():
    time.sleep(3)  # a mesh's proxy that is not ready yet
    host, _, number = target.rpartition(":")
    with socket.create_server(("127.0.0.1", port)) as listening:
        while True:
            one, _ = listening.accept()
            other = socket.create_connection((host, int(number)))
            for pair in ((one, other), (other, one)):
                threading.Thread(target=copy, args=pair, daemon=True).start()

class Quit(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        print("asked to quit", self.path, flush=True)
        threading.Thread(target=self.server.shutdown, daemon=True).start()

threading.Thread(target=serve, daemon=True).start()
http.server.HTTPServer(("127.0.0.1", quit_port), Quit).serve_forever()
"""


@pytest.mark.parametrize("native", [False, True])
def test_a_task_whose_way_to_the_server_is_a_sidecar_waits_for_it_and_ends_with_it(real: Real, native: bool) -> None:
    """An ordinary one is told to quit, or its Job would never end; a native one is ended by the kubelet."""
    target = real.servers["apiServerUrlReference"].removeprefix("http://")
    sidecar: dict[str, Any] = {
        "name": "mesh", "image": real.task_image, "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", SIDECAR, target, "15001", "15020"],
    }  # fmt: skip
    if native:
        spec = {"initContainers": [{**sidecar, "restartPolicy": "Always"}]}
    else:
        spec = {"containers": [{"name": "task"}, sidecar]}
    more: dict[str, Any] = {} if native else {"sidecarQuitUrl": "http://127.0.0.1:15020/quitquitquit"}
    own = {"apiServerUrlReference": "http://127.0.0.1:15001"}
    real.servers = {**real.servers, **own}
    real.controller(basePodTemplate={"spec": spec}, **more)
    task = real.task("through a mesh", "print('through')")
    real.completed(task)
    support.until(lambda: real.world.jobs(task)[0]["status"].get("succeeded") == 1, 60, real.world.describe)
    pod = real.world.pod(task, "Succeeded")
    if not native:
        logs = real.node.kubectl("logs", f"--namespace={real.world.namespace}", pod["metadata"]["name"], "-c", "mesh")
        assert logs.splitlines() == ["asked to quit /quitquitquit"]


def _enqueued(real: Real, code: str, queue: str) -> str:
    """By the API: `clearml-task` would name this machine's Python, which is the image's matter here."""
    task = support.create_task(real.world.session, "in a foreign image", code, binary="python3")
    real.world.session.call("tasks.enqueue", {"task": task, "queue": support.queue_id(real.world.session, queue)})
    return task
