"""Task.init() in the entry point's file: put there when CLEARML_AGENT_FORCE_TASK_INIT asks, and moved below
`from __future__` where `clearml-task` put it above. Python wants such an import first; so does clearml-agent 3.0.3.
"""

from __future__ import annotations

import ast
from pathlib import Path

from bootstrap.extra_packages import FORCE_TASK_INIT
from bootstrap.prepared import Tell

_LINES = ("from clearml import Task\n", '(__name__ != "__main__") or Task.init()\n')


def add(file: Path, tell: Tell) -> None:
    """Let the script register itself, unless it begins so already. A file that Python cannot read stays as it is."""
    lines = _lines(file)
    at = _last_future(lines) or _first_line(lines)
    if lines is not None and not _is_init(lines[at : at + 2]):
        _write(file, [*lines[:at], *_LINES, *lines[at:]])
        tell(f"Task.init() was added to {file.name} ({FORCE_TASK_INIT})")


def below_future(file: Path) -> None:
    """Move `clearml-task`'s two lines below the file's `from __future__` imports, where it has such."""
    lines = _lines(file)
    if lines and _is_init(lines[:2]) and (at := _last_future(lines)):
        _write(file, [*lines[2:at], *lines[:2], *lines[at:]])


def _lines(file: Path) -> list[str] | None:
    """A Python file's lines with their ends; None for what is none."""
    if file.suffix.lower() != ".py":
        return None
    try:
        text = file.read_bytes().decode("utf-8")
        ast.parse(text)
    except (OSError, ValueError, SyntaxError):
        return None
    return text.splitlines(keepends=True)


def _is_init(lines: list[str]) -> bool:
    return len(lines) == 2 and lines[0].startswith("from clearml ") and "Task.init" in lines[1]


def _write(file: Path, lines: list[str]) -> None:
    file.write_bytes("".join(lines).encode())


def _last_future(lines: list[str] | None) -> int:
    """The number of the last line of the last `from __future__` import; 0 without one."""
    body = ast.parse("".join(lines or ())).body
    ends = [node.end_lineno or 0 for node in body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    return max(ends, default=0)


def _first_line(lines: list[str] | None) -> int:
    """Below `#!` and the coding line: Python looks for them in the first two lines."""
    first = (lines or [])[:2]
    return next((number for number, line in enumerate(first) if not line.startswith("#")), len(first))
