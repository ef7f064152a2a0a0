"""What the controller writes on a Job for the next controller to read: what it has told, and why it stopped the Job.

Both are annotations, so a restart repeats nothing that was told, and a Job that was stopped for a reason keeps that
reason until its task is settled. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from controller.reasons import Diagnosis, Reason

if TYPE_CHECKING:
    from controller.state import JobFacts

TELL_EVERY = timedelta(minutes=1)
"""A task's console gets at most one line about a pod in this time."""
_KEPT = 1000
"""Characters of a sentence that an annotation keeps."""


@dataclass(frozen=True)
class Note:
    """The reason that was told last."""

    word: Reason
    reason: str
    pod: str
    """The pod it was about; empty when there was none."""
    since: datetime
    """Since when this reason, or another of its family, has held for this pod without a break."""
    at: datetime
    """When it was told."""

    def to_text(self) -> str:
        """The annotation's value."""
        shortened = {"reason": self.reason[:_KEPT], "since": self.since.isoformat(), "at": self.at.isoformat()}
        return _dump({**asdict(self), **shortened})

    @classmethod
    def from_text(cls, text: str | None) -> Note | None:
        """The note in an annotation; None when there is none or it is not ours to understand."""
        try:
            raw = _load(text)
            times = datetime.fromisoformat(raw["since"]), datetime.fromisoformat(raw["at"])
            return cls(Reason(raw["word"]), str(raw["reason"]), str(raw["pod"]), *(_aware(one) for one in times))
        except (ValueError, KeyError, TypeError):
            return None

    def says(self, found: Diagnosis, pod: str) -> bool:
        """Whether this is told already: numbers in the sentence may have changed since ("0/5 nodes", "0/6 nodes")."""
        return (self.word, self.pod, shape(self.reason)) == (found.word, pod, shape(found.reason))


@dataclass(frozen=True)
class StopMark:
    """Why we stopped a Job: what its task fails with, or is run again for."""

    word: Reason
    reason: str
    pod: str = ""
    """The pod that had not started; empty when there was none."""
    holder: str = ""
    """The pod of this Job that held the claim then; another one means that a pod started after all."""
    at: datetime | None = None
    """When: the pause before the next attempt counts from then."""

    @property
    def diagnosis(self) -> Diagnosis:
        return Diagnosis(self.word, self.reason)

    def to_text(self) -> str:
        """The annotation's value."""
        at = self.at.isoformat() if self.at else ""
        return _dump({**asdict(self), "reason": self.reason[:_KEPT], "at": at})

    @classmethod
    def from_text(cls, text: str | None) -> StopMark | None:
        """The mark in an annotation; None when there is none or it is not ours to understand."""
        try:
            raw = _load(text)
            at = _aware(datetime.fromisoformat(raw["at"])) if raw.get("at") else None
            return cls(Reason(raw["word"]), str(raw["reason"]), str(raw.get("pod", "")), str(raw.get("holder", "")), at)
        except (ValueError, KeyError, TypeError):
            return None


def note_of(job: JobFacts, found: Diagnosis, now: datetime) -> Note | None:
    """What there is to be told about a Job: None when it was told, or when a line was told less than a minute ago.

    The minute is each pod's: a new pod's reason begins anew.
    """
    pod = job.last_pod.name if job.last_pod and job.last_pod.may_act else ""
    told = job.told
    if told is None:
        return Note(found.word, found.reason, pod, now, now)
    if told.says(found, pod):
        return None
    if told.pod == pod and now - told.at < TELL_EVERY and told.word is not Reason.STARTED:
        return None
    since = told.since if told.pod == pod and family(told.word) == family(found.word) else now
    return Note(found.word, found.reason, pod, since, now)


def family(word: Reason) -> str:
    """Reasons that take turns for one cause count as one: how long an image has not been pulled."""
    return "image" if word.value.startswith("Image") else word.value


def shape(text: str) -> str:
    """A sentence without its numbers, and without what the kubelet adds when it backs off."""
    return re.sub(r"\d+", "#", text)[:_KEPT]


def _dump(raw: Mapping[str, Any]) -> str:
    return json.dumps(raw, separators=(",", ":"), ensure_ascii=False)


def _load(text: str | None) -> Mapping[str, Any]:
    raw = json.loads(text or "")
    if not isinstance(raw, dict):
        raise TypeError("a mapping is wanted")
    return raw


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
