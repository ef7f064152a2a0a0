"""What the preparing rooms hand to the running room: frozen facts, no behaviour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Tell = Callable[[str], None]
"""Shows the user one line in the task's console (no newline)."""


@dataclass(frozen=True)
class Checkout:
    """The task's code on disk."""

    root: Path
    """The repository's root, or the folder of the stored script."""
    commit: str = ""
    """The commit that was checked out, full length; empty without a repository."""
    branch: str = ""
    script: Path | None = None
    """The file written from the task's own text when it has no repository."""
    given: bool = False
    """The operator's own folder (CLEARML_AGENT_FORCE_CODE_DIR): the task's working folder does not count."""


@dataclass(frozen=True)
class TaskEnvironment:
    """The interpreter that runs the task, with its packages."""

    python: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    """Variables to set for the task (VIRTUAL_ENV, PATH, ...)."""
    installed: str = ""
    """What is installed, as `name==version` lines; empty when the task's own environment was not built by us."""
    from_cache: bool = False
    key: str = ""
    """The store's key of the environment."""


@dataclass(frozen=True)
class Launch:
    """The task's process: what to execute, where, with which variables added."""

    argv: tuple[str, ...]
    cwd: Path
    environ: Mapping[str, str] = field(default_factory=dict)
