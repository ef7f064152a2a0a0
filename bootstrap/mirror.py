"""One bare mirror per repository in the cache: the objects that many tasks borrow.

`have_commit` makes sure that a commit is there and fetches only when it is not, by steps: exactly that commit,
shallow; where a server does not serve a bare commit, the reference that stands at it; then the task's branch with
its history; then everything. What was fetched gets a reference of its own, so that the next fetch brings only what is
new. (Filtered clones are not used: whoever borrows from one would have to fetch what it lacks by itself.)

A mirror is private unless its last fetch went without credentials (`podstrap-open` beside its HEAD): a private one
serves a task only after the remote accepted this task's credentials. Writers exclude each other by a file lock (where
locks fail they go without: git's own lock files keep the mirror whole). A cache that cannot be written serves what it
has; what it lacks is fetched into a mirror of this pod's own that borrows from it. So is what a mirror lacks that a
git which was killed left locked; after a minute its locks are swept away.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from bootstrap import bare
from bootstrap.commands import CommandFailed, Finished, Programs
from bootstrap.errors import RepositoryError
from bootstrap.git import Access
from bootstrap.prepared import Tell

FULL = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_FETCH_SECONDS = 1800.0
_ASK_SECONDS = 60.0
PAUSES = (1.0, 3.0)
"""Seconds before the second and the third try when the network is in trouble."""
_TROUBLE = re.compile(
    r"could not resolve|timed out|connection (?:reset|refused|closed)|early eof|unexpected disconnect|hung up"
    r"|returned error: (?:429|5\d\d)|HTTP (?:429|5\d\d)|too slow|temporary failure|network is unreachable"
    r"|TLS connection",
    re.I,
)
_LOCKED = re.compile(r"\.lock'?: File exists|cannot lock ref")
_STALE_SECONDS = 60.0
_OPEN = "podstrap-open"
_KEPT = "refs/podstrap/"
_EVERYTHING = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")


class Mirror:
    """The mirror of one remote."""

    def __init__(
        self, access: Access, folder: Path, programs: Programs, tell: Tell, *, pauses: tuple[float, ...] | None = None
    ) -> None:
        self.url = access.remote.url
        self.path = folder / (hashlib.sha256(self.url.rstrip("/").encode()).hexdigest()[:32] + ".git")
        self._access = access
        self._programs = programs
        self._tell = tell
        self._pauses = PAUSES if pauses is None else pauses

    def have_commit(self, commit: str, branch: str = "") -> str:
        """Make sure that a commit (full or abbreviated) is in the mirror; its full name. Raises RepositoryError."""
        if found := self._known(commit):
            self._must_be_ours()
            return found
        with self._locked():
            if found := self._known(commit):
                self._must_be_ours()
                return found
            bare.make(self.path, commit)
            self._tell(f"fetching {commit[:12]} of {self.url}")
            if found := self._by_steps(commit, branch):
                return found
        on = f" (branch {branch})" if branch else ""
        raise RepositoryError(
            f"commit {commit} is not in repository {self.url}{on}",
            hint="was it pushed? a commit that only exists on the author's machine cannot be fetched",
        )

    def have_reference(self, name: str, *, tag: bool = False) -> str:
        """The commit at a branch's or tag's tip, or at the default branch's (`HEAD`), as the remote has it now."""
        with self._locked():
            bare.make(self.path)
            label = "the default branch" if name == "HEAD" else name
            self._tell(f"fetching {label} of {self.url}")
            wanted = f"refs/tags/{name}" if tag else name
            problem = self._fetch(f"+{wanted}:{_KEPT}tips/{name}", "--depth=1")
            if problem and "shallow" in problem.output:
                problem = self._fetch(f"+{wanted}:{_KEPT}tips/{name}")
            if problem is None:
                return self._git("rev-parse", "--verify", f"{_KEPT}tips/{name}^{{commit}}").strip()
            if "couldn't find remote ref" in problem.output.lower():
                raise RepositoryError(
                    f"{'tag' if tag else 'branch or tag'} {name!r} is not in repository {self.url}",
                    hint="is the name right, and was it pushed?",
                    last_lines=problem.last_lines,
                )
            raise self._unreachable(problem)

    def have_history(self) -> None:
        """Fetch all branches and tags with their whole history. Raises RepositoryError."""
        with self._locked():
            self._fetch_everything()

    def borrow_from(self, other: Mirror) -> None:
        """Use another mirror's objects too."""
        bare.make(self.path)
        bare.borrow(self.path, [other.path])

    def discard(self) -> None:
        """Take a damaged mirror away. Raises OSError."""
        with self._locked():
            gone = self.path.with_name(f".{self.path.name}.damaged.{os.getpid()}")
            self.path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    # -- the steps

    def _by_steps(self, commit: str, branch: str) -> str:
        if FULL.fullmatch(commit) and self._fetch(f"+{commit}:{_KEPT}{commit}", "--depth=1") is None:
            return self._known(commit)
        if name := self._reference_at(commit):
            self._fetch(f"+{name}:{_KEPT}at/{commit}", "--depth=1")
            if found := self._known(commit):
                return found
        if branch:
            whole = ["--unshallow"] if (self.path / "shallow").exists() else []
            self._fetch(f"+refs/heads/{branch}:refs/heads/{branch}", *whole)
            if found := self._known(commit):
                return found
        self._fetch_everything()
        return self._known(commit)

    def _reference_at(self, commit: str) -> str:
        """A reference of the remote that stands at the commit: a branch, a tag, a pull request."""
        try:
            listed = self._ask("ls-remote", "--quiet", "--", self.url).output
        except CommandFailed as problem:
            raise self._unreachable(problem) from None
        for line in listed.splitlines():
            name, _, where = line.partition("\t")
            if name.startswith(commit) and where.startswith("refs/"):
                return where.removesuffix("^{}")
        return ""

    def _fetch_everything(self) -> None:
        whole = ("--unshallow",) if (self.path / "shallow").exists() else ()
        problem = self._fetch(*_EVERYTHING, *whole)
        if problem is not None:
            raise self._unreachable(problem)

    # -- git

    def _known(self, commit: str) -> str:
        """The full name of a commit that is in the mirror; empty when it is not."""
        if not self.path.is_dir():
            return ""
        wanted = f"{commit}^{{commit}}"
        done = self._programs.run(
            ["git", "--git-dir", self.path, "rev-parse", "--verify", "--quiet", wanted],
            environ=self._access.environ,
            errors_apart=True,
            allowed=(0, 1, 128),
        )
        return done.output.strip() if done.code == 0 else ""

    def _must_be_ours(self) -> None:
        """A private mirror serves only whom the remote lets in."""
        if (self.path / _OPEN).exists() or self._access.remote.local:
            return
        try:
            self._ask("ls-remote", "--quiet", "--", self.url, "HEAD")
        except CommandFailed as problem:
            raise self._unreachable(problem) from None

    def _ask(self, *words: str) -> Finished:
        return self._trying("git", *words, seconds=_ASK_SECONDS)

    def _fetch(self, *words: str) -> CommandFailed | None:
        """Fetch references (`words` without dashes); what went wrong, if anything did."""
        options = [word for word in words if word.startswith("--")]
        references = [word for word in words if not word.startswith("--")]
        command = ["git", "--git-dir", str(self.path), "fetch", "--quiet", "--no-tags"]
        bare.sweep(self.path, _STALE_SECONDS)
        mark = self.path / _OPEN
        was_open = mark.exists()
        mark.unlink(missing_ok=True)  # first: whatever dies from here on leaves a private mirror
        self._access.forget()
        try:
            self._trying(*command, "--force", *options, "--", self.url, *references, seconds=_FETCH_SECONDS)
        except CommandFailed as failed:
            if _LOCKED.search(failed.output):
                raise OSError(errno.EBUSY, "locked by a git that was killed") from failed
            if was_open and not self._fetched_anything(failed):
                mark.touch()
            return failed
        if self._access.was_open(self._programs):
            mark.touch()
        return None

    def _fetched_anything(self, failed: CommandFailed) -> bool:
        """Whether a failed fetch may have left objects behind."""
        return not re.search("remote ref|not our ref|unadvertised object", failed.output)

    def _trying(self, *command: str, seconds: float) -> Finished:
        """Run a command that talks to the remote; once more after a pause when the network is in trouble."""
        for pause in self._pauses:
            try:
                return self._programs.run(command, environ=self._access.environ, seconds=seconds)
            except CommandFailed as failed:
                if not _TROUBLE.search(failed.output):
                    raise
                self._tell(f"git has trouble with the network, trying again in {pause:g} s: {_said(failed)}")
                self._programs.pause(pause)
        return self._programs.run(command, environ=self._access.environ, seconds=seconds)

    def _git(self, *words: str) -> str:
        return self._programs.run(["git", "--git-dir", self.path, *words], environ=self._access.environ).output

    def _unreachable(self, problem: CommandFailed) -> RepositoryError:
        return RepositoryError(
            f"repository {self.url} could not be fetched: {_said(problem) or problem}",
            hint=_hint(problem.output),
            last_lines=problem.last_lines,
        )

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


