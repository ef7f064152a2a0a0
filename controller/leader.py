"""Who acts, when several controllers of one instance run: one leads, the others wait.

Leading is a courtesy between controllers, no lock: whoever has just lost it may still finish a request. What keeps a
second writer harmless is that every action reads before it writes (acting.py).
"""

from __future__ import annotations

from typing import Protocol

NOTE = "note"
"""Word: why the settings that hold are not those of the file."""
NAMESPACES = "namespaces"
"""Word: where this instance makes Jobs or has some, separated by commas."""


class Leadership(Protocol):
    """Asked before every round and every action."""

    @property
    def leading(self) -> bool:
        """Whether this controller may act now."""
        ...

    @property
    def trouble(self) -> str:
        """Why nobody can say who leads; empty while somebody can."""
        ...

    def wait(self, seconds: float) -> bool:
        """Up to `seconds` for the lead; whether we have it."""
        ...

    def say(self, key: str, text: str) -> None:
        """Leave word where the next leader and `podstrap status` find it, as soon as that goes."""
        ...

    def said(self, key: str) -> str:
        """The word that was left last, by whichever leader; empty for none."""
        ...

    def release(self) -> None:
        """Give the lead away at once, for a stop. Idempotent."""
        ...


class Alone:
    """There is no other: one controller on one machine."""

    leading = True
    trouble = ""

    def wait(self, seconds: float) -> bool:  # noqa: ARG002
        """At once."""
        return True

    def say(self, key: str, text: str) -> None:
        """Nobody asks: the log has it."""

    def said(self, key: str) -> str:  # noqa: ARG002
        """Nothing."""
        return ""

    def release(self) -> None:
        """Nothing to give."""
