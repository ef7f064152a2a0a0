"""Finished environments in the cache, shared by all tasks and never changed.

    environments/KEY/podstrap.json      the seal, written last; a reader holds a shared lock on it while its task runs
    environments/KEY/venv/...           what was installed
    environments/requests/REQUEST.json  what a task's requirements led to (KEY), when, and whether it may change
    environments/used/KEY               touched at each use: least recently used goes first

An entry is built beside the others under a name of its own and published by one atomic rename: a reader sees a whole
entry or none. Of two that build for the same request one waits for the other (a file lock; where locks fail both
build, and the second to publish throws its own away). The seal carries a cheap mark of what was installed, checked at
each use: an entry that does not match is moved aside and built again, never trusted. `care` lists, verifies and prunes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bootstrap.environment.seal import SEAL, Entry, mark_of, opened, use

REQUESTS = "requests"
USED = "used"
LOCK = ".lock"
BEGUN = ".begun-"
BUILDING = ".building-"
DAMAGED = ".damaged-"
GONE = ".gone-"
ABANDONED_SECONDS = 6 * 3600
"""Where locks fail, what a builder left is only removed when it is this old."""
_LOCK_SECONDS = 1800.0

_held: list[int] = []
"""Open seals, locked while this process lives: their entries are in use."""


@dataclass(frozen=True)
class Resolution:
    """What a request (a hash of everything that a task asked for) led to."""

    entry: str
    pinned: bool
    """It means the same tomorrow: no index needs to be asked ever again."""
    resolved_at: float
    """Seconds since the epoch."""
    shown: str = ""
    """What the loose requirements became, for the user: `numpy 2.1.0, pandas 2.2.3`."""
    local: tuple[str, ...] = field(default=())
    """Requirement lines that name the task's own code: installed into its private environment each time."""

    def age_seconds(self) -> float:
        """Never negative: clocks of nodes differ."""
        return max(0.0, time.time() - self.resolved_at)


class Store:
    """The environments of one cache folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resolution(self, request: str) -> Resolution | None:
        """What is known of a request."""
        try:
            raw = json.loads((self.folder / REQUESTS / f"{request}.json").read_text())
            return Resolution(**{**raw, "local": tuple(raw.get("local", ()))})
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def remember(self, request: str, resolution: Resolution) -> None:
        """Note what a request led to. Raises OSError."""
        folder = self._made(self.folder / REQUESTS)
        file = folder / f".{request}-{os.getpid()}-{time.monotonic_ns()}"
        file.write_text(json.dumps(asdict(resolution)))
        file.chmod(0o644)
        file.replace(folder / f"{request}.json")

    def find(self, key: str) -> Entry | None:
        """The entry, if it is there and whole; from now on it is in use by this process. A damaged one is moved out
        of the way; one that may not be read is left alone."""
        path = self.folder / key
        try:
            seal = os.open(path / SEAL, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if path.is_dir():
                self._discard(path)
            return None
        except OSError:
            return None
        try:
            entry = opened(path, seal)
            if entry is None or mark_of(entry.packages) != entry.mark:
                self._discard(path)
                entry = None
            elif not use(path, seal):
                entry = None
        except OSError:
            entry = None
        if entry is None:
            os.close(seal)
            return None
        _held.append(seal)
        with contextlib.suppress(OSError):
            os.utime(self.folder / USED / key)
        return entry

    @contextlib.contextmanager
    def building(self) -> Iterator[Path]:
        """A folder to build in, removed in the end if it was not published; locked, so that nobody takes it for
        abandoned. Raises OSError."""
        self._made(self.folder)
        self.clean()
        name = f"{os.getpid()}-{time.monotonic_ns()}"
        begun, made = self.folder / f"{BEGUN}{name}", self.folder / f"{BUILDING}{name}"
        begun.mkdir()
        try:
            with contextlib.ExitStack() as stack:
                with contextlib.suppress(OSError):
                    import fcntl

                    lock = stack.enter_context((begun / LOCK).open("a"))
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                begun.rename(made)  # locked before it is seen as a building folder
                yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def publish(self, key: str, entry: Entry) -> Entry:
        """Seal what was built in `entry.path` and give it its name; the entry as found there. Raises OSError."""
        facts = {name: value for name, value in asdict(entry).items() if name != "path"}
        _readable_by_all(entry.path)
        (entry.path / SEAL).write_text(json.dumps(facts))
        (entry.path / SEAL).chmod(0o644)
        used = self._made(self.folder / USED) / key
        used.touch()
        with contextlib.suppress(OSError):
            used.chmod(0o666)
        self.find(key)  # a damaged or half-removed one goes out of the way
        with contextlib.suppress(OSError):  # somebody published the same key meanwhile: theirs is as good
            entry.path.rename(self.folder / key)
        found = self.find(key)
        if found is None:
            raise OSError(f"the environment {key[:12]} vanished while it was published")
        return found

    def clean(self) -> None:
        """Remove what killed builders left: a building folder whose lock nobody holds."""
        with contextlib.suppress(OSError):
            for path in self.folder.glob(".*-*"):
                left = path.name.startswith((DAMAGED, GONE))
                if left or (path.name.startswith((BEGUN, BUILDING)) and _abandoned(path)):
                    shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self, request: str) -> Iterator[None]:
        """One builder at a time for a request, as far as the file system's locks work. Raises OSError."""
        import fcntl

        self._made(self.folder)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                file = self.folder / f".{request[:32]}.lock"
                lock = stack.enter_context(file.open("a"))
                with contextlib.suppress(OSError):
                    file.chmod(0o666)
                end = time.monotonic() + _LOCK_SECONDS
                while time.monotonic() < end:
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        time.sleep(0.05)
            yield

    def _made(self, folder: Path) -> Path:
        """A folder that is as open to others as the one above it: pods of other users share the cache."""
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                folder.chmod(folder.parent.stat().st_mode & 0o7777)
        return folder

    def _discard(self, path: Path) -> None:
        aside = path.with_name(f"{DAMAGED}{path.name[:12]}-{os.getpid()}-{time.monotonic_ns()}")
        with contextlib.suppress(OSError):
            path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)


def _abandoned(path: Path) -> bool:
    import fcntl

    try:
        if path.name.startswith(BUILDING):
            with (path / LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
    except BlockingIOError:
        return False
    except OSError:
        pass  # none to be had: go by age; a time ahead of ours is no age
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime > ABANDONED_SECONDS
    return False


def _readable_by_all(folder: Path) -> None:
    """Undo a strict umask: the entry is for pods of other users too."""
    if not _umask() & 0o055:
        return
    for where, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            path = Path(where, name)
            with contextlib.suppress(OSError):
                if not path.is_symlink():
                    mode = path.stat().st_mode & 0o7777
                    path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))


def _umask() -> int:
    """This process's umask, read without changing it for the other threads (proc(5))."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path("/proc/self/status").read_text()
        return int(text.split("Umask:")[1].split()[0], 8)
    return 0o077
