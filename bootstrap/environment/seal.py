"""A finished environment and its seal: what it says, whether it still holds, who uses it.

The seal is a small file, written last. A cheap mark of what is installed is checked at each use; a shared lock on the
file says that the entry is in use.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

SEAL = "podstrap.json"
_LOCK_ATTEMPTS = 20


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
    system: tuple[str, ...] = ()
    """With system_site_packages: the folders of the image's own packages that stand behind it."""
    size_bytes: int = 0

    @property
    def packages(self) -> Path:
        """The folder with the installed packages."""
        return self.path / self.site_packages


def read(path: Path) -> Entry | None:
    """An entry's seal, without using it."""
    try:
        seal = os.open(path / SEAL, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return opened(path, seal)
    finally:
        os.close(seal)


def opened(path: Path, seal: int) -> Entry | None:
    """What an open seal says; None when it is torn."""
    try:
        facts = json.loads(os.pread(seal, 1 << 22, 0))
        return Entry(path=path, **{**facts, "system": tuple(facts.get("system", ()))})
    except (ValueError, TypeError, AttributeError):
        return None


def use(path: Path, seal: int) -> bool:
    """Mark an entry as in use; False when it is being removed this moment."""
    import fcntl

    for attempt in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(seal, fcntl.LOCK_SH | fcntl.LOCK_NB)
            break
        except BlockingIOError:  # somebody looks whether it is in use, or removes it
            if attempt == _LOCK_ATTEMPTS - 1:
                return False
            time.sleep(0.005)
        except OSError:
            break  # no locks here: `care` then goes by age alone
    try:
        return (path / SEAL).stat().st_ino == os.fstat(seal).st_ino
    except OSError:
        return False


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
