"""The task's uncommitted changes onto its checkout: the plain way, else merged three-way, else a clear failure.

The SDK stores `git diff --submodule=diff HEAD`, so changes inside a submodule stand in the same text. Applied the
plain way, all of it is files below one folder; where that fails, each repository's part is merged in its own
repository. A moved submodule (`+Subproject commit …`, a plain `git diff`) is checked out at its new commit.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from bootstrap.commands import CommandFailed, Programs
from bootstrap.errors import RepositoryError
from bootstrap.prepared import Tell

_SECTION = re.compile(r"^(?=diff --git |Submodule )", re.M)
_NAMES = re.compile(r'diff --git "?a/(?P<old>.*?)"? "?b/(?P<new>.*?)"?$', re.M)
_LINK = re.compile(r"^\+Subproject commit (?P<commit>[0-9a-f]+)(?P<dirty>-dirty)?$", re.M)
_NOT_THERE = re.compile(r"^Submodule (?P<path>.+?) [0-9a-f]+\.+[0-9a-f]+ \(commits not present\)", re.M)
_INSERTED = re.compile(r"^--- a/(\S+)\n\+\+\+ b/\1\n@@ -0,0 ", re.M)
_DIFF = re.compile(r"(?:diff |submodule |index: |--- )", re.I)
_TOO_LARGE = "# WARNING! git diff too large"
"""What the SDK stores instead; it goes on: 'clear this section to execute without it'."""
_SHOWN_LINES = 30


@dataclass(frozen=True)
class Part:
    """One repository's share of the changes."""

    root: Path
    strip: int
    """Leading components of the names in the patch."""
    patch: str


def is_diff(text: str) -> bool:
    """Whether a task's `diff` is one; else it is a whole script (clearml-agent's `is_literal_script`)."""
    return bool(_DIFF.match(text.lstrip())) or text.startswith(_TOO_LARGE)


class Changes:
    """The uncommitted changes of a task."""

    def __init__(self, diff: str, root: Path, environ: Mapping[str, str], programs: Programs, tell: Tell) -> None:
        self._diff = diff
        self._root = root
        self._environ = environ
        self._programs = programs
        self._tell = tell

    def apply(
        self, submodules: Collection[str], move: Callable[[str, str], None], have_history: Callable[[], None]
    ) -> None:
        """Apply them. Raises RepositoryError.

        `move(path, commit)` checks out another commit of a submodule. A three-way merge wants the files as their
        author had them, which a shallow mirror may lack: `have_history` fetches them.
        """
        if self._diff.startswith(_TOO_LARGE):
            raise RepositoryError(
                "the uncommitted changes were too large for the SDK to store, so they cannot be applied",
                hint="commit and push them, or clear the task's uncommitted changes to run without them",
            )
        diff = self._without_links(submodules, move)
        for match in _NOT_THERE.finditer(diff):
            self._tell(f"the task does not hold the uncommitted changes of submodule {match['path']}")
        if not diff.strip():
            return
        self._make_inserted_files(diff)
        first = self._tried(Part(self._root, 1, diff))
        if first is None:
            return
        parts = _parts(diff, self._root, submodules) if submodules else [Part(self._root, 1, diff)]
        for part in parts:
            self._merge(part, first, have_history)

    def _merge(self, part: Part, first: CommandFailed, have_history: Callable[[], None]) -> None:
        if len(part.patch) < len(self._diff) and self._tried(part) is None:
            return
        shallow = part.root / ".git" / "shallow"
        if part.root == self._root and shallow.exists():
            with contextlib.suppress(RepositoryError, OSError):
                have_history()
                shallow.unlink()
        if self._tried(part, "--3way") is None:
            self._tell("the uncommitted changes were merged three-way")
            return
        files = ", ".join(dict.fromkeys(re.findall(r"error: (?:patch failed: )?([^\s:]+)", first.output))) or "it"
        raise RepositoryError(
            f"the task's uncommitted changes do not apply to its commit: {files}",
            hint="commit and push the changes, or run the task again from the author's machine",
            last_lines=[*first.last_lines[:_SHOWN_LINES], *self._rejected(part)],
        )

    def _tried(self, part: Part, *options: str) -> CommandFailed | None:
        # --unidiff-zero as clearml-agent: `clearml-task` inserts its Task.init call by a hunk without context.
        # The last line may be an empty line of context that somebody stripped: one newline more does no harm.
        patch = part.patch.encode("utf-8", "surrogateescape")
        patch += b"\n" if patch.endswith(b"\n") else b"\n\n"
        command = ["git", "-C", str(part.root), "apply", "--whitespace=nowarn", "--unidiff-zero", f"-p{part.strip}"]
        try:
            self._programs.run([*command, *options, "-"], environ=self._environ, stdin=patch)
        except CommandFailed as failed:
            return failed
        return None

    def _rejected(self, part: Part) -> list[str]:
        """The hunks that do not fit. The checkout is lost anyway, so git may write them into it."""
        with contextlib.suppress(CommandFailed):  # the three-way merge left its marks
            self._programs.run(["git", "-C", part.root, "reset", "--quiet", "--hard"], environ=self._environ)
        self._tried(part, "--reject")
        lines: list[str] = []
        for name in dict.fromkeys(re.findall(r"^\+\+\+ b/([^\t\n]+)", part.patch, re.M)):
            rejected = part.root / Path(*Path(name).parts[part.strip - 1 :])
            with contextlib.suppress(OSError, ValueError):
                text = rejected.with_name(rejected.name + ".rej").read_text(errors="replace")
                lines += ["rejected:", *text.splitlines()]
        return lines[:_SHOWN_LINES]

    def _without_links(self, submodules: Collection[str], move: Callable[[str, str], None]) -> str:
        """The changes without those of the submodules' commits, which are followed here."""
        if "Subproject commit" not in self._diff:
            return self._diff
        kept = []
        for section in _SECTION.split(self._diff):
            link, names = _LINK.search(section), _NAMES.match(section)
            if not (link and names and (names["new"] in submodules or "160000" in section)):
                kept.append(section)
                continue
            if names["new"] not in submodules:
                self._tell(f"the submodule {names['new']} is new in the uncommitted changes: it is not fetched")
                continue
            if link["dirty"]:
                self._tell(f"the task does not hold the uncommitted changes of submodule {names['new']}")
            move(names["new"], link["commit"])
        return "".join(kept)

    def _make_inserted_files(self, diff: str) -> None:
        """`clearml-task` adds a line to requirements.txt as if the file were there: where it is not, make it, empty."""
        root = self._root
        for name in _INSERTED.findall(diff):
            file = Path(os.path.normpath(root / name))
            inside = root in file.parents and ".git" not in file.parts
            if inside and not file.parent.is_symlink() and file.parent.is_dir():
                file.touch(exist_ok=True)


def _parts(diff: str, root: Path, submodules: Collection[str]) -> list[Part]:
    """The changes by repository: each file's belong to the innermost submodule that holds it."""
    texts: dict[str, list[str]] = {}
    for section in _SECTION.split(diff):
        names = _NAMES.match(section)
        name = names["new"] if names else ""
        holders = [path for path in submodules if name.startswith(f"{path}/")]
        texts.setdefault(max(holders, key=len, default=""), []).append(section if names else "")
    return [
        Part(root / path, 1 + (len(Path(path).parts) if path else 0), "".join(sections))
        for path, sections in texts.items()
        if any(sections)
    ]
