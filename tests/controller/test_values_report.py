"""`podstrap check --values`: every key of a values file gets its verdict, its line and a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from controller.values_chart import TOP_CHART
from controller.values_report import KeyReport, report, understood
from protocol.errors import ConfigError

VALUES = Path(__file__).parents[2] / "charts" / "podstrap" / "values.yaml"
CHART = """\
global:
  imageRegistry: "docker.io"
imageCredentials:
  enabled: false
clearml:
  agentk8sglueKey: "key"
  agentk8sglueSecret: "hunter2"
agentk8sglue:
  image:
    repository: "somebody/agent"
  replicaCount: 1
  resources: {}
  initContainers:
    resources: {}
  clearmlcheckCertificate: true
  apiServerUrlReference: "https://api.example.org"
  fileServerUrlReference: "https://files.example.org"
  webServerUrlReference: "https://app.example.org"
  defaultContainerImage: ubuntu:24.04
  queue: default
  createQueueIfNotExists: false
  extraEnvs: []
  volumes: []
  fileMounts: []
  basePodTemplate:
    labels: {}
    initContainers: []
    schedulerName: ""
    fileMounts: []
    env:
      - {name: CLEARML_AGENT_GIT_USER, value: me}
    resources:
      limits:
        nvidia.com/gpu: 1
    priorityClassName: ""
    tolerations: []
    affinity: {}
    hostAliases: []
sessions:
  portModeEnabled: false
