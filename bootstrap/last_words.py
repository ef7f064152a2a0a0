"""The container's termination message: written at each phase, so that it is there when nothing else can be said."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import replace
from pathlib import Path

from bootstrap.outcome import Ending
from bootstrap.settings import PodSettings
from protocol.termination import Outcome, TerminationMessage


class LastWords:
    """The one message of this pod, kept up to date in its file. A file that cannot be written is no reason to stop."""

    def __init__(self, settings: PodSettings) -> None:
        self._file = settings.termination_log
        self._lock = threading.Lock()
        self._message = TerminationMessage(
            outcome=Outcome.RUNNING,
            task=settings.task,
            job_uid=settings.job_uid,
            attempt=settings.attempt,
            phase="claim",
        )
        self._write()

    def phase(self, name: str, attempt: int) -> None:
        """A checkpoint: what was going on if this is the last that is heard."""
        self._change(phase=name, attempt=attempt)

    def peak(self, memory_bytes: int) -> None:
        """The most memory seen so far."""
        self._change(peak_memory_bytes=memory_bytes)

    def end(self, ending: Ending, *, reported: bool) -> None:
        """The outcome, and whether the server knows it."""
        self._change(
            outcome=ending.outcome,
            phase=ending.phase,
            reason=ending.message or ending.reason,
            exit_code=ending.exit_code,
            reported=reported,
        )

    def _change(self, **fields: object) -> None:
        with self._lock:
            self._message = replace(self._message, **fields)  # type: ignore[arg-type]
            self._write()

    def _write(self) -> None:
        data = self._message.to_text().encode()
        with contextlib.suppress(OSError):
            # In place: Kubernetes bind-mounts this one file, so it cannot be replaced by a rename.
            descriptor = os.open(Path(self._file), os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.pwrite(descriptor, data, 0)
                os.ftruncate(descriptor, len(data))
            finally:
                os.close(descriptor)
