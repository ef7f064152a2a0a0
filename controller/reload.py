"""The settings file of a controller that runs: looked at every few seconds, taken over between two rounds.

A file that cannot be used changes nothing: the settings that were taken last hold, and the reason is told once, on
/readyz and by `podstrap status`. A ConfigMap's file is swapped whole by a symbolic link, an editor may write in place:
so what is compared is content, and it must be the same at two looks before it counts.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from controller.settings import Settings
from controller.settings_file import Places
from protocol.errors import PodstrapError

log = logging.getLogger("podstrap.controller")

_LOOK_SECONDS = 1.0
_REASON_LENGTH = 1000
_FOR_A_RESTART = ("instance", "namespace")
"""What the Lease is named by and lies in: a controller that changed it would leave its replicas behind."""


class SettingsFiles:
    """The files that settings are made of, and the settings that hold. One thread."""

    def __init__(
        self,
        files: Iterable[Path],
        load: Callable[[], Settings],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`load` makes settings of the files as they are now, and raises PodstrapError where that cannot be done."""
        self._files = tuple(files)
        self._load = load
        self._monotonic = monotonic
        self._decided = self._seen = self._content()  # before it is read: what changes in between is seen at a look
        self.taken = load()
        self.trouble = ""
        """Why the files as they are now are not what holds; empty while they are."""
        self._next_look = float("-inf")

    def look(self, take: Callable[[Settings], None]) -> Settings | None:
        """New settings, after `take` has made ready for them; None while those that were taken hold.

        What `take` or the files refuse is looked at again: the reason may go without a change of the files.
        """
        if self._monotonic() < self._next_look:
            return None
        self._next_look = self._monotonic() + _LOOK_SECONDS
        content, before = self._content(), self._seen
        self._seen = content
        if content == self._decided:
            self._settle("")
            return None
        if content != before:
            return None  # it may be half written
        try:
            new = self._load()
            _check(self.taken, new)
            take(new)
        except PodstrapError as error:
            self._settle(str(error)[:_REASON_LENGTH])
            return None
        log.info("settings-taken changed=%s", ",".join(changed(self.taken, new)) or "nothing")
        self._decided, self.taken = content, new
        self.trouble = ""
        return new

    def places(self) -> Places | None:
        """Where the keys of the settings that hold stand in their file; None when it holds others, or there is none."""
        if self.trouble or not self._files:
            return None
        try:
            return Places.of(self._files[0])
        except PodstrapError:
            return None

    def _settle(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            log.error("settings-refused kept='those taken before' error=%r", trouble)
        elif self.trouble and not trouble:
            log.info("settings-as-before")
        self.trouble = trouble

    def _content(self) -> str:
        """Changes with the files' content; a file that cannot be read counts as one that holds its error."""
        found = hashlib.sha256()
        for file in self._files:
            try:
                one = hashlib.sha256(file.read_bytes()).digest()
            except OSError as error:
                one = hashlib.sha256(f"cannot be read: {error.errno}".encode()).digest()
            found.update(one)
        return found.hexdigest()


def changed(old: Settings, new: Settings) -> list[str]:
    """The file's keys whose values differ."""
    fields = Settings.model_fields.items()
    return [field.alias or name for name, field in fields if getattr(old, name) != getattr(new, name)]


class NeedsRestart(PodstrapError):
    """A change that a running controller cannot make."""


def _check(old: Settings, new: Settings) -> None:
    for name in _FOR_A_RESTART:
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            raise NeedsRestart(
                f"{name} has changed from {before} to {after}, which needs a restart of the controller",
                hint=f"restart it, or set {name} back; until then none of the file's changes is taken",
            )
