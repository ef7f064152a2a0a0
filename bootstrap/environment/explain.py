"""From an installer's many lines to the one sentence that a person can act on."""

from __future__ import annotations

import re

from bootstrap.commands import CommandFailed
from bootstrap.environment import index
from bootstrap.errors import EnvironmentBuildError

_DECORATION = re.compile(r"^[\s×╰─▶│├├─•✗]+|\x1b\[[0-9;]*m")


def error(what: str, failed: CommandFailed, words: str) -> EnvironmentBuildError:
    """Why an installer failed; `words` is all that it said, the log included."""
    trouble = index.is_trouble(words)
    where = index.place(words)
    if trouble:
        return EnvironmentBuildError(
            f"{what}: the network failed{f' ({where})' if where else ''}: {_summary(failed)}",
            hint="is the index reachable from this pod (UV_DEFAULT_INDEX, PIP_INDEX_URL, HTTPS_PROXY)?",
            last_lines=failed.last_lines,
            trouble=True,
        )
    at = f" ({where})" if where and re.search(r"\b40[13]\b", words) else ""
    return EnvironmentBuildError(
        f"{what}{at}: {_summary(failed)}",
        hint="is the name and version right, and does the index (UV_DEFAULT_INDEX, PIP_INDEX_URL) have it?",
        last_lines=failed.last_lines,
    )


def _summary(failed: CommandFailed) -> str:
    """The sentence that says why, out of an installer's many lines."""
    lines = [_DECORATION.sub("", line).strip() for line in failed.last_lines]
    start = next(
        (n for n, line in enumerate(lines) if line.startswith(("ERROR", "error", "No solution", "Because"))), 0
    )
    chosen = [line for line in lines[start : start + 6] if line and not line.startswith("[notice]")]
    return index.without_credentials(" ".join(chosen)[:400]) or str(failed)
