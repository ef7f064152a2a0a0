"""Which value of a manifest came from where."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from clearml_api.models import Task
from controller import provenance
from controller.merge import merged
from controller.provenance import Origin
from controller.settings import Settings
from controller.settings_file import load_text
from protocol.errors import ConfigError
from tests.controller.manifests import TASK, render, task_with
from tests.controller.test_job_template import _template

FILE = """
defaultContainerImage: mine:1
cache: {maxGib: 5}
basePodTemplate:
  nodeSelector: {disk: ssd, zone: a, gone: x}
  env: [{name: A, value: "1"}, {name: B, value: "2"}]
  resources: {limits: {memory: 16Gi, cpu: 4}}
  volumes: [{name: data, emptyDir: {}}]
  podSecurityContext: {fsGroup: 1}
  imagePullSecrets: [{name: pull}]
queues:
  gpu:
    maxAttempts: 5
    namespace: team
    templateOverrides:
      nodeSelector: {zone: b, gone: null, disk: ssd}
      spec:
        containers:
          - {name: side, image: "side:1"}
          - name: task
            env: [{name: B, value: "3"}]
rules:
  - when: {types: [controller]}
    templateOverrides: {priorityClassName: never}
  - when: {tags: [big]}
    templateOverrides: {priorityClassName: high, tolerations: [{key: x, operator: Exists}]}
"""
POD = "spec.template.spec."
MAIN = f"{POD}containers[task]."


def origins(config: Settings, task: Task, key: str = "gpu") -> dict[str, Origin]:
    queue = config.queues[key]
    manifest = render(task, config, queue)
    found = provenance.explain(manifest, task, settings=config, queue=queue, queue_key=key, queue_name="gpu")
    assert [(one.path, one.value) for one in found] == list(provenance.leaves(manifest)), "every value, in order"
    return {one.path: one.origin for one in found}


def test_each_value_names_the_layer_that_gave_it_last() -> None:
    wishes = "--memory 8g --cpus 8 --shm-size 1g --user 5 -e X=1"
    task = replace(task_with(wishes, "python:3.12"), tags=("big",))
    found = origins(load_text(FILE), task)
    over, base = ("queues", "gpu", "templateOverrides"), ("basePodTemplate",)
    expected = {
        f"{POD}nodeSelector.zone": Origin("queue", (*over, "nodeSelector", "zone")),
        f"{POD}nodeSelector.disk": Origin("queue", (*over, "nodeSelector", "disk")),  # the same value, said again
        f"{MAIN}env[A].value": Origin("basePodTemplate", (*base, "env", 0, "value")),
        f"{MAIN}env[B].value": Origin("queue", (*over, "spec", "containers", 1, "env", 0, "value")),
        f"{POD}containers[side].image": Origin("queue", (*over, "spec", "containers", 0, "image")),
        f"{POD}securityContext.fsGroup": Origin("basePodTemplate", (*base, "podSecurityContext", "fsGroup")),
        f"{POD}imagePullSecrets[pull].name": Origin("basePodTemplate", (*base, "imagePullSecrets", 0, "name")),
        f"{POD}volumes[data].emptyDir": Origin("basePodTemplate", (*base, "volumes", 0, "emptyDir")),
        f"{POD}priorityClassName": Origin("rule", ("rules", 1, "templateOverrides", "priorityClassName")),
        f"{POD}tolerations[0].key": Origin("rule", ("rules", 1, "templateOverrides", "tolerations", 0, "key")),
        f"{MAIN}resources.limits.memory": Origin("task", (), "container arguments, --memory"),
        f"{MAIN}resources.limits.cpu": Origin("basePodTemplate", (*base, "resources", "limits", "cpu")),
        f"{MAIN}image": Origin("task", (), "container image"),
        f"{MAIN}securityContext.runAsUser": Origin("task", (), "container arguments, --user"),
        f"{MAIN}volumeMounts[/dev/shm].mountPath": Origin("task", (), "container arguments, --shm-size"),
        f"{MAIN}env[PODSTRAP_MAX_ATTEMPTS].value": Origin("podstrap", ("queues", "gpu", "maxAttempts")),
        f"{MAIN}env[PODSTRAP_CACHE_MAX_GIB].value": Origin("podstrap", ("cache", "maxGib")),
        f"{MAIN}env[PODSTRAP_PACKAGE_MANAGER].value": Origin("podstrap", ("packageManager",)),
        "metadata.namespace": Origin("podstrap", ("queues", "gpu", "namespace")),
        f"{MAIN}env[PODSTRAP_TASK_ID].value": Origin("podstrap"),
        f"{MAIN}name": Origin("podstrap"),
        f"{POD}restartPolicy": Origin("podstrap"),
    }  # fmt: skip
    assert {path: found.get(path) for path in expected} == expected
    assert f"{POD}nodeSelector.gone" not in found
    assert origins(load_text(FILE), TASK)[f"{MAIN}image"] == Origin("podstrap", ("defaultContainerImage",))


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        value = value[part]
    return value


@settings(max_examples=150, deadline=None)
@given(_template, _template, _template, st.sampled_from(["", "--memory 1g --gpus 1", "--ipc=host -e A=1 --user 1"]))
def test_what_is_said_to_stand_in_the_settings_stands_there(
    base: dict[str, Any], over: dict[str, Any], third: dict[str, Any], arguments: str
) -> None:
    raw = {
        "basePodTemplate": base, "queues": {"gpu": {"templateOverrides": over}},
        "rules": [{"when": {"tags": ["big"]}, "templateOverrides": third}],
    }  # fmt: skip
    task = replace(task_with(arguments), tags=("big",))
    config = Settings.model_validate(raw)
    try:
        manifest = render(task, config, config.queues["gpu"])
    except ConfigError:
        return
    found = provenance.explain(
        manifest, task, settings=config, queue=config.queues["gpu"], queue_key="gpu", queue_name="gpu"
    )
    for one in found:
        if one.origin.who in ("basePodTemplate", "queue", "rule"):
            assert str(merged(None, at(raw, one.origin.key))) == str(one.value), one
