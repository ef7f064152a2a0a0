"""A repository of this pod's own at one commit, borrowing its objects from a mirror: only the files are written.

Where the cached mirror turns out damaged it is taken away and fetched anew, once. LFS objects are kept beside the
mirror's, so that they too come from the cache the next time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from bootstrap import bare, git
from bootstrap.commands import CommandFailed, Programs
from bootstrap.errors import RepositoryError
from bootstrap.git import Access
from bootstrap.mirror import Mirror
from bootstrap.prepared import Tell
from bootstrap.remote import Remote, reference, remote
from clearml_api.configuration import Configuration
from clearml_api.models import Script

_CHECK_OUT_SECONDS = 3600.0
"""LFS files are fetched meanwhile."""
_DAMAGED = re.compile(
    r"bad object|unable to (?:read|parse|unpack)|unable to find [0-9a-f]{40}|corrupt|object file .* is empty"
    r"|loose object|packfile .* (?:cannot|is|does)|not a git repository|missing (?:blob|tree|commit)"
    r"|bad (?:tree|commit) "
)


class Checkouts:
    """Makes checkouts for one task; knows its cache, its credentials and its work folder."""

    def __init__(
        self,
        *,
        work: Path,
        cache: Path | None,
        configuration: Configuration,
        environ: Mapping[str, str],
        programs: Programs,
        tell: Tell,
    ) -> None:
        self._own = work / "repositories"
        self._shared = cache / "repositories" if cache else None
        self._work = work
        self._configuration = configuration
        self._environ = environ
        self._programs = programs
        self._tell = tell

    def access(self, url: str) -> Access:
        """How a repository is reached. Raises RepositoryError."""
        where: Remote = remote(url, self._configuration, self._environ)
        if where.told:
            self._tell(where.told)
        try:
            return git.access(where, self._configuration, self._environ, self._work)
        except OSError as error:
            raise RepositoryError(f"the work folder {self._work} cannot be written: {error}") from error

    def at(self, script: Script, access: Access, root: Path) -> tuple[str, Mirror]:
        """Check out what the task names; the commit, and where its objects are. Raises RepositoryError."""

        def resolve(mirror: Mirror) -> str:
            branch = reference(script.branch.removeprefix("origin/"), "branch") if script.branch else ""
            if script.commit:
                return mirror.have_commit(reference(script.commit, "commit"), branch)
            if script.tag:
                return mirror.have_reference(reference(script.tag, "tag"), tag=True)
            return mirror.have_reference(branch or "HEAD")

        return self._at(Resolve(resolve), access, root)

    def submodule(self, url: str, commit: str, root: Path) -> Access:
        """Check out a submodule; how its remote is reached. Raises RepositoryError."""
        access = self.access(url)
        self._at(Resolve(lambda mirror: mirror.have_commit(commit)), access, root)
        return access

    def _at(self, resolve: Resolve, access: Access, root: Path) -> tuple[str, Mirror]:
        try:
            commit, mirror = self._mirrored(resolve, access)
            self._check_out(mirror, access, commit, root)
        except CommandFailed as failed:
            raise self._failed(failed, access) from failed
        except Damaged as damaged:
            self._tell(f"the cached mirror of {access.remote.url} is damaged: fetching it anew ({damaged})")
            try:
                commit, mirror = self._anew(resolve, access, damaged.mirror)
                self._check_out(mirror, access, commit, root)
            except (CommandFailed, Damaged) as failed:
                raise self._failed(failed, access) from failed
        return commit, mirror

    def _mirrored(self, resolve: Resolve, access: Access) -> tuple[str, Mirror]:
        """From the shared mirror; what that lacks and cannot be given, from one of this pod's own."""
        own = Mirror(access, self._own, self._programs, self._tell)
        try:
            if self._shared is None:
                return resolve(own), own
            shared = Mirror(access, self._shared, self._programs, self._tell)
            try:
                return resolve(shared), shared
            except OSError as error:
                self._tell(f"the cache cannot be written ({error.strerror or error}): fetching for this pod alone")
            if shared.path.is_dir():
                own.borrow_from(shared)
            return resolve(own), own
        except OSError as error:
            raise RepositoryError(
                f"the work folder cannot hold the repository: {error.strerror or error}", hint="is the disk full?"
            ) from error

    def _anew(self, resolve: Resolve, access: Access, damaged: Mirror) -> tuple[str, Mirror]:
        try:
            damaged.discard()
            return self._mirrored(resolve, access)
        except OSError:  # a cache that cannot be written: a mirror of our own that borrows nothing
            own = Mirror(access, self._own / "whole", self._programs, self._tell)
            return resolve(own), own

    def _check_out(self, mirror: Mirror, access: Access, commit: str, root: Path) -> None:
        lfs = mirror.path.resolve() / "lfs"
        writable = os.access(mirror.path, os.W_OK)
        try:
            bare.make_checkout(root, commit, access.remote.url, [mirror.path], lfs=lfs if writable else None)
            command = ["git", "-C", str(root), "reset", "--quiet", "--hard", commit]
            self._programs.run(command, environ=access.environ, seconds=_CHECK_OUT_SECONDS)
        except OSError as error:
            raise RepositoryError(
                f"the work folder cannot hold the checkout: {error.strerror or error}", hint="is the disk full?"
            ) from error
        except CommandFailed as failed:
            if _DAMAGED.search(failed.output) and "LFS" not in failed.output:
                raise Damaged(mirror, failed) from failed
            raise
        self._look_for_pointers(root)

    def _look_for_pointers(self, root: Path) -> None:
        attributes = root / ".gitattributes"
        if not attributes.is_file() or b"filter=lfs" not in attributes.read_bytes():
            return
        if not git.has_lfs(self._environ):
            self._tell("files of this repository are kept in Git LFS, and the image has no git-lfs: they are pointers")

    def _failed(self, failed: CommandFailed | Damaged, access: Access) -> RepositoryError:
        problem = failed.failed if isinstance(failed, Damaged) else failed
        said = next((line for line in problem.last_lines if line.startswith(("fatal:", "error:", "batch"))), "")
        return RepositoryError(
            f"{access.remote.url} could not be checked out: {said or problem}",
            hint="is the disk full, or are files missing on the LFS server?",
            last_lines=problem.last_lines,
        )


class Resolve:
    """What makes sure that a mirror holds the wanted commit. Raises Damaged where its objects cannot be read."""

    def __init__(self, resolve: Callable[[Mirror], str]) -> None:
        self._resolve = resolve

    def __call__(self, mirror: Mirror) -> str:
        before = mirror.path.is_dir()
        try:
            return self._resolve(mirror)
        except CommandFailed as failed:
            raise Damaged(mirror, failed) from failed
        except RepositoryError as error:
            output = "\n".join(error.last_lines)
            if before and _DAMAGED.search(output):
                raise Damaged(mirror, CommandFailed((), None, output)) from error
            raise


class Damaged(Exception):
    """A mirror's objects cannot be read."""

    def __init__(self, mirror: Mirror, failed: CommandFailed) -> None:
        super().__init__(failed.last_lines[-1] if failed.last_lines else str(failed))
        self.mirror = mirror
        self.failed = failed
