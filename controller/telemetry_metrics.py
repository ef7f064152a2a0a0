"""Every metric that the controller serves at /metrics: one table, from which the registry, docs/metrics.md and the
Grafana dashboard are made, so that none of them can name a metric that the others lack.

Names follow https://prometheus.io/docs/practices/naming/: seconds and bytes, `_total` for what only grows. No label
holds a task's, Job's or pod's name: the number of series grows with queues and with words that the code knows, never
with tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from controller.reasons import REASONS, Cause

Kind = Literal["gauge", "counter", "histogram", "info"]

QUICK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds that a request or a round takes."""
WAIT_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0)
"""Seconds that a task waits: from at once to half a day."""
PHASE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
"""Seconds of one step of a start: from a warm cache to a large image."""

ENTRY_STATES = ("starting", "waiting", "blocked")
"""Of a queue's entries, see podstrap_queue_entries."""
OUTCOMES = ("completed", "failed", "stopped", "disrupted", "claim-lost", "withdrawn")
"""How a Job ended for its task, in protocol/termination.py's words; withdrawn: its task went elsewhere before."""
LOSSES = tuple(word.value for word, about in REASONS.items() if about.cause is Cause.INFRASTRUCTURE)
"""Reasons for which the infrastructure loses pods."""
RELOADS = ("taken", "refused")
POD_SCHEDULED, POD_STARTED = "pod scheduled", "pod started"
"""Steps of a start as Kubernetes tells them; the others are bootstrap's (protocol/timeline)."""


