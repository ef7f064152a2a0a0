"""Which settings hold for which queue: a key of `queues` is a queue's name, its id, or a pattern such as `gpu-*`.

A name wins over an id, either wins over a pattern, and of two patterns the first in the file. Each queue has the
settings of one key; a pattern's hold for each of its queues alone (`maxPods` too), in the order of their names. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from clearml_api.models import Queue
from controller.settings import Settings
from controller.settings_queue import QueueSettings


def is_pattern(key: str) -> bool:
    """Whether a key has one of fnmatch's signs. A queue whose very name has one is found by its name all the same."""
    return any(sign in key for sign in "*?[")


def key_of(keys: Iterable[str], name: str, queue_id: str = "") -> str | None:
    """The key whose settings hold for a queue; None when none do."""
    found = list(keys)
    if name in found:
        return name
    if queue_id and queue_id in found:
        return queue_id
    return next((key for key in found if is_pattern(key) and fnmatchcase(name, key)), None)


def policy_of(settings: Settings, name: str, queue_id: str) -> QueueSettings:
    """The settings of a Job's queue; the defaults when they do not name it any more."""
    key = key_of(settings.queues, name, queue_id)
    return QueueSettings() if key is None else settings.queues[key]


def served(keys: Iterable[str], listing: Iterable[Queue]) -> list[tuple[str, Queue]]:
    """Each queue that has settings, with its key: in the order of the keys, by name within one."""
    order = list(keys)
    found = [(key, queue) for queue in listing if (key := key_of(order, queue.name, queue.id)) is not None]
    return sorted(found, key=lambda one: (order.index(one[0]), one[1].name))


def without_queue(keys: Iterable[str], listing: Iterable[Queue]) -> dict[str, str]:
    """The keys whose settings hold for no queue, each with the reason."""
    order, queues = list(keys), list(listing)
    used = {key for key, _ in served(order, queues)}
    ids = {queue.id: queue.name for queue in queues}
    return {key: _why(key, ids) for key in order if key not in used}


MISSING = "not on the server"


def _why(key: str, ids: dict[str, str]) -> str:
    if key in ids:
        return f"the same queue as {ids[key]!r}, whose settings hold"
    return "no queue of such a name that has no settings of its own" if is_pattern(key) else MISSING
