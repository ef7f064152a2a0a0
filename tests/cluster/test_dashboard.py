"""The dashboard: Prometheus parses each of its queries, and each names what the controller serves."""

from __future__ import annotations

import re

import pytest

from charts import dashboard
from controller.telemetry_metrics import METRICS
from tests.cluster.test_alerts import promtool

pytestmark = pytest.mark.cluster

LABELS = {name: metric.labels for metric in METRICS for name in metric.series}
OF_PROMETHEUS = {"namespace", "job", "pod", "instance", "le"}
_SELECTOR = re.compile(r"\b(podstrap_\w+)\{([^}]*)\}")
_BY = re.compile(r"\bby \(([^)]*)\)")


@pytest.mark.parametrize("query", dashboard.queries())
def test_a_query_parses_and_names_metrics_and_labels_that_exist(query: str) -> None:
    promtool("--experimental", "promql", "format", query.replace("$__rate_interval", "5m"))
    named = re.findall(r"\bpodstrap_\w+", query)
    assert named and set(named) <= set(LABELS)
    for name, inside in _SELECTOR.findall(query):
        chosen = set(re.findall(r"(\w+)(?:=~|!=|!~|=)", inside))
        grouped = {one.strip() for found in _BY.findall(query) for one in found.split(",")}
        assert (chosen | grouped) - OF_PROMETHEUS <= set(LABELS[name]), name


def test_every_metric_but_a_few_is_shown() -> None:
    shown = set(re.findall(r"\bpodstrap_\w+", " ".join(dashboard.queries())))
    hidden = {metric.name for metric in METRICS if not shown & set(metric.series)}
    assert hidden == {
        "podstrap_queue_places_free", "podstrap_queue_missing", "podstrap_jobs_created_total",
        "podstrap_settings_generation", "podstrap_settings_loaded_timestamp_seconds",
        "podstrap_settings_last_reload_successful", "podstrap_settings_reloads_total",
    }  # fmt: skip


def test_panels_do_not_overlap_and_stay_within_the_page() -> None:
    taken: set[tuple[int, int]] = set()
    panels = dashboard.dashboard()["panels"]
    assert len({one["id"] for one in panels}) == len(panels) > 20
    for one in panels:
        place = one["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, one["title"]
        taken |= cells
