"""A task's docker arguments, mapped to its pod: parsed against a table, never evaluated.

ClearML keeps them as one text, `-e NAME=value --memory 8g ...`, written by whoever made the task: untrusted. Each
known flag is mapped, ignored with a note, or refused; an unknown flag is refused, since nobody can know whether the
next word is its value. All refusals are collected, so that one look at the task tells them all.

Values of `-e` are not kept here: bootstrap reads them from the task, so that they stand in no manifest; and no
message repeats a word of the text that could be part of such a value.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from controller.docker_args_seen import Allowed, Flag, Refused, Seen
from controller.docker_args_table import FLAGS, SHORT

__all__ = ["Allowed", "Mapped", "parse"]

_MAX_LENGTH = 65536


@dataclass(frozen=True)
class Mapped:
    """What the arguments come to."""

    pod: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the pod's spec."""
    container: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the container, without resources."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """Resource name -> quantity that the task asks for."""
    variables: tuple[str, ...] = ()
    """Names of `-e` variables."""
    notes: tuple[str, ...] = ()
    """Flags that do nothing in a pod, with the reason."""
    refusals: tuple[str, ...] = ()
    """Flags that cannot or must not be obeyed, with the reason and what to do."""


def parse(arguments: str, allowed: Allowed | None = None) -> Mapped:
    """Map the arguments; whatever cannot be obeyed is in `refusals`."""
    return reduce(lambda _, step: step[1], _steps(arguments, allowed or Allowed()), Mapped())


def steps(arguments: str, allowed: Allowed | None = None) -> list[tuple[str, Mapped]]:
    """What the arguments come to after each flag, with the flag's name: to tell which of them gave what."""
    return [(name, deepcopy(mapped)) for name, mapped in _steps(arguments, allowed or Allowed())]


def _steps(arguments: str, allowed: Allowed) -> Iterator[tuple[str, Mapped]]:
    """After each flag; what is yielded is changed by the next one."""
    seen = Seen(allowed)
    refusals: list[str] = []
    for flag, value in _flags(arguments):
        name = ""
        if isinstance(flag, Refused):
            refusals.append(str(flag))
        else:
            name = flag.name
            try:
                flag.apply(seen, value)
            except Refused as refused:
                refusals.append(f"--{flag.name}: {refused}")
        yield (
            name,
            Mapped(seen.pod, seen.container, seen.limits, tuple(seen.variables), tuple(seen.notes), tuple(refusals)),
        )


def _flags(arguments: str) -> Iterator[tuple[Flag | Refused, str]]:
    """Each flag with its value; what cannot be understood as a Refused."""
    if len(arguments) > _MAX_LENGTH:
        yield Refused(f"the arguments are longer than {_MAX_LENGTH} characters"), ""
        return
    try:
        words = iter(list(enumerate(shlex.split(arguments), 1)))
    except ValueError as error:
        yield Refused(f"the arguments cannot be read ({str(error).lower()}); are the quotes balanced?"), ""
        return
    for place, word in words:
        if not word.startswith("-") or word in ("-", "--"):
            yield Refused(f"word {place} is no flag; is a value with a space in it without its quotes?"), ""
            return
        for flag, value in _split(word):
            if isinstance(flag, Refused):
                yield flag, ""
                return  # the next word may be its value or not
            if value is not None or not flag.takes_value:
                yield flag, value or ""
                continue
            _, following = next(words, (0, None))
            if following is None:
                yield Refused(f"--{flag.name} lacks its value"), ""
            else:
                yield flag, following


def _split(word: str) -> Iterator[tuple[Flag | Refused, str | None]]:
    """One word: `--a`, `--a=b`, `-a`, `-ab` (a takes a value), `-ab` (two without one), `-a=b`."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        yield FLAGS.get(name) or Refused(f"{_shown(name)} is not known; remove it from the task's container arguments, "
                                         "or say it in the queue's template"), value if equals else None  # fmt: skip
        return
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = FLAGS.get(SHORT.get(letter, ""))
        if flag is None:
            yield Refused(f"-{letter if letter.isalnum() else '?'} is not known"), None
            return
        if flag.takes_value:
            yield flag, letters.removeprefix("=") if letters else None
            return
        yield flag, None


def _shown(name: str) -> str:
    """A flag's name, unless it may be something else: a word out of a secret, say."""
    plain = len(name) <= 30 and name.replace("-", "").isalpha() and name.islower()
    return f"--{name}" if plain else "a flag"
