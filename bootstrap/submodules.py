"""Submodules, each from a mirror of its own as the repository itself is: cached, shallow, with the same rules.

`.gitmodules` is the repository's own text, so untrusted: a path that leads out of the checkout through a link is
refused, and a folder of this machine only when the repository itself is one (as git's protocol.file.allow=user).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bootstrap.commands import CommandFailed, Programs
from bootstrap.errors import RepositoryError
from bootstrap.git import Access
from bootstrap.remote import relative

_GITLINK = re.compile(r"160000 (?P<commit>[0-9a-f]+) \d\t(?P<path>.+)", re.S)
_SETTING = re.compile(r"submodule\.(?P<name>.*)\.(?P<what>path|url|update)\n(?P<value>.*)", re.S)
_DEEPEST = 10

CheckOut = Callable[[str, str, Path], Access]
"""`check_out(url, commit, folder)`: a repository at a commit; how its remote is reached."""


@dataclass(frozen=True)
class Submodule:
    """One gitlink of a checkout with its address."""

    path: str
    url: str
    commit: str


def check_out_all(
    root: Path, access: Access, check_out: CheckOut, programs: Programs, *, depth: int = 0
) -> dict[str, Submodule]:
    """Fill every submodule of a checkout, and theirs; by path from `root`. Raises RepositoryError."""
    if not (root / ".gitmodules").is_file():
        return {}
    if depth == _DEEPEST:
        raise RepositoryError(f"the submodules of {access.remote.url} are nested deeper than {_DEEPEST}")
    found: dict[str, Submodule] = {}
    for one in _listed(root, access, programs):
        folder = root / one.path
        if root.resolve() not in folder.parent.resolve().parents and folder.parent.resolve() != root.resolve():
            raise RepositoryError(f"the submodule {one.path!r} leads out of the checkout")
        if folder.is_symlink() or (not access.remote.local and one.url.startswith(("/", ".", "file:"))):
            raise RepositoryError(f"the submodule {one.path!r} may not come from {one.url!r}")
        try:
            inner = check_out(one.url, one.commit, folder)
        except RepositoryError as error:
            raise RepositoryError(
                f"submodule {one.path!r}: {error}", hint=error.hint, last_lines=error.last_lines
            ) from error
        found[one.path] = one
        below = check_out_all(folder, inner, check_out, programs, depth=depth + 1)
        found.update({f"{one.path}/{path}": inside for path, inside in below.items()})
    return found


def _listed(root: Path, access: Access, programs: Programs) -> list[Submodule]:
    try:
        settings = programs.run(
            ["git", "config", "--null", "--file", root / ".gitmodules", "--list"], environ=access.environ
        ).output
        entries = programs.run(["git", "-C", root, "ls-files", "--stage", "-z"], environ=access.environ).output
    except CommandFailed as failed:
        raise RepositoryError(
            f"the submodules of {access.remote.url} cannot be read: {failed}", last_lines=failed.last_lines
        ) from failed
    by_name: dict[str, dict[str, str]] = {}
    for setting in settings.split("\0"):
        if match := _SETTING.fullmatch(setting):
            by_name.setdefault(match["name"], {})[match["what"]] = match["value"]
    by_path = {one["path"].rstrip("/"): one for one in by_name.values() if "path" in one}
    links = [match for entry in entries.split("\0") if (match := _GITLINK.fullmatch(entry))]
    return [
        Submodule(link["path"], relative(one["url"], access.remote.url), link["commit"])
        for link in links
        if (one := by_path.get(link["path"])) and one.get("url") and one.get("update") != "none"
    ]
