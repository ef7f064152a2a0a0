"""What can stop a run before or beside the task's own process. Each becomes the task's reason, word for word."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.errors import PodstrapError


class SetupError(PodstrapError):
    """The task could not be started; `phase` says where (repository, environment, entry point)."""

    phase = "setup"

    def __init__(self, message: str, *, hint: str = "", last_lines: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.last_lines = tuple(last_lines)
        """The failing command's last lines, for the console and the reason."""


class SetupScriptError(SetupError):
    """The task's own setup script failed."""

    phase = "setup script"


class RepositoryError(SetupError):
    """The code could not be had: clone, commit, diff."""

    phase = "repository"


class EnvironmentBuildError(SetupError):
    """The environment could not be built: interpreter, requirements, index."""

    phase = "environment"

    def __init__(self, message: str, *, hint: str = "", last_lines: Sequence[str] = (), trouble: bool = False) -> None:
        super().__init__(message, hint=hint, last_lines=last_lines)
        self.trouble = trouble
        """The network failed: another way may lead there."""


class EntryPointError(SetupError):
    """There is nothing to run as the task names it."""

    phase = "entry point"


class ClaimLost(PodstrapError):
    """Another pod runs the task, or it was reset, deleted or superseded: this pod leaves it alone and exits 0."""


class Cancelled(PodstrapError):
    """The run was stopped (abort, SIGTERM, claim lost) while a helper program ran."""
