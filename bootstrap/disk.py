"""A disk that refuses, in words a person can act on: full, out of inodes, read-only, not ours to write."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from bootstrap.errors import SetupError

_MIB = 2.0**20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, *_FULL)


def why(error: OSError, folder: Path) -> str:
    """What `error` says about `folder` or the file that it names."""
    where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else folder
    if error.errno in _FULL:
        return full(where) or full(folder) or f"the disk or quota under {where} is full"
    if error.errno == errno.EROFS:
        return f"{where} is on a read-only file system"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} may not be written by user {os.getuid()}, group {os.getgid()}"
    return f"{where}: {error.strerror or error}"


def full(folder: Path) -> str:
    """Whether the file system of a folder (or of the nearest one above that exists) has no room; empty when it has."""
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    try:
        found = os.statvfs(there)
    except OSError:
        return ""
    if found.f_blocks and found.f_bavail * found.f_frsize < os.sysconf("SC_PAGE_SIZE"):
        return f"the disk under {there} is full ({found.f_blocks * found.f_frsize / _MIB:.1f} MiB)"
    if found.f_files and not found.f_favail:
        return f"the disk under {there} has no inodes left ({found.f_files} files): too many small files"
    return ""


def as_setup_error(error: BaseException, folder: Path) -> SetupError | None:
    """The error of a task that could not be prepared because a disk refused; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in _REFUSED:
        return None
    return SetupError(
        why(error, folder),
        hint="the work folder is a volume of the queue's template: is it large enough, and writable for this user?",
    )
