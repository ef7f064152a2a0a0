"""What the node did before bootstrap ran, read from the files that it made for this pod.

A pod may not ask Kubernetes, and Kubernetes' own times are whole seconds. But a kubelet and its runtime leave files
whose times tell the same, to the millisecond and for no request (decision 8):

    work folder           its emptyDir is made when the pod has reached its node: scheduled
    /etc/resolv.conf      written when the pod's sandbox and network are made
    .copied.json          left by the init container that copied our folder, where one did
    the termination log   made for each container when its image is there and it is about to be created

A file that is none of this pod's (this machine's own, in the local cluster) is older than the folder: it is left out,
and its phase is a part of the next one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from protocol import timeline
from protocol.folder import COPIED, HOME

RESOLV_CONF = Path("/etc/resolv.conf")


@dataclass(frozen=True)
class Places:
    """Where the node's files are."""

    work: Path
    termination_log: Path
    resolv_conf: Path = RESOLV_CONF
    folder: Path = HOME


def phases(places: Places, created: float, started: float) -> Iterator[tuple[str, float]]:
    """Each phase with its seconds, from the Job's creation to our exec (both seconds since the epoch).

    Read it before anything is written. With no file to be trusted the whole time is `pod`. The controller's clock made
    `created`, the node's the rest: where they differ only the first phase is wrong, and never below zero.
    """
    node = _changed(places.work)
    if node is None or node > started:
        yield timeline.POD, max(0.0, started - created)
        return
    yield timeline.SCHEDULED, max(0.0, node - created)
    copy_began, copy_ended = _copied(places.folder)
    before = node
    for name, at in (
        (timeline.SANDBOX, _changed(places.resolv_conf)),
        (timeline.BOOTSTRAP_IMAGE, copy_began),
        (timeline.COPY, copy_ended),
        (timeline.IMAGE, _changed(places.termination_log)),
        (timeline.CONTAINER, started),
    ):
        if at is not None and before <= at <= started:
            yield name, at - before
            before = at


def _copied(folder: Path) -> tuple[float | None, float | None]:
    """When the copy began and ended; None where nothing was copied."""
    ended = _changed(folder / COPIED)
    if ended is None:
        return None, None
    try:
        return ended - float(json.loads((folder / COPIED).read_text())["seconds"]), ended
    except (OSError, ValueError, KeyError, TypeError):
        return None, ended


def _changed(path: Path) -> float | None:
    """Its last change, seconds since the epoch; None when it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None
