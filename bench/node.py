"""The start-up timeline of real pods: where the seconds between queue and first line go, baked and injected.

One control plane, one real node (root), one server, one image; the ways alternate in every round. Each sample is what
the task itself tells (the user property `podstrap_timeline`), made by the node's own files and held against Kubernetes'
times by a test. Images are on the node, the cache is warm after the first round, which does not count. ROUNDS=.
Raw samples: bench/results/node.json; the last line of the output is the result as JSON: medians in seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.first_line import save
from clearml_api.session import Session
from tests import support
from tests.cluster import built, image_set, tools
from tests.cluster.bridge import Bridge
from tests.cluster.control_plane import ControlPlane
from tests.cluster.forward import Forward
from tests.cluster.node import Node
from tests.cluster.real import WAYS, way

ROUNDS = int(os.environ.get("ROUNDS", "7"))
SPACE = "bench"
SIDE_BY_SIDE = ("repository", "environment")
"""Only the longer of the two counts."""
Timeline = Mapping[str, float]


def main() -> None:
    samples: dict[str, list[Timeline]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory(prefix="podstrap-bench-") as made, _cluster(Path(made)) as (plane, node, server):
        images = {name: built.image(name) for name in ("task", "bootstrap")}
        for name, image in images.items():
            archive = image.save(Path(made) / f"{name}.tar")
            node.import_image(archive)
            archive.unlink()
        with _controller(
            Path(made), plane, node, server, images["task"].reference, images["bootstrap"].reference
        ) as ids:
            for number in range(ROUNDS + 1):
                for name in WAYS:
                    timeline = _sample(support.session_of(server.environ), ids[name])
                    if number:
                        samples[name].append(timeline)
                        sys.stderr.write(f"{name}: {timeline}\n")
    save("node", {"samples": samples})
    print(json.dumps({"rounds": ROUNDS, **{name: _medians(found) for name, found in samples.items()}}), flush=True)


def _sample(session: Session, queue: str) -> Timeline:
    task = support.create_task(session, "bench", "print('first', flush=True)")
    session.call("tasks.enqueue", {"task": task, "queue": queue})
    found = support.ended(session, task, 120)
    assert found.status == "completed", f"{found.status_message}\n{support.console(session, task)}"
    timeline: Timeline = json.loads(found.hyperparams["properties"]["podstrap_timeline"]["value"])
    return timeline


def _medians(found: list[Timeline]) -> dict[str, float]:
    """Of each phase, and of Job to first line: the time in the queue is the poll's, not the node's."""
    result = {phase: round(statistics.median(one[phase] for one in found), 3) for phase in found[0]}
    return {**result, "job_to_first_line": round(statistics.median(_whole(one) for one in found), 3)}


def _whole(one: Timeline) -> float:
    beside = max((one.get(phase, 0.0) for phase in SIDE_BY_SIDE), default=0.0)
    return beside + sum(seconds for phase, seconds in one.items() if phase not in (*SIDE_BY_SIDE, "queued"))


@contextlib.contextmanager
def _cluster(folder: Path) -> Iterator[tuple[ControlPlane, Node, support.Server]]:
    tools.packages(*tools.NODE_PACKAGES)
    bridge = Bridge("psbr-bench", "10.213.210.0/24")
    plane = ControlPlane(tools.kubernetes(), folder / "plane", (bridge.address,))
    server = support.Server(folder / "server")
    with contextlib.ExitStack() as undo:
        bridge.down()
        bridge.up()
        undo.callback(bridge.down)
        plane.start()
        undo.callback(plane.stop)
        server.start()
        undo.callback(server.kill9)
        node = Node("bench", tools.binaries(), plane.kubeconfig("admin"), folder / "node", bridge)
        undo.callback(node.stop)
        node.start(image_set.pause(folder).save(folder / "pause.tar"))
        yield plane, node, server


@contextlib.contextmanager
def _controller(
    folder: Path, plane: ControlPlane, node: Node, server: support.Server, task_image: str, bootstrap_image: str
) -> Iterator[dict[str, str]]:
    """Running; way -> the id of its queue."""
    keys = {key: server.environ[key] for key in ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY")}
    kube = plane.kube
    kube.create("/api/v1/namespaces", {"metadata": {"name": SPACE}})
    support.until(lambda: kube.find(f"/api/v1/namespaces/{SPACE}/serviceaccounts/default"))
    secret = {"metadata": {"name": "podstrap-clearml"}, "stringData": keys}
    kube.create(f"/api/v1/namespaces/{SPACE}/secrets", secret)
    forward = Forward(node.bridge_address, server.port)
    url = f"http://{node.bridge_address}:{forward.port}"
    cache = folder / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    settings: dict[str, Any] = {
        "namespace": SPACE, "defaultContainerImage": task_image, "bakedImages": [task_image],
        "bootstrapImage": bootstrap_image, "apiServerUrlReference": url, "webServerUrlReference": url,
        "fileServerUrlReference": url, "cache": {"volume": {"hostPath": {"path": str(cache)}}},
        "queues": {name: way(name) for name in WAYS},
    }  # fmt: skip
    file = folder / "settings.yaml"
    file.write_text(json.dumps(settings))
    ids = {name: support.queue_id(support.session_of(server.environ), name) for name in WAYS}
    words = ["controller", "--config", str(file), "--kubeconfig", str(plane.kubeconfig("admin"))]
    process = support.Process(words, {**support.base_environ(), **server.environ}, folder / "controller.log")
    process.start()
    try:
        yield ids
    finally:
        process.kill9()
        forward.close()


if __name__ == "__main__":
    main()