@dataclass(frozen=True)
class Metric:
    """One family of series."""

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which Prometheus keeps it."""
        if self.kind == "histogram":
            return (f"{self.name}_bucket", f"{self.name}_count", f"{self.name}_sum")
        return (self.name,)


def _gauge(name: str, about: str, *labels: str) -> Metric:
    return Metric(f"podstrap_{name}", "gauge", about, labels)


def _counter(name: str, about: str, *labels: str) -> Metric:
    return Metric(f"podstrap_{name}_total", "counter", about, labels)


def _histogram(name: str, about: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(f"podstrap_{name}_seconds", "histogram", about, labels, buckets)


QUEUE_ENTRIES = _gauge(
    "queue_entries",
    "Entries of the queue, counted up to 10,000: `starting` (its Job lives and has not claimed it yet), `waiting` (it "
    "may get a Job), `blocked` (its Job cannot be made: a person must mend something). A queue that is deeper than "
    "what can be started is counted once in reconcileSeconds.",
    "queue", "state",
)  # fmt: skip
QUEUE_WAITING = _gauge(
    "queue_waiting", "Entries that were looked at and get no Job as things are, by the reason.", "queue", "reason"
)
QUEUE_OLDEST = _gauge(
    "queue_oldest_waiting_seconds",
    "Age of the oldest entry that has no Job, among those that were read; 0 when none waits.",
    "queue",
)
QUEUE_FREE = _gauge(
    "queue_places_free", "Pods that may still be made for the queue, both limits counted; +Inf: no limit.", "queue"
)
QUEUE_PAUSED = _gauge("queue_paused", "1 while the settings pause the queue.", "queue")
QUEUE_MISSING = _gauge("queue_missing", "1 while the ClearML server has no queue of this name or id.", "queue")
PLACES_FREE = _gauge("places_free", "Pods that may still be made over all queues; +Inf: no limit.")
JOBS = _gauge(
    "jobs", "Jobs by state: pending, running, stopping, succeeded, failed, stopped. Ended ones go after "
    "ttlSecondsAfterFinished.", "queue", "state",
)  # fmt: skip
JOBS_WAITING = _gauge("jobs_waiting", "Living Jobs whose pod does not start, by the reason.", "queue", "reason")
JOBS_UNSETTLED = _gauge("jobs_unsettled", "Jobs that are over while their task still needs something from us.")
TASKS_IN_DOUBT = _gauge("tasks_in_doubt", "Tasks in no queue that nobody runs: after a grace they are put back.")
LEADER = _gauge("leader", "1 while this controller leads, 0 while it stands by.")
LAST_SUCCESS = _gauge(
    "last_success_timestamp_seconds", "When this controller's last successful round ended; 0 before the first."
)
SETTINGS_GENERATION = _gauge(
    "settings_generation", "How many settings were taken over since the start, first included."
)
SETTINGS_LOADED = _gauge("settings_loaded_timestamp_seconds", "When the settings in force were taken over.")
SETTINGS_VALID = _gauge("settings_last_reload_successful", "0 while the settings file as it stands is refused.")
BUILD = Metric("podstrap_build_info", "gauge", "1; the labels say what runs.", ("version", "instance_name"))

JOBS_CREATED = _counter("jobs_created", "Jobs made.", "queue")
JOBS_ENDED = _counter(
    "jobs_ended", "Jobs that ended: how for their task (completed, failed, stopped, disrupted, claim-lost, withdrawn), "
    "whose fault it was (none, task, config, infrastructure), and the reason.",
    "queue", "outcome", "cause", "reason",
)  # fmt: skip
PODS_LOST = _counter(
    "pods_lost", "Pods that the infrastructure took away or broke, whether another attempt followed or not.",
    "queue", "reason",
)  # fmt: skip
ACTIONS = _counter(
    "actions", "What the rounds did, by kind: `done`, `refused` (the cluster does not take it) or `failed`.",
    "action", "result",
)  # fmt: skip
ROUND_FAILURES = _counter("round_failures", "Rounds that ended with an error, by its kind.", "error")
SETTINGS_RELOADS = _counter("settings_reloads", "Changed settings files: `taken` or `refused`.", "result")
CLEARML_REQUESTS = _counter(
    "clearml_requests", "Requests to the ClearML API by call and HTTP status; `unanswered`: nothing came back.",
    "call", "status",
)  # fmt: skip
KUBERNETES_REQUESTS = _counter(
    "kubernetes_requests", "Requests to the Kubernetes API; `unanswered`: nothing came back; `broken`: cut meanwhile.",
    "verb", "resource", "status",
)  # fmt: skip

DISPATCH = _histogram(
    "dispatch", "From a task's enqueueing to its Job: places that were taken meanwhile included. By the clocks of "
    "ClearML's server and the controller.", WAIT_BUCKETS, "queue",
)  # fmt: skip
CLAIM = _histogram(
    "claim", "From a task's enqueueing to its pod's claim. Seen once the task has printed its first line: within "
    "reconcileSeconds, or when the Job is over.", WAIT_BUCKETS, "queue",
)  # fmt: skip
STARTUP = _histogram(
    "startup", "Steps of a pod's start: `pod scheduled` (Job made to node chosen) and `pod started` (node chosen to "
    "container started: image pull, volumes) in whole seconds as Kubernetes tells them; the timeline's phases, "
    "of which `repository` and `environment` go on at the same time, as bootstrap measures them, seen as "
    "podstrap_claim_seconds is.", PHASE_BUCKETS, "queue", "phase",
)  # fmt: skip
ROUND = _histogram("round", "How long a round took: read, plan, act.", QUICK_BUCKETS)
CLEARML_SECONDS = _histogram("clearml_request", "Until a ClearML request was answered.", QUICK_BUCKETS, "call")
KUBERNETES_SECONDS = _histogram(
    "kubernetes_request", "Until a Kubernetes request was answered; a watch: until it began.", QUICK_BUCKETS,
    "verb", "resource",
)  # fmt: skip

SNAPSHOT = (
    QUEUE_ENTRIES, QUEUE_WAITING, QUEUE_OLDEST, QUEUE_FREE, QUEUE_PAUSED, QUEUE_MISSING, PLACES_FREE, JOBS,
    JOBS_WAITING, JOBS_UNSETTLED, TASKS_IN_DOUBT,
)  # fmt: skip
"""Read anew from what is at every round. Only the leader has them, so a sum over replicas counts nothing twice."""
OWN_STATE = (LEADER, LAST_SUCCESS, SETTINGS_GENERATION, SETTINGS_LOADED, SETTINGS_VALID, BUILD)
COUNTED = (
    JOBS_CREATED, JOBS_ENDED, PODS_LOST, ACTIONS, ROUND_FAILURES, SETTINGS_RELOADS, CLEARML_REQUESTS,
    KUBERNETES_REQUESTS, DISPATCH, CLAIM, STARTUP, ROUND, CLEARML_SECONDS, KUBERNETES_SECONDS,
)  # fmt: skip
"""Counters and histograms: they begin anew with the process, as Prometheus expects."""
METRICS = (*SNAPSHOT, *OWN_STATE, *COUNTED)