def _said(problem: CommandFailed) -> str:
    """The one line of git's that says why."""
    lines = [line for line in problem.last_lines if not line.startswith(("hint:", "and the repository exists"))]
    told = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "Host key", "ssh:"))]
    told += [line for line in lines if "Permission denied" in line]
    told.sort(key=lambda line: line.startswith("fatal: Could not read from remote"))
    return told[0] if told else ""


def _hint(output: str) -> str:
    if "Host key verification failed" in output:
        return "the host is not in the known_hosts that is mounted in ~/.ssh, or its key changed"
    if "Permission denied" in output and "publickey" in output:
        return "mount the private key as a file in ~/.ssh, or give CLEARML_AGENT_GIT_USER and CLEARML_AGENT_GIT_PASS"
    if "No user exists for uid" in output:
        return "ssh needs an account for the pod's user in the image: use https with user and password"
    if "cannot run ssh" in output:
        return "the image has no ssh: use https with CLEARML_AGENT_GIT_USER and CLEARML_AGENT_GIT_PASS"
    if "certificate" in output:
        return "name the bundle of certificates by GIT_SSL_CAINFO or SSL_CERT_FILE"
    return (
        "check the address and, for a private repository, CLEARML_AGENT_GIT_USER and CLEARML_AGENT_GIT_PASS "
        "or the SSH key"
    )
