"""A home and a name for the task's user, where the image gives none.

Run as any uid, a container's HOME is `/` or another's folder, and libraries that keep a cache or a configuration there
fail in odd ways (`PermissionError: '/.cache'`); Python's `getpass.getuser`, which torch calls, raises. So a task whose
HOME cannot be written gets a folder of its own in the pod's work folder, with links to what lay in the former (keys,
.netrc, clearml.conf), and one whose uid has no name is called podstrap.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from bootstrap import lent

NAME = "podstrap"
_CONFIGURATIONS = ("clearml.conf", "trains.conf")


def variables(environ: Mapping[str, str], work: Path) -> dict[str, str]:
    """HOME, USER and LOGNAME where the task needs other ones than `environ` has."""
    found = {}
    before = environ.get("HOME", "")
    if not before or not os.access(before, os.W_OK | os.X_OK):
        made = work / "home"
        with contextlib.suppress(OSError):  # a work folder that refuses is told elsewhere
            _make(made, Path(before) if before else None)
            found["HOME"] = str(made)
    if not (environ.get("USER") or environ.get("LOGNAME")) and not lent.is_known():
        found.update({"USER": NAME, "LOGNAME": NAME})
    return found


def _make(folder: Path, before: Path | None) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if before is None:
        return
    with contextlib.suppress(OSError):  # not even to be read
        for one in before.iterdir():
            hidden = one.name.startswith(".") or one.name in _CONFIGURATIONS
            if (hidden or before != Path("/")) and not (folder / one.name).is_symlink():
                (folder / one.name).symlink_to(one)
