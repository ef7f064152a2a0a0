"""Git repositories made by hand: a few small files, where `git init` and `git clone` cost a program each."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Sequence
from pathlib import Path

_CONFIG = "[core]\n\trepositoryformatversion = {version}\n\tbare = {bare}\n"
_ORIGIN = '[remote "origin"]\n\turl = {url}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n'
_SHA256 = "[extensions]\n\tobjectformat = sha256\n"
_FOLDERS = ("objects/info", "objects/pack", "refs/heads", "refs/tags")


def make(path: Path, commit: str = "") -> None:
    """Make an empty bare repository, whole or not at all; `commit` tells which hashes it has. Raises OSError."""
    if (path / "HEAD").is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(made, ignore_errors=True)
    _fill(made, _config(commit, bare=True, shared=_shared(path.parent)), "ref: refs/heads/main")
    with contextlib.suppress(OSError):  # somebody else was faster: theirs is as good
        made.rename(path)
    shutil.rmtree(made, ignore_errors=True)


def make_checkout(root: Path, commit: str, url: str, lenders: Sequence[Path], *, lfs: Path | None) -> None:
    """Make a repository at a commit, its work tree still empty, that borrows the lenders' objects. Raises OSError."""
    escaped = url.replace("\\", "\\\\").replace('"', '\\"')
    config = _config(commit, bare=False) + _ORIGIN.format(url=f'"{escaped}"')
    if lfs:
        config += f'[lfs]\n\tstorage = "{lfs}"\n'
    _fill(root / ".git", config, commit)
    borrow(root / ".git", lenders)


def borrow(repository: Path, lenders: Sequence[Path]) -> None:
    """Use the objects of other repositories, and know where their history was cut. Raises OSError."""
    lines = [f"{lender.resolve() / 'objects'}\n" for lender in lenders]
    (repository / "objects" / "info" / "alternates").write_text("".join(lines))
    cuts: set[bytes] = set()
    for lender in lenders:
        with contextlib.suppress(FileNotFoundError):
            cuts.update((lender / "shallow").read_bytes().splitlines(keepends=True))
    if cuts:
        (repository / "shallow").write_bytes(b"".join(sorted(cuts)))


def sweep(repository: Path, older_than_seconds: float) -> None:
    """Remove what a git that was killed left behind: lock files, by which it would shut everybody out, and half packs.

    A living git holds such a lock for milliseconds. Half packs are left alone for a day.
    """
    now = time.time()
    locks = (*repository.glob("*.lock"), *repository.glob("refs/**/*.lock"))
    for files, seconds in ((locks, older_than_seconds), (repository.glob("objects/pack/tmp_*"), 86400.0)):
        for file in files:
            with contextlib.suppress(OSError):
                if now - file.stat().st_mtime > seconds:
                    file.unlink()


def _fill(folder: Path, config: str, head: str) -> None:
    for part in _FOLDERS:
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "config").write_text(config)
    (folder / "HEAD").write_text(f"{head}\n")


def _config(commit: str, *, bare: bool, shared: str = "") -> str:
    sha256 = len(commit) == 64
    text = _CONFIG.format(version=1 if sha256 else 0, bare=str(bare).lower())
    text += f"\tsharedRepository = {shared}\n" if shared else ""
    return text + (_SHA256 if sha256 else "")


def _shared(folder: Path) -> str:
    """Who else may write: a cache that several users share has a folder that says so."""
    mode = folder.stat().st_mode
    return "world" if mode & stat.S_IWOTH else "group" if mode & stat.S_IWGRP else ""
