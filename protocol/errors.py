"""The base of every error a person may meet.

A message says what failed, on which input, why, and what to try; whoever catches a `PodstrapError` at the edge
prints `str(error)` and nothing else. Errors that are bugs of ours stay ordinary Python exceptions.
"""

from __future__ import annotations


class PodstrapError(Exception):
    """Something failed that a person can act on."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  try: {self.hint}" if self.hint else self.message


class ConfigError(PodstrapError):
    """Configuration or settings that cannot be used as they stand."""
