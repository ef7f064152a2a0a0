"""Asks the cluster whether it would take what each template makes, before a task waits for the answer.

For each queue, and for each rule in the first queue that it can hold in, the Job of an invented task is tried (a
server-side dry run). What the cluster says is told with the place in the settings that gave the field. Nothing is
decided by it: a Job is refused, or not, when it is made, and its task then says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from clearml_api.models import Task
from controller import job_template, provenance
from controller.cluster.interface import Cluster, Refused
from controller.merge import name_of
from controller.provenance import Explained
from controller.settings import Settings
from controller.settings_file import Places
from controller.settings_yaml import Key, dotted
from controller.state import INIT_CONTAINER
from protocol.errors import ConfigError

TASK = "podstrap-probe"
"""The invented task's id."""
_QUEUE_ID = "0" * 32
_UNKNOWN_FIELD = re.compile(r'unknown field "([^"]+)"')
_WRONG_TYPE = re.compile(r"Go struct field [A-Za-z0-9_]+\.([A-Za-z0-9_.]+) of type")
_TOO_WIDE = ("spec.template.spec", "spec.template.metadata", "metadata", "spec")
_QUOTED = re.compile(r'"([^"]*)"')
_TOKEN = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


@dataclass(frozen=True)
class Probe:
    """One template to try."""

    queue_key: str
    rule: int | None
    task: Task = field(hash=False)

    def __str__(self) -> str:
        of_rule = "" if self.rule is None else f"rules[{self.rule}] in "
        return f"{of_rule}queue {self.queue_key}"


@dataclass(frozen=True)
class Finding:
    """One thing that the cluster, or the template itself, has against a probe's Job."""

    probe: str
    words: str
    """The server's own."""
    key: Key = ()
    """The settings' key that gave the field; empty where none did."""
    at: str = ""
    """`file:line:column` of it."""

    def __str__(self) -> str:
        place = f"{self.at}: " if self.at else ""
        key = f"{dotted(self.key)}: " if self.key else ""
        return f"{place}{key}{self.words} ({self.probe})"


def probes(settings: Settings) -> Iterator[Probe]:
    """One for each queue, then one for each rule that can hold."""
    for key in settings.queues:
        yield Probe(key, None, Task(id=TASK, name=TASK))
    for index, rule in enumerate(settings.rules):
        wanted, when = rule.when.queues, rule.when
        place = next((one for one in settings.queues if not wanted or _may_be(one, wanted)), None)
        if place is None:
            continue
        project, user = "".join(when.projects[:1]).rstrip("/"), "".join(when.users[:1])
        task = Task(
            id=TASK, name=TASK, type="".join(when.types[:1]), tags=when.tags[:1], project=project, project_name=project,
            user=user, user_name=user,
        )  # fmt: skip
        yield Probe(place, index, task)


def findings(settings: Settings, cluster: Cluster, now: datetime, places: Places | None = None) -> list[Finding]:
    """What the cluster has against the templates; nothing when it takes them all. Raises ClusterError when unknown.

    What a queue's template does wrong is not told again for a rule that is laid over it.
    """
    found: dict[tuple[str, Key], Finding] = {}
    for probe in probes(settings):
        for one in _of_probe(probe, settings, cluster, now, places):
            found.setdefault((one.words, one.key), one)
    return list(found.values())


def located(where: str, words: str, manifest: Mapping[str, Any], explained: Sequence[Explained]) -> Explained | None:
    """The value that gave a field that the server names (`spec.template.spec.containers[0].image`), or the nearest.

    Of several below the field, the one whose name or value the server repeats.
    """
    for path in _paths(where, manifest):
        if path in _TOO_WIDE:
            break
        near = [one for one in explained if one.path == path or one.path.startswith((f"{path}.", f"{path}["))]
        near = near or [one for one in explained if _without_items(one.path) == path]
        ours = [one for one in near if one.origin.who != "podstrap"] or near
        repeated = _QUOTED.findall(words)
        quoted = [one for one in ours if f"{one.value}" in repeated or one.path[len(path) + 1 :] in repeated]
        if ours:
            return (quoted or ours)[0]
    return None


def _of_probe(
    probe: Probe, settings: Settings, cluster: Cluster, now: datetime, places: Places | None
) -> Iterator[Finding]:
    queue, name = settings.queues[probe.queue_key], probe.queue_key
    try:
        manifest = job_template.render(
            probe.task, queue_id=_QUEUE_ID, queue_name=name, added=now, attempt=1, settings=settings, queue=queue,
            now=now, injections=(INIT_CONTAINER,),  # which every API server takes
        )  # fmt: skip
    except ConfigError as error:
        yield Finding(str(probe), str(error))
        return
    try:
        cluster.probe(manifest)
        return
    except Refused as error:
        refused = error
    explained = provenance.explain(
        manifest, probe.task, settings=settings, queue=queue, queue_key=probe.queue_key, queue_name=name
    )
    for where, words in causes_of(refused):
        one = located(where, words, manifest, explained) if where else None
        key = one.origin.key if one else ()
        yield Finding(str(probe), words, key, places.at(key) if places and key else "")


def causes_of(refused: Refused) -> list[tuple[str, str]]:
    """Field and words of each thing that is wrong."""
    text = str(refused).partition("\n")[0]
    found = [(where, f"{where}: {words}" if where else words) for where, words in refused.causes]
    unknown = [(where, f'unknown field "{where}"') for where in _UNKNOWN_FIELD.findall(text)]
    return unknown or [one for one in found if one[0]] or [("".join(_WRONG_TYPE.findall(text)[:1]), text)]


def _paths(where: str, manifest: Mapping[str, Any]) -> list[str]:
    """A field in our own words, items of lists by their merge keys; then each of those that it lies in."""
    path, found, value, name = "", [], manifest, ""
    node: Any = value
    for index, word in _TOKEN.findall(where):
        if index and isinstance(node, (list, tuple)) and index.isdecimal() and int(index) < len(node):
            item = node[int(index)]
            mark = name_of(name, item)
            path, node = f"{path}[{index if mark is None else mark}]", item
        else:
            name = index or word
            path, node = f"{path}.{name}" if path else name, node.get(name) if isinstance(node, Mapping) else None
        found.append(path)
    return found[::-1]


def _without_items(path: str) -> str:
    return re.sub(r"\[[^\]]*\]", "", path)


def _may_be(key: str, wanted: Sequence[str]) -> bool:
    """Whether the queues of a key may be among those that a rule names."""
    return any(key == one or fnmatchcase(key, one) or fnmatchcase(one, key) for one in wanted)
