"""The alert rules, by Prometheus' own promtool: well formed, firing when they should, quiet when they should."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.telemetry_metrics import METRICS
from tests.cluster import tools
from tests.cluster.chart import CHART
from tests.support import REPOSITORY_ROOT

pytestmark = pytest.mark.cluster

FILE = CHART / "files" / "alerts.yaml"
RULES = {one["alert"]: one for one in yaml.safe_load(FILE.read_text())["groups"][0]["rules"]}
STORIES = yaml.safe_load(Path(__file__).with_name("alerts.yaml").read_text())
PAGE = REPOSITORY_ROOT / "docs" / "alerts.md"
_OWN = 'namespace="n",job="j"'


def promtool(*words: str | Path) -> str:
    done = subprocess.run([tools.promtool(), *words], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_prometheus_takes_the_rules() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", "--lint-fatal", FILE)


def test_every_alert_has_a_story() -> None:
    assert set(STORIES) == set(RULES)
    assert all(story["quiet"] and story["fires"] for story in STORIES.values())


@pytest.mark.parametrize("name", STORIES)
def test_an_alert_fires_when_it_should_and_is_quiet_when_it_should(name: str, tmp_path: Path) -> None:
    story = STORIES[name]
    base = {"alertname": name, "alertstate": "firing", **RULES[name]["labels"]}
    own = {} if name == "PodstrapAbsent" else {"namespace": "n", "job": "j"}
    expected: dict[int, list[Any]] = {minute: [] for minute in story["quiet"]}
    for minute, labels in story["fires"].items():
        inside = ",".join(f'{key}="{value}"' for key, value in {**base, **own, **labels}.items())
        expected[minute] = [{"labels": f"ALERTS{{{inside}}}", "value": 1}]
    test = {
        "interval": "1m",
        "input_series": [
            {"series": series.replace("OWN", _OWN), "values": values} for series, values in story["series"].items()
        ],
        "promql_expr_test": [
            {
                "expr": f'ALERTS{{alertname="{name}",alertstate="firing"}}',
                "eval_time": f"{minute}m",
                "exp_samples": found,
            }
            for minute, found in expected.items()
        ],
    }
    file = tmp_path / "story.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(FILE)], "evaluation_interval": "1m", "tests": [test]}))
    assert "SUCCESS" in promtool("test", "rules", file)


def test_what_an_alert_says_is_filled_in(tmp_path: Path) -> None:
    """One with a number, a label and the page, word for word."""
    rule = RULES["PodstrapTasksWait"]
    description = rule["annotations"]["description"].replace("{{ $value | humanizeDuration }}", "22m 0s")
    annotations = {
        **rule["annotations"], "description": description, "summary": "Tasks of queue q wait while places are free.",
    }  # fmt: skip
    labels = {"namespace": "n", "job": "j", "queue": "q", "severity": "warning"}
    alert = {"exp_labels": labels, "exp_annotations": annotations}
    series = STORIES["PodstrapTasksWait"]["series"].items()
    test = {
        "input_series": [{"series": one.replace("OWN", _OWN), "values": values} for one, values in series],
        "alert_rule_test": [{"eval_time": "22m", "alertname": "PodstrapTasksWait", "exp_alerts": [alert]}],
    }
    file = tmp_path / "words.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(FILE)], "evaluation_interval": "1m", "tests": [test]}))
    promtool("test", "rules", file)


def test_alerts_name_metrics_that_exist() -> None:
    series = {name for metric in METRICS for name in metric.series}
    for rule in RULES.values():
        named = set(re.findall(r"\bpodstrap_\w+", rule["expr"]))
        assert named and named <= series, rule["alert"]


def test_the_page_says_for_each_what_it_means_and_what_to_do() -> None:
    text = PAGE.read_text()
    headings = re.findall(r"^## (\w+)$", text, re.M)
    assert headings == list(RULES), "in the rules' order"
    for name, rule in RULES.items():
        assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{name.lower()}"
