"""/metrics: counts what the controller is told (observer.py) and what its two sessions report, for Prometheus.

Gauges are what the last round saw (telemetry_picture.py), so they are right from the first round after a restart;
counters begin anew with the process, as Prometheus expects. No request is made for a metric.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from controller import telemetry_metrics as m
from controller.actions import Action, CreateJob
from controller.observer import Observer
from controller.plan import Plan
from controller.settings import Settings
from controller.state import State
from controller.telemetry_changes import Changes
from controller.telemetry_picture import Numbers, picture, queue_names
from protocol import labels

disable_created_metrics()  # type: ignore[no-untyped-call]
# A counter's birth is a series of its own there; Prometheus tells a restart from the counter itself.


class Telemetry(Observer, Collector):
    """One for the life of a process. Told by the main thread and by watches, read by the server's threads."""

    def __init__(self, version: str, instance: str, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers: Numbers = {}
        self._changes = Changes()
        self._names: dict[str, str] = {}
        self._begun: set[str] = set()
        self.registry = CollectorRegistry()
        self._counters = {one: Counter(one.name, one.about, one.labels, registry=self.registry) for one in m.COUNTED
                          if one.kind == "counter"}  # fmt: skip
        self._histograms = {
            one: Histogram(one.name, one.about, one.labels, buckets=one.buckets, registry=self.registry)
            for one in m.COUNTED if one.kind == "histogram"
        }  # fmt: skip
        self._gauges = {one: Gauge(one.name, one.about, one.labels, registry=self.registry) for one in m.OWN_STATE}
        self._gauges[m.BUILD].labels(version, instance).set(1)
        self._gauges[m.SETTINGS_GENERATION].set(1)
        self._gauges[m.SETTINGS_LOADED].set(clock())
        self._gauges[m.SETTINGS_VALID].set(1)
        for word in m.RELOADS:
            self._counters[m.SETTINGS_RELOADS].labels(word)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """What /metrics answers, in the form that the scraper asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def describe(self) -> Iterator[Metric]:
        """The families of `collect`, so that the registry need not collect them to know them."""
        return (GaugeMetricFamily(one.name, one.about, labels=one.labels) for one in m.SNAPSHOT)

    def collect(self) -> Iterator[Metric]:
        """The last round's picture; nothing while this controller does not lead."""
        with self._lock:
            numbers = self._numbers
        for metric, series in numbers.items():
            family = GaugeMetricFamily(metric.name, metric.about, labels=metric.labels)
            for values, number in series.items():
                family.add_metric(values, number)
            yield family

    # Observer

    def leads(self, leading: bool) -> None:
        self._gauges[m.LEADER].set(leading)
        if not leading and self._numbers:
            self._show({})
            self._changes = Changes()

    def decided(self, state: State, settings: Settings, plan: Plan) -> None:
        self._names = queue_names(state)
        self._begin_at_zero(self._names.values())
        self._show(picture(state, settings, plan))
        for change in self._changes.seen(state):
            if change.seconds is None:
                self._counters[change.metric].labels(*change.labels).inc()
            else:
                self._histograms[change.metric].labels(*change.labels).observe(change.seconds)

    def acted(self, action: Action, result: str) -> None:
        self._counters[m.ACTIONS].labels(type(action).__name__, result).inc()
        if isinstance(action, CreateJob) and result == "done":
            queue = self._names.get(action.queue, "")
            self._counters[m.JOBS_CREATED].labels(queue).inc()
            added = int(action.manifest["metadata"].get("labels", {}).get(labels.ADDED) or 0)
            if added:
                self._histograms[m.DISPATCH].labels(queue).observe(max(0.0, self._clock() - added / 1000))

    def round_over(self, seconds: float, error: str = "") -> None:
        self._histograms[m.ROUND].observe(seconds)
        if error:
            self._counters[m.ROUND_FAILURES].labels(error).inc()
        else:
            self._gauges[m.LAST_SUCCESS].set(self._clock())

    def settings_taken(self, taken: bool) -> None:
        self._counters[m.SETTINGS_RELOADS].labels(m.RELOADS[not taken]).inc()
        self._gauges[m.SETTINGS_VALID].set(taken)
        if taken:
            self._gauges[m.SETTINGS_GENERATION].inc()
            self._gauges[m.SETTINGS_LOADED].set(self._clock())

    # Requests

    def clearml(self, call: str, status: str, seconds: float) -> None:
        """A request to the ClearML API is over (Session.on_request)."""
        self._counters[m.CLEARML_REQUESTS].labels(call, status).inc()
        self._histograms[m.CLEARML_SECONDS].labels(call).observe(seconds)

    def kubernetes(self, verb: str, resource: str, status: str, seconds: float) -> None:
        """A request to the Kubernetes API is over (Api.on_request)."""
        self._counters[m.KUBERNETES_REQUESTS].labels(verb, resource, status).inc()
        self._histograms[m.KUBERNETES_SECONDS].labels(verb, resource).observe(seconds)

    def _begin_at_zero(self, queues: Iterable[str]) -> None:
        """Series that Prometheus must see before the first event: it takes no increase from a counter's first value."""
        for queue in queues:
            if queue not in self._begun:
                self._begun.add(queue)
                self._counters[m.JOBS_CREATED].labels(queue)
                for word in m.LOSSES:
                    self._counters[m.PODS_LOST].labels(queue, word)

    def _show(self, numbers: Numbers) -> None:
        with self._lock:
            self._numbers = numbers
