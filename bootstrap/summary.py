"""A run in a few figures: one line at the end of the console, and the task's user properties."""

from __future__ import annotations

import resource
import signal
from dataclasses import dataclass

from protocol import exit_codes

_KIB = 1024


@dataclass(frozen=True)
class Summary:
    """Seconds, bytes and codes; None where there is nothing to tell (the task's process was never started)."""

    attempt: int
    setup_seconds: float
    run_seconds: float | None = None
    return_code: int | None = None
    """As subprocess gives it: -N for a process that signal N ended."""
    peak_memory_bytes: int = 0
    peak_gpu_memory_mib: float = 0.0
    gpu_errors: int = 0

    def sentence(self) -> str:
        """For a person."""
        parts = [f"setup {self.setup_seconds:.2f} s"]
        if self.run_seconds is not None:
            parts.append(f"run {self.run_seconds:.2f} s")
        if self.return_code is not None:
            by = f" ({self.signal_name})" if self.signal_name else ""
            parts.append(f"exit code {exit_codes.of_process(self.return_code)}{by}")
        if self.peak_memory_bytes:
            parts.append(f"peak memory {self.peak_memory_bytes / 2**20:.0f} MiB")
        if self.peak_gpu_memory_mib:
            parts.append(f"peak GPU memory {self.peak_gpu_memory_mib:.0f} MiB")
        if self.gpu_errors:
            parts.append(f"{self.gpu_errors} GPU error{'s' if self.gpu_errors > 1 else ''}")
        return ", ".join(parts)

    def properties(self) -> dict[str, str]:
        """For the task's user properties."""
        found = {"podstrap_attempt": str(self.attempt), "podstrap_setup_seconds": f"{self.setup_seconds:.2f}"}
        if self.run_seconds is not None:
            found["podstrap_run_seconds"] = f"{self.run_seconds:.2f}"
        if self.return_code is not None:
            found["podstrap_exit_code"] = str(exit_codes.of_process(self.return_code))
        if self.signal_name:
            found["podstrap_signal"] = self.signal_name
        found.update(peak_property(self.peak_memory_bytes))
        if self.peak_gpu_memory_mib:
            found["podstrap_peak_gpu_memory_mib"] = f"{self.peak_gpu_memory_mib:.0f}"
        if self.gpu_errors:
            found["podstrap_gpu_errors"] = str(self.gpu_errors)
        return found

    @property
    def signal_name(self) -> str:
        """SIGKILL and its like; empty for a process that exited."""
        if self.return_code is None or self.return_code >= 0:
            return ""
        try:
            return signal.Signals(-self.return_code).name
        except ValueError:
            return f"signal {-self.return_code}"


def peak_property(memory_bytes: int) -> dict[str, str]:
    """The peak alone: also told while the task runs, for the pod that the kernel takes whole."""
    return {"podstrap_peak_memory_mib": f"{memory_bytes / 2**20:.0f}"} if memory_bytes else {}


class LargestChild:
    """The most memory that one process of the task's held, exact where samples are ten seconds apart.

    The kernel keeps it over all children that were waited for, the helpers of the setup among them, and counts what
    a child shared with us before its exec (getrusage(2)): only what exceeds both is the task's.
    """

    def __init__(self) -> None:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._before = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)

    def peak_bytes(self) -> int:
        """After the task's process was waited for; 0 when it cannot be told from the others."""
        found = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        return found * _KIB if found > self._before else 0
