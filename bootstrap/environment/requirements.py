"""What the task wants installed, as text. On the warm path nothing is parsed: the text itself is the key.

ClearML's order: the task's own requirements (a text or a list of lines; the SDK writes comment lines above them),
else the repository's requirements.txt, else nothing. Lines that name a file on the author's machine are left out,
and a line tells so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bootstrap.prepared import Checkout, Tell
from clearml_api.models import Script

_LOCAL_FILE = re.compile(r"@\s*file://(/[^\s;#]*)")
_RELATIVE = re.compile(r"^\s*(-r|-c|-e|--requirement|--constraint|--editable|\.|\./|\.\./)(\s|=|/|$|\[)")
_REMOTE_EDITABLE = re.compile(r"^\s*(-e|--editable)[\s=]+(git|hg|svn|bzr)\+")


@dataclass(frozen=True)
class Requirements:
    """Lines to install, and where relative ones are read from."""

    text: str
    source: str
    """`task` or the repository's file."""
    folder: Path | None = None
    """The checkout, when a line needs it."""
    commit: str = ""

    @property
    def key(self) -> str:
        """What the environment depends on."""
        return f"{self.text}\n#{self.commit if self.folder else ''}"


def collect(script: Script, checkout: Callable[[], Checkout], tell: Tell) -> Requirements:
    """The requirements of a task; waits for the checkout only when they need it."""
    own = script.requirements.get("pip")
    if own is not None:
        lines = _usable(_lines(own), tell)
        text = "\n".join(lines)
        if any(_needs_checkout(line) for line in lines):
            code = checkout()
            return Requirements(text, "task", code.root, code.commit)
        return Requirements(text, "task")
    if not script.repository:
        return Requirements("", "none")
    code = checkout()
    folder = (code.root / (script.working_dir or ".")).resolve()
    for file in (folder / "requirements.txt", code.root / "requirements.txt"):
        if file.is_file():
            lines = _usable(_lines(file.read_text("utf-8", "replace")), tell)
            relative = any(_needs_checkout(line) for line in lines)
            name = str(file.relative_to(code.root.resolve()))
            return Requirements("\n".join(lines), name, file.parent if relative else None, code.commit)
    return Requirements("", "none")


def _lines(value: object) -> list[str]:
    """The lines that are not blank or comment, from a text or a list."""
    raw = "\n".join(str(item) for item in value) if isinstance(value, (list, tuple)) else str(value)
    return [line.strip() for line in raw.splitlines() if line.strip() and not line.strip().startswith("#")]


def _needs_checkout(line: str) -> bool:
    return bool(_RELATIVE.match(line)) and not _REMOTE_EDITABLE.match(line)


def _usable(lines: list[str], tell: Tell) -> list[str]:
    kept = []
    for line in lines:
        local = _LOCAL_FILE.search(line)
        if local and not Path(local[1]).exists():
            tell(f"left out {line.split('@')[0].strip()}: it names a file on another machine ({local[1]})")
            continue
        kept.append(line)
    return kept
