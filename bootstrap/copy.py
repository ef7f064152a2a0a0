"""`podstrap copy FOLDER`: the self-contained folder into a volume that a task's container mounts as /opt/podstrap.

Where a cluster has no image volumes, an init container of our image runs this once a pod. The folder is some 3,000
files, so it is copied by a few threads, each file by the kernel (`sendfile` or better, inside shutil); modes and links
stay as they are. Only when all of it is there the file `.copied.json` is written, by which bootstrap tells how long it
took; a pod whose init container was killed and runs again begins anew.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import PodstrapError
from protocol.folder import COPIED, HOME

_THREADS = 8
"""They wait for the disk, not for a processor."""


@dataclass(frozen=True)
class Copied:
    """What a copy took."""

    seconds: float
    bytes: int
    files: int


class CopyFailed(PodstrapError):
    """The folder is not whole at its new place."""


def copy(target: Path, source: Path = HOME) -> Copied:
    """Copy the folder's contents into `target`, which is there or is made. Raises CopyFailed."""
    began = time.monotonic()
    if not (source / "bin" / "podstrap").exists():
        raise CopyFailed(
            f"{source} is not podstrap's self-contained folder",
            hint="`podstrap copy` is for the image podstrap/bootstrap, as an init container",
        )
    try:
        (target / COPIED).unlink(missing_ok=True)
        files = _folders_and_links(source, target)
        with ThreadPoolExecutor(_THREADS) as pool:
            sizes = list(pool.map(lambda file: _file(source / file, target / file), files))
        copied = Copied(round(time.monotonic() - began, 3), sum(sizes), len(sizes))
        beside = target / f"{COPIED}.new"
        beside.write_text(json.dumps({"seconds": copied.seconds, "bytes": copied.bytes, "files": copied.files}))
        beside.replace(target / COPIED)
    except OSError as error:
        raise CopyFailed(
            f"{source} cannot be copied to {target}: {error}",
            hint="the volume must be writable for this pod's user, with 160 MB free",
        ) from error
    return copied


def _folders_and_links(source: Path, target: Path) -> list[Path]:
    """Make these; the files, relative to `source`."""
    files: list[Path] = []
    target.mkdir(parents=True, exist_ok=True)
    for folder, folders, names in os.walk(source):
        here = Path(folder).relative_to(source)
        for name in folders + names:
            one = source / here / name
            if one.is_symlink():
                _link(one, target / here / name)
            elif name in folders:
                (target / here / name).mkdir(exist_ok=True)
                (target / here / name).chmod(stat.S_IMODE(one.stat().st_mode) | stat.S_IWUSR)
            elif one.is_file() and str(here / name) != COPIED:
                files.append(here / name)
    return files


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    target.symlink_to(source.readlink())


def _file(source: Path, target: Path) -> int:
    """Its bytes. A file of an earlier try is replaced, never written into: it may be running."""
    target.unlink(missing_ok=True)
    shutil.copyfile(source, target)
    mode = source.stat()
    target.chmod(stat.S_IMODE(mode.st_mode))
    return mode.st_size
