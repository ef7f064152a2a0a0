"""Pythons that the image does not have: brought by uv into the cache, or the nearest of those that are here.

Imported only when the version that a task asks for is missing.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bootstrap.commands import CommandFailed, Programs
from bootstrap.prepared import Tell

_INSTALL_SECONDS = 600.0
_TRY_AGAIN_SECONDS = 3600.0
"""A download that failed is not tried again sooner: each try costs the next tasks seconds."""
_NAMED = re.compile(r"python(\d+)\.(\d+)")


def folder_of(cache: Path) -> Path:
    """Where uv puts them."""
    return cache / "pythons"


def libc(root: Path = Path("/")) -> str:
    """The image's C library as uv calls it, told by its loader: `gnu`, `musl`, or empty where there is none."""
    for name, loader in (
        ("gnu", "lib*/ld-linux*.so.*"),
        ("gnu", "lib/*/ld-linux*.so.*"),
        ("musl", "lib/ld-musl-*.so.1"),
    ):
        if any(root.glob(loader)):
            return name
    return ""


def installed(version: str, cache: Path) -> Path | None:
    """A Python that uv brought before, for an image with this one's C library: pods of all images share the cache."""
    found = sorted(folder_of(cache).glob(f"*-{version}.*-{libc() or 'none'}/bin/python{version}"))
    return found[-1] if found and os.access(found[-1], os.X_OK) else None


def install(version: str, environ: Mapping[str, str], cache: Path, programs: Programs, tell: Tell) -> Path | None:
    """`uv python install`; None when that fails, and a line tells why."""
    from bootstrap.environment.tools import downloads, find_uv

    if environ.get("UV_PYTHON_DOWNLOADS", "").lower() in ("never", "manual"):
        return None
    kind = libc()
    if not kind:
        tell(f"the image has no python{version}, and no C library by which one that uv brings could run")
        return None
    folder = folder_of(cache)
    failed = folder / f".failed-{version}-{kind}"
    with contextlib.suppress(OSError):
        if 0 <= time.time() - failed.stat().st_mtime < _TRY_AGAIN_SECONDS:
            return None
    tell(f"the image has no python{version}: uv installs it into the cache")
    command: list[str | Path] = [find_uv(), "python", "install", "--no-bin", "--install-dir", folder, "--", version]
    own = {"UV_CACHE_DIR": str(downloads(cache, "uv")), "UV_NO_PROGRESS": "1", "NO_COLOR": "1", "UV_LIBC": kind}
    kept = {name: value for name, value in environ.items() if value or not name.startswith("UV_")}
    try:
        programs.run(command, environ={**kept, **own}, seconds=_INSTALL_SECONDS)
    except CommandFailed as error:
        tell(f"uv could not bring python{version}: {error.last_lines[-1].strip() if error.last_lines else error}")
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            failed.touch()
        return None
    return installed(version, cache)


def nearest(version: str, environ: Mapping[str, str], ours: Callable[[Path], bool]) -> Path | None:
    """Of the versioned Pythons on PATH the one with the nearest minor version; the newer of two as near."""
    wanted = tuple(int(part) for part in version.split("."))
    best: tuple[int, int, Path] | None = None
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder or "."):
                found = _NAMED.fullmatch(entry.name)
                path = Path(entry.path)
                if not found or int(found[1]) != wanted[0] or ours(path) or path.parent.name == "shims":
                    continue
                if os.access(path, os.X_OK):
                    distance = abs(int(found[2]) - wanted[1])
                    one = (distance, -int(found[2]), path)
                    best = one if best is None or one[:2] < best[:2] else best
    return best[2] if best else None
