"""What only Events tell: why a Job has no pod, and why a pod that has a node does not get so far as to pull its image.

Asked for few Jobs at a time and seldom, because a cluster that is slow is not to be made slower.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import msgspec

from controller.cluster.interface import ClusterError
from controller.cluster.kube_objects import Incident, Page
from controller.cluster.kubernetes import Api, events_path
from controller.state import JobFacts, PodFacts
from controller.waiting import EVENTS_OF_PODS, STARTING

log = logging.getLogger("podstrap.controller")

_NO_POD_SECONDS = 3.0
"""A Job that has no pod for so long is asked for its Events."""
_STUCK_SECONDS = 10.0
"""So is a pod whose container has not begun, and nobody says why, for so long after it was made."""
_AGAIN_SECONDS = 15.0
_AT_ONCE = 3
"""Objects that are asked for their Events in one look."""
_STALE = timedelta(seconds=150)
"""A kubelet tries a volume again every two minutes at most: an Event that is older has been mended."""
_FAILED_CREATE = "FailedCreate"


class Explainer:
    """One for a cluster; `look` begins a snapshot."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._asked: dict[str, tuple[float, Incident | None]] = {}
        """Uid of a Job or pod -> when it was asked (monotonic seconds), and the answer."""
        self._left = _AT_ONCE

    def look(self) -> None:
        """The next `_AT_ONCE` questions may be asked."""
        self._left = _AT_ONCE

    def explained(self, job: JobFacts) -> JobFacts:
        """The Job with what its Events say, where nothing else tells why it does not run."""
        if job.over or job.stopped or job.deleting:
            self._asked.pop(job.uid, None)
            return job
        pod = job.last_pod
        if pod is not None and pod.may_act:
            self._asked.pop(job.uid, None)
            return self._stuck(job, pod)
        if job.pods_expected or not _older(job.created, _NO_POD_SECONDS):
            return job
        found = self._ask(job.namespace, job.uid, f"reason={_FAILED_CREATE}")
        return replace(job, no_pod_why=found.message.removeprefix("Error creating: ")) if found else job

    def _stuck(self, job: JobFacts, pod: PodFacts) -> JobFacts:
        stuck = pod.phase == "Pending" and pod.node and pod.waiting_reason in STARTING and not pod.deleting
        if not stuck or not _older(pod.created, _STUCK_SECONDS):
            self._asked.pop(pod.uid, None)
            return job
        found = self._ask(pod.namespace, pod.uid, "type=Warning")
        if found is None or found.reason not in EVENTS_OF_PODS:
            return job
        told = replace(pod, waiting_reason=found.reason, waiting_message=found.message)
        return replace(job, pods=(*job.pods[:-1], told))

    def _ask(self, namespace: str, uid: str, selector: str) -> Incident | None:
        at, known = self._asked.get(uid, (float("-inf"), None))
        if self._left <= 0 or time.monotonic() - at <= _AGAIN_SECONDS:
            return known
        self._left -= 1
        query = {"fieldSelector": f"involvedObject.uid={uid},{selector}", "limit": 50}
        try:
            raw = self._api.request("GET", events_path(namespace), query, read_seconds=5.0)
            found = msgspec.json.decode(raw, type=Page[Incident]).items
            known = max((one for one in found if not _stale(one)), key=_last, default=None)
        except ClusterError as error:
            log.debug("no-events uid=%s error=%r", uid, str(error))
        self._asked[uid] = (time.monotonic(), known)
        return known


def _older(moment: datetime | None, seconds: float) -> bool:
    return moment is not None and datetime.now(timezone.utc) - moment >= timedelta(seconds=seconds)


def _last(one: Incident) -> datetime:
    return one.lastTimestamp or one.eventTime or datetime.min.replace(tzinfo=timezone.utc)


def _stale(one: Incident) -> bool:
    return one.reason in EVENTS_OF_PODS and datetime.now(timezone.utc) - _last(one) > _STALE
