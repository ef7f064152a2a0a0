"""The task's code on disk: a checkout of exactly its commit with its uncommitted changes, or its stored script.

The checkout is a repository of this pod's own that borrows its objects from the mirror (alternates): nothing is
copied but the files themselves. Making it by hand instead of by `git clone` saves two programs on the warm path.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from bootstrap import git
from bootstrap.commands import CommandFailed, Programs
from bootstrap.errors import RepositoryError
from bootstrap.mirror import Mirror
from bootstrap.prepared import Checkout, Tell
from clearml_api.configuration import Configuration
from clearml_api.models import Script

_CONFIG = """[core]
\trepositoryformatversion = 0
\tbare = false
[remote "origin"]
\turl = {url}
\tfetch = +refs/heads/*:refs/remotes/origin/*
"""


def prepare(
    script: Script,
    *,
    work: Path,
    cache: Path | None,
    configuration: Configuration,
    environ: Mapping[str, str],
    programs: Programs,
    tell: Tell,
) -> Checkout:
    """The code that the task names. Raises RepositoryError (what, where, why, what to try) or Cancelled."""
    if not script.repository:
        return _stored_script(script, work / "code")
    where = git.remote(script.repository, configuration, environ)
    environment = git.environment(where, environ, work)
    commit, mirror = _fetched(script, where, work, cache, environment, programs, tell)
    root = work / "code"
    _check_out(mirror, where, commit, root, environment, programs)
    _submodules(root, environment, programs, tell)
    if script.diff.strip():
        _apply(script.diff, root, mirror, environment, programs, tell)
    return Checkout(root, commit, script.branch)


def _fetched(
    script: Script,
    where: git.Remote,
    work: Path,
    cache: Path | None,
    environment: dict[str, str],
    programs: Programs,
    tell: Tell,
) -> tuple[str, Mirror]:
    folder = cache / "repositories" if cache else work / "repositories"
    mirror = Mirror(where, folder, environment, programs, tell)
    try:
        return _resolve(script, mirror), mirror
    except OSError as error:
        if cache is None:
            raise RepositoryError(f"the work folder cannot hold the repository: {error}") from error
        tell(f"the cache cannot be written ({error.strerror}): fetching for this pod alone")
        own = Mirror(where, work / "repositories", environment, programs, tell)
        return _resolve(script, own), own


def _resolve(script: Script, mirror: Mirror) -> str:
    branch = git.reference(script.branch.removeprefix("origin/"), "branch") if script.branch else ""
    if script.commit:
        return mirror.have_commit(git.reference(script.commit, "commit"), branch)
    if script.tag:
        return mirror.have_reference(git.reference(script.tag, "tag"))
    return mirror.have_reference(branch or "HEAD")


def _check_out(
    mirror: Mirror, where: git.Remote, commit: str, root: Path, environment: dict[str, str], programs: Programs
) -> None:
    folder = root / ".git"
    for part in ("objects/info", "refs/heads", "refs/remotes"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "objects" / "info" / "alternates").write_text(f"{mirror.path.resolve() / 'objects'}\n")
    (folder / "HEAD").write_text(f"{commit}\n")
    (folder / "config").write_text(_CONFIG.format(url=where.url.replace("\\", "\\\\").replace('"', '\\"')))
    if shallow := mirror.shallow_file():
        (folder / "shallow").write_bytes(shallow)
    try:
        programs.run(["git", "-C", root, "reset", "--quiet", "--hard", commit], environ=environment)
    except CommandFailed as failed:
        raise RepositoryError(
            f"commit {commit} of {where.url} could not be checked out: {failed}",
            hint="is the disk full, or git-lfs missing in the image?",
            last_lines=failed.last_lines,
        ) from failed


def _submodules(root: Path, environment: dict[str, str], programs: Programs, tell: Tell) -> None:
    if not (root / ".gitmodules").is_file():
        return
    tell("fetching submodules")
    try:
        programs.run(
            ["git", "-C", root, "submodule", "--quiet", "update", "--init", "--recursive"],
            environ=environment,
            seconds=1800,
        )
    except CommandFailed as failed:
        raise RepositoryError(
            f"the submodules could not be fetched: {failed.last_lines[-1] if failed.last_lines else failed}",
            hint="submodules need credentials of their own when they lie on another host",
            last_lines=failed.last_lines,
        ) from failed


def _apply(diff: str, root: Path, mirror: Mirror, environment: dict[str, str], programs: Programs, tell: Tell) -> None:
    """Apply the uncommitted changes; merge three-way where the plain way fails.

    A three-way merge wants the file as the changes' author had it, which a shallow mirror may lack: then the history
    is fetched first.
    """
    patch = diff.encode("utf-8", "surrogateescape")
    if not patch.endswith(b"\n"):
        patch += b"\n"
    _make_inserted_files(diff, root)
    # --unidiff-zero as clearml-agent: `clearml-task` inserts its Task.init call by a hunk without context.
    command: list[str | Path] = ["git", "-C", root, "apply", "--whitespace=nowarn", "--unidiff-zero"]
    try:
        programs.run([*command, "-"], environ=environment, stdin=patch)
        return
    except CommandFailed as plain:
        first = plain
    if (root / ".git" / "shallow").exists():
        with contextlib.suppress(RepositoryError, OSError):
            mirror.have_history()
            (root / ".git" / "shallow").unlink()
    try:
        programs.run([*command, "--3way", "-"], environ=environment, stdin=patch)
        tell("the uncommitted changes were merged three-way")
    except CommandFailed:
        files = ", ".join(dict.fromkeys(re.findall(r"error: (?:patch failed: )?([^\s:]+)", first.output))) or "it"
        raise RepositoryError(
            f"the task's uncommitted changes do not apply to its commit: {files}",
            hint="commit and push the changes, or run the task again from the author's machine",
            last_lines=first.last_lines,
        ) from None


def _make_inserted_files(diff: str, root: Path) -> None:
    """`clearml-task` adds a line to requirements.txt as if the file were there: where it is not, make it, empty."""
    for name in re.findall(r"^--- a/(\S+)\n\+\+\+ b/\1\n@@ -0,0 ", diff, re.M):
        file = Path(os.path.normpath(root / name))
        if root in file.parents and ".git" not in file.parts and not file.parent.is_symlink() and file.parent.is_dir():
            file.touch(exist_ok=True)


def _stored_script(script: Script, folder: Path) -> Checkout:
    """The task has no repository: its `diff` is the whole script."""
    folder.mkdir(parents=True, exist_ok=True)
    if not script.diff:
        return Checkout(folder)
    name = (script.entry_point.split() or ["untitled.py"])[0]
    if script.entry_point.startswith("-"):
        name = "untitled.py"
    file = folder / Path(name).name
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(script.diff.encode("utf-8", "surrogateescape"))
    return Checkout(folder, script=file)
