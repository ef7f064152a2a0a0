"""Images of several kinds, each as a root file system, and what tasks in them need: a repository, keys, a wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import support
from tests.bootstrap.git_servers import HttpGit, Ssh
from tests.cluster import built, tools
from tests.cluster.images import Image
from tests.images.container import mount_points, unpacked

LARGE = b"a large file\n" * 1000
MAIN = Path(__file__).with_name("looks_around.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They mount and change users. A skip that nobody asked for would hide that nothing was tested, so they fail."""
    for item in items:
        if "tests/images" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("images"))


@pytest.fixture(scope="session")
def bootstrap_image() -> Image:
    return built.image("bootstrap")


@pytest.fixture(scope="session")
def task_image() -> Image:
    return built.image("task")


@pytest.fixture(scope="session")
def folder(bootstrap_image: Image) -> Path:
    """The self-contained folder on this machine's disk."""
    return root_of(bootstrap_image) / "opt/podstrap"


def root_of(image: Image) -> Path:
    """An image's root file system."""
    name = f"rootfs-{image.digest.split(':')[1][:16]}"
    root = unpacked(name, [layer.file for layer in image.layers])
    built.forget_old("rootfs-")
    return root


@pytest.fixture(scope="session")
def roots(task_image: Image, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Root file systems by name."""
    nothing, musl = tmp_path_factory.mktemp("nothing"), tmp_path_factory.mktemp("musl")
    mount_points(nothing)
    mount_points(musl)
    (musl / "bin").mkdir()
    tools.packages("busybox-static")
    shutil.copy("/bin/busybox", musl / "bin/busybox")
    (musl / "bin/sh").symlink_to("busybox")
    _musl(musl)
    built.debian()
    bare = unpacked(f"debian-{built.SUITE}-root", [tools.cache() / f"debian-{built.SUITE}" / "root.tar"])
    return {"nothing": nothing, "musl": musl, "bare": bare, "baked": root_of(task_image)}


def _musl(root: Path) -> None:
    """A C library that is not glibc, where Alpine has it."""

    def build(folder: Path) -> None:
        tools.run(["apt-get", "download", "musl"], where=folder)
        tools.run(["dpkg", "-x", next(folder.glob("musl_*.deb")), folder / "root"])

    made = tools.once("musl", build) / "root"
    (root / "lib").mkdir()
    for loader in made.rglob("ld-musl-*.so.1"):
        shutil.copy(loader, root / "lib" / loader.name)


@dataclass(frozen=True)
class Origin:
    """Where the task's code is: by HTTP for who knows the password, by ssh for who has the key."""

    http: HttpGit
    ssh: Ssh
    root: Path
    commit: str

    def url(self, by: str) -> str:
        if by == "http":
            return self.http.url("private/closed.git")
        return f"ssh://root@127.0.0.1:{self.ssh.port}{self.root}/private/closed.git"


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    """A private repository with a file in LFS, and a public one that is its submodule."""
    root = tmp_path_factory.mktemp("origin")
    http, ssh = HttpGit(root), Ssh(root / "sshd")
    for name in ("open.git", "private/closed.git"):
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(root / name)], check=True)
        support.git(root / name, "config", "http.receivepack", "true")
    source = root / "source"
    support.git(root, "clone", "-q", http.url("open.git"), str(source))
    support.git(source, "checkout", "-q", "-B", "main")
    support.git(source, "lfs", "install", "--local")
    support.git(source, "lfs", "track", "*.bin")
    (source / "model.bin").write_bytes(LARGE)
    shutil.copy(MAIN, source / "main.py")
    support.git(source, "add", "-A")
    support.git(source, "commit", "-qm", "a task")
    support.git(source, "push", "-q", "origin", "main")
    support.git(root / "private/closed.git", "fetch", "-q", str(root / "open.git"), "main:main")
    yield Origin(http, ssh, root, support.git(source, "rev-parse", "HEAD"))
    http.stop()
    ssh.stop()


def given(folder: Path, user: int) -> Path:
    """A folder that belongs to that user."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, user, 0)
    return folder
