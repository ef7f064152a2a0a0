"""Finished environments in the cache, shared by all tasks and never changed.

An entry is built beside the others under a name of its own, sealed by a file that is written last, and published by
one atomic rename: a reader sees a whole entry or none. Of two that build the same key one waits for the other (a
file lock; where locks fail both build, and the second to publish throws its own away). The seal carries a cheap mark
of what was installed, checked at each use: an entry that does not match is moved aside and built again, never
trusted. What a killed builder left behind is removed once it is old.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

SEAL = "podstrap.json"
_ABANDONED_SECONDS = 6 * 3600
_LOCK_SECONDS = 1800.0


@dataclass(frozen=True)
class Entry:
    """A finished environment."""

    path: Path
    python: str
    """`3.11`."""
    version: str
    """`3.11.7`."""
    base: str
    """The interpreter that it was made with."""
    site_packages: str
    """Relative to `path`."""
    installed: str
    """`name==version` lines."""
    mark: str
    """Of the names in site-packages."""

    @property
    def packages(self) -> Path:
        """The folder with the installed packages."""
        return self.path / self.site_packages


class Store:
    """The environments of one cache folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str) -> Entry | None:
        """The entry, if it is there and whole. A damaged one is moved out of the way."""
        path = self._folder / key
        try:
            seal = json.loads((path / SEAL).read_text())
            entry = Entry(path=path, **seal)
        except (OSError, ValueError, TypeError):
            if path.is_dir():
                self._discard(path)
            return None
        if mark_of(entry.packages) != entry.mark:
            self._discard(path)
            return None
        return entry

    def get(self, key: str, build: Callable[[Path], Entry]) -> tuple[Entry, bool]:
        """The entry, and whether it was there; built by `build(folder)` when it was not.

        Raises what `build` raises, and OSError when the folder cannot be written.
        """
        if found := self.find(key):
            return found, True
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked(key):
            if found := self.find(key):
                return found, True
            return self._build(key, build), False

    def _build(self, key: str, build: Callable[[Path], Entry]) -> Entry:
        self._clean()
        made = self._folder / f".building-{key[:12]}-{os.getpid()}-{time.monotonic_ns()}"
        made.mkdir()
        try:
            entry = build(made)
            facts = {name: value for name, value in asdict(entry).items() if name != "path"}
            (made / SEAL).write_text(json.dumps(facts))
            with contextlib.suppress(OSError):  # somebody published the same key meanwhile: theirs is as good
                made.rename(self._folder / key)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        found = self.find(key)
        if found is None:
            raise OSError(f"the environment {key[:12]} vanished while it was published")
        return found

    def _discard(self, path: Path) -> None:
        aside = path.with_name(f".damaged-{path.name[:12]}-{os.getpid()}-{time.monotonic_ns()}")
        with contextlib.suppress(OSError):
            path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def _clean(self) -> None:
        """Remove what killed builders left."""
        with contextlib.suppress(OSError):
            for path in self._folder.glob(".building-*"):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        import fcntl

        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                lock = stack.enter_context((self._folder / f".{key[:32]}.lock").open("a"))
                end = time.monotonic() + _LOCK_SECONDS
                while time.monotonic() < end:
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        time.sleep(0.05)
            yield


def key_of(*parts: str) -> str:
    """The name of an entry: a hash of everything that it depends on."""
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:40]


def mark_of(packages: Path) -> str:
    """A cheap fingerprint of what is installed: the names in site-packages. Empty when the folder is not there."""
    try:
        names = sorted(entry.name for entry in os.scandir(packages) if entry.name != "__pycache__")
    except OSError:
        return ""
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:32]
