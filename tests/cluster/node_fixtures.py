"""Fixtures of a real node, its images and a registry. They use `control_plane`, which conftest.py gives.

One node a test session: it takes seconds to start. Each xdist worker has its own, by name, bridge and subnet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cluster import built, foreign_images, image_set, tools
from tests.cluster.bridge import Bridge
from tests.cluster.forward import Forward
from tests.cluster.images import Image
from tests.cluster.node import Node
from tests.cluster.registry import Registry


def worker() -> int:
    """This test process's number, 0 without xdist."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def subnet() -> str:
    """Of this process's bridge."""
    return f"10.213.{worker()}.0/24"


def bridge_address() -> str:
    """The host's on the bridge, its subnet's first, known before it is up."""
    return f"10.213.{worker()}.1"


@pytest.fixture(scope="session")
def bridge() -> Iterator[Bridge]:
    """Up before the node, so that servers of the tests can listen on its address."""
    if os.geteuid() != 0:
        pytest.skip("a real node needs root: namespaces, mounts, cgroups, a bridge")
    tools.packages(*tools.NODE_PACKAGES)
    one = Bridge(f"psbr{worker()}", subnet())
    one.down()
    one.up()
    yield one
    one.down()


@pytest.fixture(scope="session")
def busybox_image() -> str:
    """A small image that the node has."""
    return image_set.BUSYBOX_IMAGE


@pytest.fixture(scope="session")
def node(bridge: Bridge, control_plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:  # type: ignore[no-untyped-def]
    """Ready, with the sandbox's image and busybox."""
    folder = tmp_path_factory.mktemp("node")
    kubeconfig: Path = control_plane.kubeconfig("admin")
    one = Node(f"node{worker()}", tools.binaries(), kubeconfig, folder, bridge)
    made = [make(folder) for make in (image_set.pause, image_set.busybox)]
    archives = [image.save(folder / f"{number}.tar") for number, image in enumerate(made)]
    try:
        one.start(*archives)
        yield one
    finally:
        one.stop()


@pytest.fixture(scope="session")
def registry(bridge: Bridge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """On the bridge's address, so that pods reach it as well as the node."""
    one = Registry(tmp_path_factory.mktemp("registry"), bridge.address)
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="session")
def task_image(node: Node, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image that tasks run in, with podstrap of this working tree; the node has it."""
    folder = tmp_path_factory.mktemp("task-image")
    image = image_set.task()
    archive = image.save(folder / "image.tar")
    node.import_image(archive)
    archive.unlink()
    return image.reference


@pytest.fixture(scope="session")
def pods_reach_it(bridge: Bridge, server_environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """Settings by which pods on the bridge find the ClearML server."""
    api = urlsplit(server_environ["CLEARML_API_HOST"])
    files = urlsplit(server_environ.get("CLEARML_FILES_HOST") or server_environ["CLEARML_API_HOST"])
    forwards = [Forward(bridge.address, one.port or 80) for one in (api, files)]
    urls = [f"http://{bridge.address}:{one.port}" for one in forwards]
    yield {"apiServerUrlReference": urls[0], "webServerUrlReference": urls[0], "fileServerUrlReference": urls[1]}
    for one in forwards:
        one.close()


@pytest.fixture(scope="session")
def bare_image(node: Node, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Debian without git or Python; the node has it."""
    return _imported(node, foreign_images.bare(), tmp_path_factory)


@pytest.fixture(scope="session")
def old_python_image(node: Node, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Debian with Python 3.9; the node has it."""
    return _imported(node, foreign_images.old_python(), tmp_path_factory)


def _imported(node: Node, image: Image, folders: pytest.TempPathFactory) -> str:
    archive = image.save(folders.mktemp("image") / "image.tar")
    node.import_image(archive)
    archive.unlink()
    return image.reference


@pytest.fixture(scope="session")
def bootstrap_image(node: Node, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image that podstrap is brought from, of this working tree; the node has it."""
    return _imported(node, built.image("bootstrap"), tmp_path_factory)


@pytest.fixture(scope="session")
def own_image(node: Node, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The example of a user's own image, on our task image; the node has it."""
    return _imported(node, built.own_image(), tmp_path_factory)


@pytest.fixture(scope="session")
def controller_image(node: Node, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The controller's image, of this working tree; the node has it."""
    return _imported(node, built.image("controller"), tmp_path_factory)
