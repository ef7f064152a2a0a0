"""Who is told what the controller does. This one forgets it; telemetry.py counts it.

Nothing here decides anything: a controller with metrics does what one without them does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controller.actions import Action
    from controller.plan import Plan
    from controller.settings import Settings
    from controller.state import State


class Observer:
    """Each method is called by the controller's main thread, at once after what it tells of."""

    def leads(self, leading: bool) -> None:
        """Whether this controller leads, as of now."""

    def decided(self, state: State, settings: Settings, plan: Plan) -> None:
        """A round has read what is and decided what to do."""

    def acted(self, action: Action, result: str) -> None:
        """An action was performed (`done`), not taken by the cluster (`refused`) or not possible (`failed`)."""

    def round_over(self, seconds: float, error: str = "") -> None:
        """A round ended, with an error of this kind when it did not succeed."""

    def settings_taken(self, taken: bool) -> None:
        """A changed settings file was taken over, or refused."""


NOBODY = Observer()
