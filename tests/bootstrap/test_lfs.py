"""Large files: a real git-lfs against a small LFS server of ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bootstrap.errors import RepositoryError
from clearml_api.models import Script
from tests import support
from tests.bootstrap.git_servers import HttpGit, lfs_pointer, me

LARGE = b"a large file\n" * 1000


@pytest.fixture(scope="module")
def lfs(served: Path, http_server: HttpGit) -> str:
    """A commit with a large file, pushed by the real git-lfs."""
    http_server.failures = 0
    folder = served / "lfs-source"
    support.git(served, "clone", "-q", http_server.url("open.git"), str(folder))
    support.git(folder, "lfs", "install", "--local")
    support.git(folder, "lfs", "track", "*.bin")
    (folder / "model.bin").write_bytes(LARGE)
    support.git(folder, "add", "-A")
    support.git(folder, "commit", "-qm", "large")
    support.git(folder, "push", "-q", "origin", "HEAD:refs/heads/large")
    support.git(served / "private/closed.git", "fetch", "-q", str(served / "open.git"), "large:large")
    return support.git(folder, "rev-parse", "HEAD")


def test_lfs_files_are_whole_and_come_from_the_cache_the_next_time(git_pod, http, lfs) -> None:
    script = Script(repository=http.url("private/closed.git"), commit=lfs)
    for _ in range(2):
        checkout = git_pod.prepare(script, **me(http))
        assert (checkout.root / "model.bin").read_bytes() == LARGE
    assert http.lfs_gets == 1
    skipped = git_pod.prepare(script, **me(http), GIT_LFS_SKIP_SMUDGE="1")
    assert (skipped.root / "model.bin").read_text() == lfs_pointer(LARGE)


def test_an_image_without_lfs_is_told(git_pod, http, lfs, tmp_path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("git", "sh"):
        (folder / name).symlink_to(str(shutil.which(name)))
    no_system = {"PATH": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    checkout = git_pod.prepare(Script(repository=http.url("open.git"), commit=lfs), **no_system)
    assert (checkout.root / "model.bin").read_text() == lfs_pointer(LARGE)
    assert any("has no git-lfs" in line for line in git_pod.told)


def test_a_file_that_the_lfs_server_lost_is_named(git_pod, http, lfs, served) -> None:
    (served / "lfs").rename(served / "lost")
    try:
        with pytest.raises(RepositoryError, match=r"could not be checked out") as caught:
            git_pod.prepare(Script(repository=http.url("open.git"), commit=lfs))
        assert "model.bin" in "\n".join(caught.value.last_lines)
    finally:
        (served / "lost").rename(served / "lfs")
