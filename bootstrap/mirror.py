"""One bare mirror per repository in the cache: the objects that many tasks borrow.

`have` makes sure that a commit is there and fetches only when it is not: exactly that commit first, shallow, then,
where a server does not serve a bare commit, all branches and tags. Writers exclude each other by a file lock (where
locks fail they go without: git's own lock files keep the mirror whole). A cache that cannot be written serves what
it has; what it lacks is fetched into a mirror of this pod's own that borrows from it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from bootstrap.commands import CommandFailed, Programs
from bootstrap.errors import RepositoryError
from bootstrap.git import Remote
from bootstrap.prepared import Tell

_FULL = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_FETCH_SECONDS = 1800.0
_EVERYTHING = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")


class Mirror:
    """The mirror of one remote."""

    def __init__(self, where: Remote, folder: Path, environ: dict[str, str], programs: Programs, tell: Tell) -> None:
        self.path = folder / (hashlib.sha256(where.url.rstrip("/").encode()).hexdigest()[:32] + ".git")
        self._where = where
        self._environ = environ
        self._programs = programs
        self._tell = tell

    def have_commit(self, commit: str, branch: str) -> str:
        """Make sure that a commit (full or abbreviated) is in the mirror; its full name. Raises RepositoryError."""
        if found := self._known(commit):
            return found
        with self._locked():
            if found := self._known(commit):
                return found
            self._make()
            self._tell(f"fetching {commit[:12]} of {self._where.url}")
            if _FULL.fullmatch(commit) and self._fetched("--depth=1", commit) and (found := self._known(commit)):
                return found
            self._fetch_everything()
            if found := self._known(commit):
                return found
        on = f" (branch {branch})" if branch else ""
        raise RepositoryError(
            f"commit {commit} is not in repository {self._where.url}{on}",
            hint="was it pushed? a commit that only exists on the author's machine cannot be fetched",
        )

    def have_reference(self, name: str) -> str:
        """The commit at a branch's or tag's tip, or at the default branch's (`HEAD`), as the remote has it now."""
        with self._locked():
            self._make()
            label = "the default branch" if name == "HEAD" else name
            self._tell(f"fetching {label} of {self._where.url}")
            problem = self._fetch("--depth=1", name)
            if problem is None:
                return self._git("rev-parse", "--verify", "FETCH_HEAD^{commit}").strip()
            if "couldn't find remote ref" in problem.output.lower():
                raise RepositoryError(
                    f"branch or tag {name!r} is not in repository {self._where.url}",
                    hint="is the name right, and was it pushed?",
                    last_lines=problem.last_lines,
                )
            raise self._unreachable(problem)

    def have_history(self) -> None:
        """Fetch all branches and tags with their whole history. Raises RepositoryError."""
        with self._locked():
            self._fetch_everything()

    def shallow_file(self) -> bytes | None:
        """Git's list of commits whose parents are not here; a borrower needs a copy."""
        with contextlib.suppress(OSError):
            return (self.path / "shallow").read_bytes()
        return None

    def _known(self, commit: str) -> str:
        """The full name of a commit that is in the mirror; empty when it is not."""
        if not self.path.is_dir():
            return ""
        done = self._programs.run(
            [
                "git",
                "--git-dir",
                self.path,
                "rev-parse",
                "--verify",
                "--quiet",
                "--end-of-options",
                commit + "^{commit}",
            ],
            environ=self._environ,
            errors_apart=True,
            allowed=(0, 1, 128),
        )
        return done.output.strip() if done.code == 0 else ""

    def _make(self) -> None:
        if (self.path / "HEAD").is_file():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        made = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        self._programs.run(["git", "init", "--quiet", "--bare", made], environ=self._environ)
        with contextlib.suppress(OSError):  # somebody else was faster: theirs is as good
            made.rename(self.path)

    def _fetched(self, *words: str) -> bool:
        return self._fetch(*words) is None

    def _fetch(self, *words: str) -> CommandFailed | None:
        options = [word for word in words if word.startswith("--")]
        references = [word for word in words if not word.startswith("--")]
        command: list[str | Path] = [
            "git",
            "--git-dir",
            self.path,
            "fetch",
            "--quiet",
            "--no-tags",
            "--force",
            *options,
        ]
        try:
            self._programs.run(
                [*command, "--", self._where.url, *references], environ=self._environ, seconds=_FETCH_SECONDS
            )
        except CommandFailed as failed:
            return failed
        return None

    def _fetch_everything(self) -> None:
        whole = ("--unshallow",) if (self.path / "shallow").exists() else ()
        problem = self._fetch(*whole, *_EVERYTHING)
        if problem is not None:
            raise self._unreachable(problem)

    def _unreachable(self, problem: CommandFailed) -> RepositoryError:
        said = next(
            (line for line in reversed(problem.last_lines) if line.startswith(("fatal:", "error:", "remote:"))), ""
        )
        return RepositoryError(
            f"repository {self._where.url} could not be fetched: {said or problem}",
            hint="check the address and, for a private repository, CLEARML_AGENT_GIT_USER and CLEARML_AGENT_GIT_PASS "
            "or the SSH key",
            last_lines=problem.last_lines,
        )

    def _git(self, *words: str) -> str:
        return self._programs.run(["git", "--git-dir", self.path, *words], environ=self._environ).output

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        import fcntl

        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(self.path if self.path.exists() else self.path.parent, os.W_OK):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self.path))
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                lock = stack.enter_context(self.path.with_suffix(".lock").open("a"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