"""


def rows_of(tmp_path: Path, text: str) -> dict[str, KeyReport]:
    (tmp_path / "values.yaml").write_text(text)
    rows = report(tmp_path / "values.yaml")
    assert [row.line for row in rows] == sorted(row.line for row in rows)
    return {row.key: row for row in rows}


def test_the_official_charts_values_are_understood_to_the_last_key(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, CHART)
    assert understood(rows.values())
    verdicts = {key.removeprefix("agentk8sglue."): row.verdict for key, row in rows.items()}
    assert verdicts == {
        "global.imageRegistry": "chart", "imageCredentials.enabled": "chart", "clearml.agentk8sglueKey": "chart",
        "clearml.agentk8sglueSecret": "chart", "image": "ignored",
        "replicaCount": "chart", "resources": "chart", "initContainers": "ignored", "extraEnvs": "chart",
        "clearmlcheckCertificate": "chart", "apiServerUrlReference": "used", "fileServerUrlReference": "used",
        "webServerUrlReference": "used", "defaultContainerImage": "used", "queue": "used",
        "createQueueIfNotExists": "used", "volumes": "chart", "fileMounts": "chart",
        "sessions.portModeEnabled": "ignored",
        **{f"basePodTemplate.{key}": "used" for key in (
            "labels", "initContainers", "schedulerName", "fileMounts", "env", "resources", "priorityClassName",
            "tolerations", "affinity", "hostAliases")},
    }  # fmt: skip
    assert all(row.explanation for row in rows.values())
    assert rows["sessions.portModeEnabled"].line == CHART.splitlines().index("sessions:") + 2
    assert "not offered" in rows["sessions.portModeEnabled"].explanation
    assert "hunter2" not in repr(rows)


def test_queues_of_the_enterprise_chart_are_used_key_by_key(tmp_path: Path) -> None:
    text = "agentk8sglue:\n  queues:\n    a.b:\n      templateOverrides:\n        nodeSelector: {x/y: z}\n"
    rows = rows_of(tmp_path, text + "      queueSettings: {maxPods: 3}\n    plain:\n")
    assert {key: (row.line, row.verdict) for key, row in rows.items()} == {
        "agentk8sglue.queues.a.b.templateOverrides.nodeSelector": (5, "used"),
        "agentk8sglue.queues.a.b.queueSettings": (6, "used"),
        "agentk8sglue.queues.plain": (7, "used"),
    }


@pytest.mark.parametrize(
    ("text", "key", "line", "verdict", "words"),
    [
        ("agentk8sglue:\n  basePodTemplat: {}", "agentk8sglue.basePodTemplat", 2, "unknown", "basePodTemplate"),
        ("agentk8sglue: {}\nsession: {}", "session", 2, "unknown", "sessions"),
        ("basePodTemplate:\n  nodeSelectr: {}", "basePodTemplate.nodeSelectr", 2, "unknown", "nodeSelector"),
        ("basePodTemplate:\n  env: {A: b}", "basePodTemplate.env", 2, "wrong", "a list is wanted"),
        ("basePodTemplate:\n  restartPolicy: Always", "basePodTemplate.restartPolicy", 2, "wrong", "podstrap's own"),
        ("queues:\n  a: {maxPod: 1}", "queues.a.maxPod", 2, "unknown", "there are templateOverrides"),
        ("queues:\n  a:\n    queueSettings: {maxPods: -1}", "queues.a.queueSettings.maxPods", 3, "wrong", "greater"),
        ("maxPods: lots", "maxPods", 1, "wrong", "whole number"),
        ("maxPods: 1\nmaxPods: 2", "maxPods", 2, "wrong", "stands twice"),
        ("agentk8sglue: 3", "agentk8sglue", 1, "wrong", "a mapping is wanted"),
        ("clearml:\n  agentk8sglueKeyy: a", "clearml.agentk8sglueKeyy", 2, "unknown", "did you mean agentk8sglueKey?"),
        ("podstrap:\n  metric: {}", "podstrap.metric", 2, "unknown", "did you mean metrics?"),
        ("imageCredentials: yes", "imageCredentials", 1, "wrong", "a mapping is wanted"),
    ],
)
def test_what_is_unknown_or_wrong_is_named(
    tmp_path: Path, text: str, key: str, line: int, verdict: str, words: str
) -> None:
    (tmp_path / "values.yaml").write_text(text)
    rows = report(tmp_path / "values.yaml")
    assert not understood(rows)
    (row,) = [row for row in rows if row.verdict in ("unknown", "wrong")]
    assert (row.key, row.line, row.verdict) == (key, line, verdict)
    assert words in row.explanation


def test_files_given_as_text_are_the_charts_and_in_settings_a_secret_is_named_instead(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "basePodTemplate:\n  fileMounts:\n    - {name: x, folderPath: /m, fileContent: y}\n")
    row = rows["basePodTemplate.fileMounts[0].fileContent"]
    assert (row.verdict, row.line) == ("wrong", 3)
    assert "secretName" in row.explanation
    named = rows_of(tmp_path, "basePodTemplate:\n  fileMounts:\n    - {name: x, folderPath: /m, secretName: y}\n")
    assert {row.verdict for row in named.values()} == {"used"}


def test_what_the_chart_makes_of_its_values_is_no_mistake(tmp_path: Path) -> None:
    file = "{name: x, folderPath: /mnt, fileContent: y}"
    text = "agentk8sglue:\n  queue: b,a\n  queues:\n    a:\n  instance: ''\n"
    text += f"  basePodTemplate:\n    fileMounts: [{file}]\n"
    text = text.replace("    a:\n", f"    a: {{templateOverrides: {{fileMounts: [{file}], nodeSelector: {{a: b}}}}}}\n")
    rows = rows_of(tmp_path, text)
    assert {key.removeprefix("agentk8sglue."): row.verdict for key, row in rows.items()} == {
        "queue": "chart", "instance": "used", "basePodTemplate.fileMounts": "chart",
        "queues.a.templateOverrides.fileMounts": "chart", "queues.a.templateOverrides.nodeSelector": "used",
    }  # fmt: skip


def test_the_charts_own_values_are_understood() -> None:
    rows = report(VALUES)
    assert understood(rows), [row for row in rows if row.verdict in ("unknown", "wrong")]


def test_every_key_of_the_charts_sections_is_explained() -> None:
    sections = yaml.safe_load(VALUES.read_text())
    assert {name: set(sections[name]) for name in TOP_CHART} == {name: set(keys) for name, keys in TOP_CHART.items()}


def test_each_key_of_the_sessions_is_named_as_not_honoured(tmp_path: Path) -> None:
    """All that the official chart 5.3 has."""
    keys = ("portModeEnabled: true", "svcAnnotations: {}", "svcType: NodePort", "externalIP: 0.0.0.0",
            "startingPort: 30000", "maxServices: 20")  # fmt: skip
    rows = rows_of(tmp_path, "sessions:\n" + "".join(f"  {key}\n" for key in keys) + "tcpProxy: {enabled: true}\n")
    wanted = {f"sessions.{key.partition(':')[0]}" for key in keys} | {"tcpProxy.enabled"}
    assert {key for key, row in rows.items() if row.verdict == "ignored"} == wanted == set(rows)


def test_our_own_settings_are_understood(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "maxPods: 10\nqueues: [a, b]\ncache:\n  volume: {emptyDir: {}}\n")
    assert {key: row.verdict for key, row in rows.items()} == {"maxPods": "used", "queues": "used", "cache": "used"}
    assert rows_of(tmp_path, "") == {}


@pytest.mark.parametrize("text", ["a: [", "- a", "text"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"values\.yaml"):
        rows_of(tmp_path, text)
