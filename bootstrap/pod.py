"""The parts of one run, put together in run.py and handed to whoever needs several of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bootstrap.commands import Programs
from bootstrap.console import Console
from bootstrap.last_words import LastWords
from bootstrap.reporter import Reporter
from bootstrap.settings import PodSettings
from bootstrap.signals import Termination, Wake
from bootstrap.timeline import Timeline
from clearml_api.configuration import Configuration
from clearml_api.session import Session


@dataclass(frozen=True)
class Pod:
    """What one run is made of."""

    settings: PodSettings
    configuration: Configuration
    environ: Mapping[str, str]
    session: Session
    console: Console
    reporter: Reporter
    programs: Programs
    mask: Callable[[str], str]
    """Takes known secrets out of a text."""
    hide: Callable[[Iterable[str]], None]
    """Makes these secrets known from now on."""
    words: LastWords
    timeline: Timeline
    terminated: Termination
    """SIGTERM came: the infrastructure takes the pod."""
    wake: Wake
    died: list[str]
    """Threads of ours that ended by an error that is a bug of ours."""
