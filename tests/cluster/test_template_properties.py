"""Any template, any overrides, any task, and a real API server: what we make it takes, or it is refused by its key;
what we refuse it would have refused too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings

from clearml_api.models import Task
from controller import job_template, job_template_keys, probe
from controller.cluster.interface import Refused
from controller.cluster.kube_cluster import KubernetesCluster
from controller.cluster.kubernetes import Api
from controller.job_template_keys import CONTAINER_KEYS, POD_KEYS
from controller.job_template_reserved import METADATA_KEYS
from controller.merge import merged
from controller.provenance import explain
from controller.settings import Settings
from protocol.errors import ConfigError
from tests.cluster.control_plane import ControlPlane
from tests.cluster.template_strategies import TASKS, TEMPLATES
from tests.controller.manifests import ADDED, NOW, QUEUE_ID

pytestmark = [pytest.mark.cluster]
MANY = settings(
    max_examples=200, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane) -> KubernetesCluster:
    """Watches nothing: it is only asked."""
    return KubernetesCluster(Api(control_plane.kubeconfig("admin")), "podstrap", (), home="")


def configuration(base: Any, over: Any) -> Settings:
    rule = {"when": {"types": ["controller"]}, "templateOverrides": {"resources": {"limits": {"nvidia.com/gpu": None}}}}
    return Settings.model_validate({
        "namespace": "default", "basePodTemplate": base, "queues": {"gpu": {"templateOverrides": over}},
        "rules": [rule], "allowedHostPaths": ["/data"],
    })  # fmt: skip


def rendered(config: Settings, task: Task) -> dict[str, Any]:
    return job_template.render(
        task, queue_id=QUEUE_ID, queue_name="gpu", added=ADDED, attempt=1, settings=config,
        queue=config.queues["gpu"], now=NOW,
    )  # fmt: skip


@MANY
@given(TEMPLATES, TEMPLATES, TASKS)
@example({"topologySpreadConstraints": [{"topologyKey": "z", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}]}, {},
         Task(id="3" * 32))  # fmt: skip
def test_a_manifest_is_taken_or_refused_by_a_key_of_the_operators_or_the_tasks(
    cluster: KubernetesCluster, base: dict[str, Any], over: dict[str, Any], task: Task
) -> None:
    config = configuration(base, over)
    try:
        manifest = rendered(config, task)
    except ConfigError as error:
        words = str(error)
        keys = [*job_template_keys.known_keys(), "container image", "docker arguments"]
        assert any(key in words for key in keys), words
        return
    try:
        cluster.probe(manifest)
        return
    except Refused as error:
        refused = error
    explained = explain(manifest, task, settings=config, queue=config.queues["gpu"], queue_key="gpu", queue_name="gpu")
    for where, words in probe.causes_of(refused):
        one = probe.located(where, words, manifest, explained)
        named = one is not None and one.origin.who != "podstrap"
        assert named or is_missing(where, manifest), f"{where}: {words} is podstrap's own: {one}"


def is_missing(where: str, manifest: Mapping[str, Any]) -> bool:
    """Whether the server wants a field that no template gave (`dnsConfig` for dnsPolicy: None), a template's key."""
    name = where.rpartition(".")[2]
    return (
        where.startswith("spec.template.spec.")
        and name in POD_KEYS
        and name not in manifest["spec"]["template"]["spec"]
    )


@MANY
@given(TEMPLATES)
def test_nothing_is_refused_that_the_api_server_would_take(
    cluster: KubernetesCluster, template: dict[str, Any]
) -> None:
    """The operator's template alone, without our checks: laid over as it is, it must be refused for something."""
    reading = job_template_keys.read(template)
    if not reading.problems or all(is_ours(problem.message) for problem in reading.problems):
        return
    for problem in reading.problems:
        if is_ours(problem.message) or not expressible(problem.path):
            continue
        if "$patch" in str(alone(template, problem.path)):
            continue  # a word to our merge, which no API server ever sees
        manifest = rendered(configuration({}, {}), Task(id="3" * 32))
        only = alone(template, problem.path)
        if only is None:
            continue
        pod = manifest["spec"]["template"]
        for layer in job_template_keys.layers_of(only):
            pod = merged(pod, layer)
        with pytest.raises(Refused):
            cluster.probe({**manifest, "spec": {**manifest["spec"], "template": pod}})
            raise AssertionError(f"taken, though we refuse it: {problem.key}: {problem.message}: {only}")


def is_ours(message: str) -> bool:
    """The operator's policy: what podstrap owns."""
    return "podstrap's own" in message


def expressible(path: tuple[str | int, ...]) -> bool:
    """Whether the problem lies in a field that Kubernetes has too."""
    words = [part for part in path if isinstance(part, str)]
    known = {*POD_KEYS, *CONTAINER_KEYS, *METADATA_KEYS, *job_template_keys.SECURITY_CONTEXTS}
    return any(word in known for word in words)


def alone(template: dict[str, Any], path: tuple[str | int, ...]) -> dict[str, Any] | None:
    """The flat template of the one key in which a problem lies: others might be wrong as well."""
    words = [part for part in path if isinstance(part, str)]
    key = next(word for word in words if word in {*POD_KEYS, *CONTAINER_KEYS, *METADATA_KEYS,
                                                  *job_template_keys.SECURITY_CONTEXTS})  # fmt: skip
    value: Any = template
    for part in path[: path.index(key) + 1]:
        value = value[part] if isinstance(value, (list, dict)) else None
    found: dict[str, Any] = {key: value}
    if key in ("volumeMounts", "volumeDevices"):
        found["volumes"] = [{"name": "data", "emptyDir": {}}]
    return found if value not in ("", None) else None
