"""The controller's life: rounds until it is stopped, or, draining, until there is nothing left to do.

A round comes after `pollSeconds`, earlier when something changed in the cluster (a pod ended) or when there was more
to make than fits one round, and later, ever more slowly, while the server or the cluster does not answer. Only the
leader makes rounds; whoever comes to lead starts with no memory, from what is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from clearml_api.session import Session
from controller.cluster.interface import Cluster, ClusterError
from controller.health import Health
from controller.leader import NAMESPACES, NOTE, Alone, Leadership
from controller.loop import Loop, Round
from controller.observer import NOBODY, Observer
from controller.permissions import namespaces
from controller.plan_queues import MAX_NEW_JOBS
from controller.probing import Probing
from controller.reload import SettingsFiles
from controller.settings import Settings
from protocol import exit_codes
from protocol.errors import PodstrapError

log = logging.getLogger("podstrap.controller")

_SLICE_SECONDS = 0.25
"""A stop is seen this soon."""
_SHORTEST_SECONDS = 0.02
_LONGEST_OUTAGE_PAUSE_SECONDS = 10.0
_REASON_LENGTH = 300


def run_controller(
    settings: Settings,
    session: Session,
    cluster: Cluster,
    *,
    drain: bool = False,
    timeout: float | None = None,
    fail_on_task_failure: bool = False,
    stop: threading.Event,
    leadership: Leadership | None = None,
    health: Health | None = None,
    observer: Observer = NOBODY,
    files: SettingsFiles | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> int:
    """Serve until `stop` is set; with `drain` until queues are empty and Jobs settled. The exit code.

    Draining: 0 done; 1 a task failed and `fail_on_task_failure`, or tasks are left whose Job cannot be made;
    4 (DRAIN_TIMEOUT) after `timeout` seconds; 130 stopped before it was done. `files`: the settings as they change.
    """
    leadership = leadership or Alone()
    health = health or Health(monotonic)
    names = ",".join(settings.queues)
    log.info("started instance=%s server=%s queues=%s", settings.instance, session.configuration.api_host, names)
    end = monotonic() + timeout if drain and timeout is not None else float("inf")
    outage = _Outage()
    loop: Loop | None = None
    probing = Probing(cluster, monotonic)
    failed: set[str] = set()
    try:
        while not stop.is_set():
            health.turn()
            begun = monotonic()
            if begun >= end:
                log.error("drain-timeout seconds=%s", timeout)
                return exit_codes.DRAIN_TIMEOUT
            if files is not None and (new := _reload(files, cluster, observer)) is not None:
                settings = new
                if loop is not None:
                    loop.take(settings)
            leads = leadership.wait(_SLICE_SECONDS)
            observer.leads(leads)
            if not leads:
                loop = None
                health.ready(leadership.trouble)
                continue
            if loop is None:
                _cover_inherited(cluster, leadership)
                probing = Probing(cluster, monotonic)
                may_act = _may_act(leadership, stop)
                loop = Loop(
                    settings, session, cluster, monotonic=monotonic, may_act=may_act, failed=failed, observer=observer
                )
            probing.see_to(settings, files.places if files else lambda: None)
            _tell(files.trouble if files else "", probing.found, leadership, health)
            done = _round(loop, outage)
            health.ready(outage.why)
            if done is not None:
                leadership.say(NAMESPACES, ",".join(sorted({*namespaces(settings), *done.namespaces})))
            if drain and done is not None and done.drained:
                return _drained(loop, done, fail_on_task_failure=fail_on_task_failure)
            if done is not None and (done.created >= MAX_NEW_JOBS or done.refused):
                continue
            pause = outage.pause(settings.poll_seconds) if done is None else settings.poll_seconds
            _sleep(cluster, stop, begun, min(begun + pause, end), monotonic, by_time=done is None)
    finally:
        leadership.release()
    log.info("stopped")
    return exit_codes.INTERRUPTED if drain else exit_codes.OK


def _reload(files: SettingsFiles, cluster: Cluster, observer: Observer) -> Settings | None:
    """Settings of files that have changed and can be used."""
    before = files.trouble
    new = files.look(lambda one: cluster.cover(namespaces(one)))
    if new is not None or files.trouble != before:
        observer.settings_taken(not files.trouble)
    return new


def _tell(trouble: str, refused: str, leadership: Leadership, health: Health) -> None:
    """On the Lease and beside /readyz: what is wrong with the settings."""
    kept = f"the settings file cannot be used as it is now, the settings before hold: {trouble}" if trouble else ""
    text = "\n".join(filter(None, (kept, refused)))
    leadership.say(NOTE, text)
    health.note(text)


def _cover_inherited(cluster: Cluster, leadership: Leadership) -> None:
    """Namespaces that the settings name no more may hold Jobs of ours: one that is not seen would be taken for gone,
    and its task started twice."""
    for namespace in filter(None, leadership.said(NAMESPACES).split(",")):
        try:
            cluster.cover([namespace])
        except ClusterError as error:
            log.warning("namespace-not-seen namespace=%s error=%r", namespace, str(error))


def _may_act(leadership: Leadership, stop: threading.Event) -> Callable[[], bool]:
    return lambda: leadership.leading and not stop.is_set()


class _Outage:
    """One line when it begins, one when its reason changes, one when it is over; longer pauses while it lasts."""

    def __init__(self) -> None:
        self._said = ""
        self._failures = 0
        self.why = ""
        """The last round's error; empty when there was none."""
        self.kind = ""
        """The name of its class."""

    def failed(self, error: PodstrapError) -> None:
        self._failures += 1
        self.why = str(error)[:_REASON_LENGTH]
        self.kind = type(error).__name__
        if self._said != self.kind:
            log.warning("round-failed error=%r", str(error))
        self._said = self.kind

    def over(self) -> None:
        if self._said:
            log.info("answers-again failed_rounds=%d", self._failures)
        self._said, self._failures, self.why, self.kind = "", 0, "", ""

    def pause(self, poll_seconds: float) -> float:
        doubled = poll_seconds * 2.0 ** min(self._failures - 1, 10)
        return max(poll_seconds, min(doubled, _LONGEST_OUTAGE_PAUSE_SECONDS))


def _round(loop: Loop, outage: _Outage) -> Round | None:
    began = loop.monotonic()
    try:
        done = loop.round()
    except PodstrapError as error:
        outage.failed(error)
        loop.observer.round_over(loop.monotonic() - began, outage.kind)
        return None
    outage.over()
    loop.observer.round_over(loop.monotonic() - began)
    return done


def _drained(loop: Loop, done: Round, *, fail_on_task_failure: bool) -> int:
    log.info("drained failed_tasks=%d stuck=%d", len(loop.failed), done.stuck)
    if done.stuck:
        log.error("tasks-left count=%d why='their Jobs cannot be made: see status_message on each'", done.stuck)
        return exit_codes.FAILED
    return exit_codes.FAILED if fail_on_task_failure and loop.failed else exit_codes.OK


def _sleep(
    cluster: Cluster,
    stop: threading.Event,
    begun: float,
    until: float,
    monotonic: Callable[[], float],
    *,
    by_time: bool,
) -> None:
    """Until `until`, or a change in the cluster; never less than the round itself took (half the time is rest)."""
    took = monotonic() - begun
    if stop.wait(max(_SHORTEST_SECONDS, min(took, _SLICE_SECONDS))):
        return
    while not stop.is_set() and (left := until - monotonic()) > 0:
        if by_time:
            stop.wait(min(left, _SLICE_SECONDS))
        elif cluster.wait(min(left, _SLICE_SECONDS)):
            return
