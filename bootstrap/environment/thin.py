"""The private environment of one task: a venv of a dozen files whose packages come from a store's entry.

One `.pth` line makes `site` treat the entry's site-packages as a site folder, so that its own .pth files (editable
installs, namespace packages) work; the private site-packages stands before it on sys.path, so that what the task
installs shadows the entry and never touches it. Console scripts of the entry are written again with this venv's
Python in their first line. What packages put below the prefix (`share/`, `etc/`: Jupyter's templates and kernels) is
there by links, file by file, so that it is found below `sys.prefix` and what the task adds is its own. pip comes from
the interpreter's own bundled wheel when the entry has none.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from bootstrap.environment.seal import Entry

_PIP_SCRIPT = "#!{python}\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"
_LARGEST_SCRIPT = 1 << 16
_DATA = ("share", "etc")


def make(folder: Path, entry: Entry) -> Path:
    """Make the venv in `folder`; its Python. Raises OSError."""
    binaries = folder / "bin"
    packages = folder / "lib" / f"python{entry.python}" / "site-packages"
    binaries.mkdir(parents=True, exist_ok=True)
    packages.mkdir(parents=True, exist_ok=True)
    base = Path(entry.base)
    (folder / "pyvenv.cfg").write_text(
        f"home = {base.parent}\nimplementation = CPython\nversion = {entry.version}\n"
        f"include-system-site-packages = {str(bool(entry.system)).lower()}\nprompt = podstrap\n"
    )
    python = binaries / "python"
    if not python.is_symlink():
        python.symlink_to(base)
        for name in ("python3", f"python{entry.python}"):
            (binaries / name).symlink_to("python")
    wheel = _bundled_pip(base, entry)
    folders = [str(entry.packages), *entry.system]  # in this order after the private one
    lines = [*(f"import site; site.addsitedir({folder!r})" for folder in folders), *([str(wheel)] if wheel else [])]
    (packages / "podstrap.pth").write_text("\n".join(lines) + "\n")
    _scripts(entry.path / "venv" / "bin", binaries, python)
    for name in _DATA:
        _link_files(entry.path / "venv" / name, folder / name)
    if wheel and not (binaries / "pip").exists():
        for name in ("pip", "pip3"):
            _write_script(binaries / name, _PIP_SCRIPT.format(python=python).encode())
    return python


def environ(folder: Path, before: Mapping[str, str]) -> dict[str, str]:
    """What activating it sets."""
    path = before.get("PATH") or os.defpath
    own = str(Path(sys.prefix, "bin"))
    kept = [part for part in path.split(os.pathsep) if part != own]
    return {"VIRTUAL_ENV": str(folder), "PATH": os.pathsep.join([str(folder / "bin"), *kept])}


def _scripts(source: Path, target: Path, python: Path) -> None:
    """The entry's console scripts, run by this venv's Python."""
    with contextlib.suppress(FileNotFoundError):
        for script in os.scandir(source):
            if (
                script.name.startswith(("python", "activate"))
                or not script.is_file()
                or (target / script.name).exists()
            ):
                continue
            if script.stat().st_size > _LARGEST_SCRIPT:
                (target / script.name).symlink_to(script.path)  # a compiled program (ruff, uv)
                continue
            first, newline, rest = Path(script.path).read_bytes().partition(b"\n")
            if first.startswith(b"#!") and b"python" in first:
                _write_script(target / script.name, b"#!" + os.fsencode(python) + newline + rest)
            elif first.startswith(b"#!/bin/sh") and b"exec" in rest[:300]:  # the form for long interpreter paths
                body = rest.partition(b"' '''\n")[2]
                _write_script(target / script.name, b"#!" + os.fsencode(python) + b"\n" + body)
            else:
                (target / script.name).symlink_to(script.path)


def _link_files(source: Path, target: Path) -> None:
    """The same folders, and links to the files: a linked folder would let the task write into the entry."""
    with contextlib.suppress(FileNotFoundError), os.scandir(source) as found:
        target.mkdir(exist_ok=True)
        for one in found:
            if one.is_dir(follow_symlinks=False):
                _link_files(Path(one.path), target / one.name)
            elif not os.path.lexists(target / one.name):
                (target / one.name).symlink_to(one.path)


def _write_script(path: Path, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o755)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)


def _bundled_pip(base: Path, entry: Entry) -> Path | None:
    """The wheel that ensurepip brings; importable as it is."""
    if (entry.packages / "pip").is_dir():
        return None
    library = base.resolve().parent.parent / "lib" / f"python{entry.python}" / "ensurepip" / "_bundled"
    for folder in (library, Path("/usr/share/python-wheels")):
        for wheel in sorted(folder.glob("pip-*.whl")):
            return wheel
    return None
