"""The settings file: every error with its line and column, all at once; its JSON Schema is the published one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from controller.settings_file import json_schema, load, load_text
from protocol.errors import ConfigError

SCHEMA = Path(__file__).parents[2] / "docs" / "settings.schema.json"
BAD = """\
agentk8sglue:
  queues:
    example.queue_1:
      templateOverrides:
        nodeSelectr:
          nvidia.com/gpu.product: A100
        env:
          - {name: A, value: 1}
          - {name: PODSTRAP_TASK_ID, value: "x"}
        command: [a]
      queueSettings: {maxPod: 2}
    b: {maxAttempts: 0}
    b: {}
  maxPods: true
  pollSecnds: 1
  replicaCount: 2
  apiServerUrlReference: "https://u:hunter2@h"
extra: 1
"""


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "s.yaml")
    return str(caught.value)


def test_every_error_is_told_at_once_with_line_column_key_and_the_nearest_known_one() -> None:
    lines = refusal(BAD).splitlines()
    queue = "queues.example.queue_1"
    wanted = [
        ("s.yaml:13:5: agentk8sglue.queues.b:", "stands twice"),
        ("s.yaml:18:1: extra:", "only the chart reads"),
        (f"s.yaml:5:9: {queue}.templateOverrides.nodeSelectr:", "did you mean nodeSelector?"),
        (f"s.yaml:8:23: {queue}.templateOverrides.env[0].value:", "put it in quotes"),
        (f"s.yaml:9:14: {queue}.templateOverrides.env[1].name:", "podstrap's own"),
        (f"s.yaml:10:9: {queue}.templateOverrides.command:", "podstrap's own"),
        (f"s.yaml:11:23: {queue}.queueSettings.maxPod:", "did you mean maxPods?"),
        ("s.yaml:14:3: maxPods:", "a whole number is wanted"),
        ("s.yaml:15:3: pollSecnds:", "did you mean pollSeconds?"),
        ("s.yaml:16:3: replicaCount:", "a key of the chart's values"),
        ("s.yaml:17:3: apiServerUrlReference:", "must not stand in the URL"),
    ]
    for (start, words), line in zip(wanted, lines, strict=True):
        assert line.startswith(start)
        assert words in line
    assert "hunter2" not in "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "s.yaml:1:5: no valid YAML"),
        ("- a", "s.yaml:1:1: the file: a mapping is wanted"),
        ("queues: {a: &x {templateOverrides: *x}}", "contains itself"),
        ("queue: 3", "s.yaml:1:1: queue: a text of names"),
        ("maxPods: 1\nqueue: a\nqueues: [b]", "s.yaml:2:1: queue: stands beside queues"),
        ("max_pods: 3", "did you mean maxPods?"),
        ("queues: {on: {}}", "put it in quotes"),
        ("rules:\n  - when: {typs: [a]}", "s.yaml:2:12: rules[0].when.typs: unknown key; did you mean types?"),
        ("rules:\n  - when: {}", "s.yaml:2:5: rules[0].when: no condition is given"),
        (
            "rules:\n  - when: {types: [a]}\n    templateOverrides: {image: 3}",
            "s.yaml:3:25: rules[0].templateOverrides.image: a text is wanted",
        ),
        ("cache: {mountPth: /x}", "did you mean mountPath?"),
        ("queues:\n  a: 3", "s.yaml:2:3: queues.a: a mapping is wanted"),
        ("basePodTemplate: {labels: {when: 2020-01-01}}", "basePodTemplate.labels.when: a text is wanted"),
        ("a: \x00", "no valid YAML"),
        ("agentk8sglue: 3", "s.yaml:1:1: the file: a mapping is wanted"),
        ("!!python/object/apply:os.system ['true']", "no valid YAML"),
    ],
)
def test_one_error(text: str, words: str) -> None:
    assert words in refusal(text)


def test_aliases_by_the_billion_are_no_work() -> None:
    text = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{p: *a{n - 1}, q: *a{n - 1}}}\n" for n in range(1, 60))
    assert "unknown key" in refusal(text)


def test_anchors_are_taken_in_templates() -> None:
    settings = load_text(
        "queues:\n  a: {templateOverrides: &t {resources: {limits: {cpu: 1}}}}\n  b: {templateOverrides: *t}\n"
    )
    assert settings.queues["a"] == settings.queues["b"]


@pytest.mark.parametrize("text", ["", "agentk8sglue:\n", "# nothing\n"])
def test_an_empty_file_is_the_defaults(text: str) -> None:
    assert load_text(text).queues == {}


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        load(tmp_path / "nowhere.yaml")
    (tmp_path / "s.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(tmp_path / "s.yaml")


def test_the_namespace_is_the_files_else_the_pods_own_else_default(tmp_path: Path) -> None:
    own, plain, named = tmp_path / "namespace", tmp_path / "plain.yaml", tmp_path / "named.yaml"
    own.write_text("mine\n")
    plain.write_text("queues: [a]")
    named.write_text("namespace: theirs")
    assert load(plain, own_namespace=own).namespace == "mine"
    assert load(named, own_namespace=own).namespace == "theirs"
    assert load(plain, own_namespace=tmp_path / "none").namespace == "default"


def test_the_published_schema_is_this_one() -> None:
    """Write it anew: .venv/bin/python -m controller.settings_file > docs/settings.schema.json"""
    assert json.loads(SCHEMA.read_text()) == json_schema()


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("queues: {a: {templateOverrides: {nodeSelector: {a: b}, resources: {limits: {nvidia.com/gpu: 1}}}}}", True),
        ("agentk8sglue: {queue: 'a,b', maxPods: 0}", True),
        ("queues: [a, b]", True),
        ("queues: {a: }", True),
        ("basePodTemplate: {env: [{name: A, value: '1'}], priorityClassName: null}", True),
        ("queues: {a: {templateOverrides: {nodeSelectr: {}}}}", False),
        ("rules: [{when: {types: [controller]}, templateOverrides: {nodeSelector: {gpu: null}}}]", True),
        ("rules: [{templateOverrides: {}}]", False),
        ("maxPods: -1", False),
        ("basePodTemplate: {env: [{name: A, value: 1}]}", False),
        ("basePodTemplate: {env: {A: b}}", False),
        ("fooo: 1", False),
    ],
)
def test_an_editor_and_the_controller_agree(text: str, good: bool) -> None:
    value: Any = yaml.safe_load(text)
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert jsonschema.Draft202012Validator(schema).is_valid(value) is good
    if good:
        load_text(text)
    else:
        refusal(text)
