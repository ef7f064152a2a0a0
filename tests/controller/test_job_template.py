"""The Job's manifest: what podstrap owns holds whatever templates and tasks say, and no secret stands in it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearml_api.models import Task
from controller.job_template import TemplateError
from controller.job_template_reserved import OWNED_VARIABLES
from controller.settings import Settings
from controller.settings_file import load_text
from controller.settings_queue import QueueSettings
from protocol import labels
from protocol.claim import RUNTIME_KEY, Claim
from protocol.errors import ConfigError
from protocol.names import added_millis, job_name
from tests.controller.manifests import (
    ADDED,
    NOW,
    QUEUE_ID,
    TASK,
    assert_kubernetes_takes,
    container_of,
    pod_of,
    render,
    task_with,
    variables_of,
)  # fmt: skip
from tests.support import SEED_VALUES

WHOLE_POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"labels": {"team": "vision"}},
    "spec": {
        "restartPolicy": "Never",
        "containers": [
            {"name": "main", "image": "python:3.12", "resources": {"limits": {"memory": "1Gi"}}},
            {"name": "proxy", "image": "proxy:1"},
        ],
    },
}


def test_the_manifest_is_one_that_kubernetes_takes_and_names_the_attempt() -> None:
    manifest = render(attempt=2, history=("attempt 1: evicted",))
    assert_kubernetes_takes(manifest)
    identity = {
        labels.MANAGED_BY: "podstrap", labels.CONTROLLER: "podstrap", labels.TASK: TASK.id, labels.QUEUE: QUEUE_ID,
        labels.ADDED: str(added_millis(ADDED)), labels.ATTEMPT: "2",
    }  # fmt: skip
    for metadata in (manifest["metadata"], manifest["spec"]["template"]["metadata"]):
        assert metadata["labels"] == identity
        assert metadata["annotations"][labels.TASK_NAME] == "train α"
        assert metadata["annotations"][labels.QUEUE_NAME] == "gpu"
        assert "evicted" in metadata["annotations"]["podstrap.io/history"]
    assert manifest["metadata"]["name"] == job_name(TASK.id, ADDED, 2)
    assert manifest["metadata"]["namespace"] == "default"


def test_the_job_ends_with_its_pod_except_for_disruptions() -> None:
    spec = render()["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["ttlSecondsAfterFinished"] == 3600
    assert "activeDeadlineSeconds" not in spec
    assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == ["Ignore", "Ignore", "FailJob"]
    condition, disrupted, rest = spec["podFailurePolicy"]["rules"]
    assert condition["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert disrupted["onExitCodes"] == {"containerName": "task", "operator": "In", "values": [75]}
    assert rest["onExitCodes"] == {"containerName": "task", "operator": "NotIn", "values": [75]}
    deadline = QueueSettings(active_deadline_seconds=60)
    assert render(queue=deadline)["spec"]["activeDeadlineSeconds"] == 60


def test_the_pod_needs_no_kubernetes_permission_and_reports_by_its_last_message() -> None:
    manifest = render()
    spec, main = pod_of(manifest), container_of(manifest)
    assert (spec["restartPolicy"], spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (
        "Never", False, False,
    )  # fmt: skip
    assert main["command"] == ["podstrap", "bootstrap"]
    assert (main["terminationMessagePath"], main["terminationMessagePolicy"]) == ("/dev/termination-log", "File")
    assert {mount["mountPath"] for mount in main["volumeMounts"]} == {"/podstrap/work", "/podstrap/cache"}
    assert spec["volumes"] == [
        {"name": "podstrap-work", "emptyDir": {}}, {"name": "podstrap-cache", "emptyDir": {}},
    ]  # fmt: skip


def test_bootstrap_reads_the_variables_as_they_were_meant() -> None:
    from bootstrap import settings as pod_settings

    queue = QueueSettings(max_attempts=5, on_disruption="fail", package_manager="pip", poll_seconds=1.5)
    found = variables_of(render(queue=queue, attempt=4))
    read = pod_settings.read({name: value for name, value in found.items() if isinstance(value, str)})
    assert (read.task, read.queue, read.queue_name, read.attempt) == (TASK.id, QUEUE_ID, "gpu", 4)
    assert (read.max_attempts, read.on_disruption, read.package_manager, read.poll_seconds) == (5, "fail", "pip", 1.5)
    assert (read.queued_at, read.created_at) == (ADDED.timestamp(), NOW.timestamp())
    assert (str(read.work), str(read.cache)) == ("/podstrap/work", "/podstrap/cache")
    own_job = "metadata.labels['batch.kubernetes.io/controller-uid']"
    assert found["PODSTRAP_JOB_UID"] == {"fieldRef": {"fieldPath": own_job}}
    assert found["PODSTRAP_POD_UID"] == {"fieldRef": {"fieldPath": "metadata.uid"}}


def test_the_pod_is_told_what_its_claim_goes_on_counting_from() -> None:
    from bootstrap import settings as pod_settings

    def read(queue: QueueSettings, claim: Claim, **more: Any) -> pod_settings.PodSettings:
        found = variables_of(render(replace(TASK, runtime={RUNTIME_KEY: claim.to_text()}), queue=queue, **more))
        return pod_settings.read({name: value for name, value in found.items() if isinstance(value, str)})

    queue = QueueSettings(max_attempts=2, retry_own_failures=3)
    history = [f"attempt {n}: {'x' * 500}" for n in range(40)]
    told = read(queue, Claim("u", 2, "p", requeued=True, failures=1), history=history)
    assert (told.failures, told.retries_left, told.max_attempts) == (1, 2, 3)
    assert [line[:11] for line in told.history] == [f"attempt {n}:" for n in range(30, 40)]
    by_a_user = read(queue, Claim("u", 2, "p", failures=1))
    assert (by_a_user.failures, by_a_user.retries_left, by_a_user.max_attempts, by_a_user.history) == (0, 3, 2, ())
    agent = read(QueueSettings(retry_own_failures=3, engine="clearml-agent"), Claim("u", 1, "p", requeued=True))
    assert agent.retries_left == 0, "clearml-agent sets the end of its tasks itself"


def test_bootstrap_reads_who_prepares_and_what_the_cache_may_hold() -> None:
    from bootstrap import settings as pod_settings

    def read(text: str, task: Task = TASK) -> pod_settings.PodSettings:
        config = load_text(text)
        found = variables_of(render(task, config, config.queues["gpu"]))
        return pod_settings.read({name: value for name, value in found.items() if isinstance(value, str)})

    usual = read("queues: {gpu: {}}")
    assert (usual.engine, usual.resolve_after_seconds) == ("podstrap", 24 * 3600)
    assert (usual.cache_max_bytes, usual.cache_max_seconds) == (None, None)
    limited = read("queues: {gpu: {}}\ncache: {resolveAfterHours: 0.5, maxGib: 1.5, maxDays: 7}")
    assert (limited.resolve_after_seconds, limited.cache_max_bytes, limited.cache_max_seconds) == (
        1800, 3 * 2**29, 7 * 86400,
    )  # fmt: skip
    assert read("queues: {gpu: {}}\nengine: clearml-agent").engine == "clearml-agent"
    by_queue = "queues: {gpu: {engine: clearml-agent}}\nrules: [{when: {types: [controller]}, engine: podstrap}]"
    assert read(by_queue).engine == "clearml-agent"
    assert read(by_queue, replace(TASK, type="controller")).engine == "podstrap"
    assert read(by_queue, replace(TASK, tags=("x", "podstrap:engine=podstrap"))).engine == "podstrap"
    with pytest.raises(TemplateError, match="names no engine"):
        render(replace(TASK, tags=("podstrap:engine=agent",)))


def test_every_variable_of_ours_is_ours_alone() -> None:
    """Whatever the manifest sets, a template must not: it would be dropped without a word."""
    config = load_text("cache: {maxGib: 1, maxDays: 2}\nqueues: {gpu: {pollSeconds: 1.0}}")
    config = config.with_servers("http://a", "http://b", "http://c")
    ours = variables_of(render(TASK, config, config.queues["gpu"], home="here"))
    assert set(ours) <= OWNED_VARIABLES
    for name in ours:
        with pytest.raises(TemplateError, match=rf"env\[0\]\.name: {name} is podstrap's own"):
            render(queue=QueueSettings(template_overrides={"env": [{"name": name, "value": "x"}]}))
    for name in ("PODSTRAP_ANSI", "PODSTRAP_SAMPLE_SECONDS"):  # docs/in-the-pod.md tells people to set them there
        assert variables_of(render(queue=QueueSettings(template_overrides={"env": [{"name": name, "value": "9"}]})))[
            name
        ]


def test_what_happens_without_the_python_that_a_task_names_is_the_queues_or_the_files_word() -> None:
    config = load_text("queues: {gpu: {missingPython: fail}, cpu: {}}\nmissingPython: nearest")
    found = [
        variables_of(render(TASK, config, config.queues[name]))["PODSTRAP_MISSING_PYTHON"] for name in config.queues
    ]
    assert found == ["fail", "nearest"]


def test_keys_come_by_reference_to_a_secret() -> None:
    found = variables_of(render(settings=Settings(credentials_secret="mine")))
    for key in ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"):
        assert found[key] == {"secretKeyRef": {"name": "mine", "key": key}}
    called = Settings.model_validate({"credentialsSecretKeys": {"accessKey": "a", "secretKey": "b"}})
    found = variables_of(render(settings=called))
    assert found["CLEARML_API_ACCESS_KEY"]["secretKeyRef"]["key"] == "a"
    assert found["CLEARML_API_SECRET_KEY"]["secretKeyRef"]["key"] == "b"


def test_values_of_a_tasks_variables_are_in_no_manifest() -> None:
    manifest = render(task_with("-e TOKEN=hunter2 --env=OTHER=hunter2 --label x=hunter2"))
    assert "hunter2" not in json.dumps(manifest)


def test_the_seed_is_read_as_it_stands_and_its_queues_differ() -> None:
    config = load_text(SEED_VALUES)
    assert list(config.queues) == ["example_queue_1", "example_queue_2"]
    for name, product, count in (
        ("example_queue_1", "A100-SXM4-40GB-MIG-1g.5gb", "1"),
        ("example_queue_2", "A100-SXM4-40GB", "2"),
    ):
        manifest = render(settings=config, queue=config.queues[name])
        assert_kubernetes_takes(manifest)
        assert pod_of(manifest)["nodeSelector"] == {"nvidia.com/gpu.product": product}
        assert container_of(manifest)["resources"] == {"limits": {"nvidia.com/gpu": count}}


def test_overrides_are_laid_over_the_base_template() -> None:
    base = {
        "labels": {"team": "vision"}, "nodeSelector": {"disk": "ssd", "zone": "a"},
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "tolerations": [{"key": "gpu", "operator": "Exists"}], "priorityClassName": "low", "schedulerName": "",
        "containerSecurityContext": {"runAsNonRoot": True}, "podSecurityContext": {"fsGroup": 1001},
        "resources": {"limits": {"memory": 8589934592, "cpu": 0.5}},
    }  # fmt: skip
    over = {
        "nodeSelector": {"zone": None, "gpu": "yes"}, "env": [{"name": "B", "value": "3"}], "tolerations": [],
        "priorityClassName": None, "resources": {"limits": {"cpu": 2}},
    }  # fmt: skip
    manifest = render(settings=Settings(base_pod_template=base), queue=QueueSettings(template_overrides=over))
    assert_kubernetes_takes(manifest)
    spec, main, found = pod_of(manifest), container_of(manifest), variables_of(manifest)
    assert spec["nodeSelector"] == {"disk": "ssd", "gpu": "yes"}
    assert (found["A"], found["B"]) == ("1", "3")
    assert spec["tolerations"] == []
    assert "priorityClassName" not in spec
    assert "schedulerName" not in spec
    assert main["resources"]["limits"] == {"memory": "8589934592", "cpu": "2"}
    assert (main["securityContext"], spec["securityContext"]) == ({"runAsNonRoot": True}, {"fsGroup": 1001})
    assert manifest["metadata"]["labels"]["team"] == "vision"


@pytest.mark.parametrize(
    "whole",
    [
        WHOLE_POD,
        {"spec": WHOLE_POD["spec"], "labels": {"team": "vision"}},
        {"template": {"metadata": WHOLE_POD["metadata"], "spec": WHOLE_POD["spec"]}},
        {"kind": "Job", "spec": {"template": {key: WHOLE_POD[key] for key in ("metadata", "spec")}}},
    ],
)
def test_a_whole_pod_template_is_taken_its_first_container_runs_the_task(whole: dict[str, Any]) -> None:
    over = {"resources": {"limits": {"cpu": 1}}}
    manifest = render(settings=Settings(base_pod_template=whole), queue=QueueSettings(template_overrides=over))
    assert_kubernetes_takes(manifest)
    assert [one["name"] for one in pod_of(manifest)["containers"]] == ["task", "proxy"]
    assert container_of(manifest)["image"] == "python:3.12"
    assert container_of(manifest)["resources"] == {"limits": {"memory": "1Gi", "cpu": "1"}}
    assert manifest["spec"]["template"]["metadata"]["labels"]["team"] == "vision"


def test_a_rule_is_laid_over_the_queue_for_the_tasks_it_names() -> None:
    """clearml-helm-charts#308: the pipeline controller's pod should not take the GPU."""
    config = load_text(
        "queues: {gpu: {templateOverrides: {resources: {limits: {nvidia.com/gpu: 1, memory: 8Gi}}}}}\n"
        "rules:\n"
        "  - when: {types: [controller]}\n"
        "    templateOverrides: {resources: {limits: {nvidia.com/gpu: null}}}\n"
        "  - when: {tags: [big], queues: [gpu]}\n"
        "    templateOverrides: {resources: {limits: {memory: 64Gi}}}\n"
    )

    def limits(task: Task) -> Any:
        return container_of(render(task, config, config.queues["gpu"]))["resources"]["limits"]

    assert limits(TASK) == {"nvidia.com/gpu": "1", "memory": "8Gi"}
    assert limits(replace(TASK, type="controller")) == {"memory": "8Gi"}
    assert limits(replace(TASK, tags=("big", "x"))) == {"nvidia.com/gpu": "1", "memory": "64Gi"}
    elsewhere = render(replace(TASK, tags=("big",)), config, config.queues["gpu"], queue_name="other")
    assert container_of(elsewhere)["resources"]["limits"]["memory"] == "8Gi"


def test_image_is_the_tasks_else_the_queues_else_the_default() -> None:
    queue = QueueSettings(template_overrides={"image": "queue:1"})
    assert container_of(render(task_with(image="task:1"), queue=queue))["image"] == "task:1"
    assert container_of(render(queue=queue))["image"] == "queue:1"
    assert container_of(render(settings=Settings(default_container_image="mine:1")))["image"] == "mine:1"


@pytest.mark.parametrize("image", ["a b", "-v /etc", "a\nb", "$(x)", "x" * 2000])
def test_an_image_that_is_none_is_refused(image: str) -> None:
    with pytest.raises(TemplateError, match="no image's name"):
        render(task_with(image=image))


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ({"restartPolicy": "OnFailure"}, "restartPolicy"),
        ({"command": ["sh"]}, "command"),
        ({"spec": {"restartPolicy": "Always"}}, r"spec\.restartPolicy"),
        ({"spec": {"containers": [{"name": "x", "args": ["y"]}]}}, r"spec\.containers\[0\]\.args"),
        ({"labels": {"podstrap.io/task": "x"}}, r"labels\.podstrap\.io/task"),
        ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, "managed-by"),
        ({"metadata": {"name": "x"}}, r"metadata\.name"),
        ({"env": [{"name": "PODSTRAP_TASK_ID", "value": "x"}]}, r"env\[0\]\.name"),
        ({"env": [{"name": "CLEARML_API_SECRET_KEY", "value": "hunter2"}]}, "credentialsSecret"),
        ({"spec": {"containers": [{"name": "task", "env": [{"name": "PODSTRAP_ATTEMPT"}]}]}}, "PODSTRAP_ATTEMPT"),
        ({"volumes": [{"name": "podstrap-cache", "hostPath": {"path": "/"}}]}, r"volumes\[0\]\.name"),
        ({"volumeMounts": [{"name": "x", "mountPath": "/podstrap/cache"}]}, r"volumeMounts\[0\]\.mountPath"),
        ({"volumeMounts": [{"name": "x", "mountPath": "/podstrap/work/"}]}, "workPath"),
        ({"resources": {"requests": {"cpu": -1}}}, r"resources\.requests\.cpu"),
        ({"kind": "Job", "spec": {"backoffLimit": 3, "template": {}}}, r"spec\.backoffLimit"),
        ({"nodeSelectr": {}}, "did you mean nodeSelector"),
        ({"nodeSelector": {"a": True}}, r"nodeSelector\.a"),
        ({"tolerations": {"key": "x"}}, "tolerations"),
        ({"env": {"A": "1"}}, "env"),
        ({"env": [{"name": "A", "value": 1}]}, r"env\[0\]\.value"),
        ({"resources": {"limits": {"memory": "lots"}}}, r"resources\.limits\.memory"),
        ({"resources": {"limit": {}}}, r"resources\.limit"),
        ({"volumes": [{"emptyDir": {}}]}, r"volumes\[0\]"),
        ({"fileMounts": [{"name": "x"}]}, "fileMounts"),
        ({"kind": "Deployment", "spec": {}}, "kind"),
    ],
)
def test_a_template_that_cannot_be_is_refused_by_queue_and_key(template: dict[str, Any], named: str) -> None:
    with pytest.raises(TemplateError, match=named) as base:
        render(settings=Settings(base_pod_template=template))
    with pytest.raises(TemplateError, match=named) as over:
        render(queue=QueueSettings(template_overrides=template))
    for error in (base, over):
        assert "gpu" in str(error.value)
        assert "hunter2" not in str(error.value)


def test_docker_arguments_that_are_refused_stop_the_task_or_are_noted_as_the_operator_says() -> None:
    task = task_with("--privileged --memory 1g")
    with pytest.raises(TemplateError, match=r"--privileged.*allowPrivileged"):
        render(task)
    manifest = render(task, Settings(ignore_refused_docker_arguments=True))
    assert "securityContext" not in container_of(manifest)
    assert container_of(manifest)["resources"] == {"limits": {"memory": "1Gi"}}
    assert "--privileged" in manifest["metadata"]["annotations"]["podstrap.io/docker-arguments"]
    assert container_of(render(task, Settings(allow_privileged=True)))["securityContext"] == {"privileged": True}


def test_docker_arguments_without_effect_reach_the_tasks_console() -> None:
    from bootstrap import settings as pod_settings

    found = variables_of(render(task_with("--rm --ulimit memlock=-1 -e A=1")))
    read = pod_settings.read({name: value for name, value in found.items() if isinstance(value, str)})
    assert [line.partition(":")[0] for line in read.docker_notes] == ["--rm", "--ulimit"]
    assert "PODSTRAP_DOCKER_NOTES" not in variables_of(render())


@pytest.mark.parametrize(
    ("template", "arguments", "expected"),
    [
        ({"limits": {"memory": "16Gi"}}, "--memory 8g", {"limits": {"memory": "8Gi"}}),
        ({"limits": {"memory": "16Gi"}}, "--memory 64g", {"limits": {"memory": "16Gi"}}),
        ({"limits": {"memory": "16Gi"}, "requests": {"memory": "12Gi"}}, "-m 8g",
         {"limits": {"memory": "8Gi"}, "requests": {"memory": "8Gi"}}),
        ({"requests": {"cpu": "500m"}}, "--cpus 2", {"requests": {"cpu": "500m"}, "limits": {"cpu": "2"}}),
        ({"limits": {"nvidia.com/gpu": 1}}, "--gpus 8", {"limits": {"nvidia.com/gpu": "1"}}),
        ({"limits": {"nvidia.com/gpu": 0}}, "--gpus 1", {"limits": {"nvidia.com/gpu": "0"}}),
        ({"limits": {"amd.com/gpu": 1}}, "--gpus 2", {"limits": {"amd.com/gpu": "1"}}),
        ({"limits": {"nvidia.com/mig-1g.5gb": 1}}, "--gpus 1", {"limits": {"nvidia.com/mig-1g.5gb": "1"}}),
        ({}, "--gpus 1", {"limits": {"nvidia.com/gpu": "1"}}),
    ],
)  # fmt: skip
def test_a_task_gets_no_more_than_its_queue_gives(
    template: dict[str, Any], arguments: str, expected: dict[str, Any]
) -> None:
    manifest = render(task_with(arguments), queue=QueueSettings(template_overrides={"resources": template}))
    assert_kubernetes_takes(manifest)
    assert container_of(manifest)["resources"] == expected


@pytest.mark.parametrize("level", ["podSecurityContext", "containerSecurityContext"])
def test_who_the_task_runs_as_is_the_operators_where_the_operator_says_so(level: str) -> None:
    task = task_with("--user 0:0 --group-add 4 --cap-drop NET_RAW")
    restricted = QueueSettings(template_overrides={level: {"runAsUser": 1000, "runAsNonRoot": True}})
    manifest = render(task, queue=restricted)
    contexts = [pod_of(manifest).get("securityContext", {}), container_of(manifest)["securityContext"]]
    assert [context.get("runAsUser") for context in contexts if "runAsUser" in context] == [1000]
    assert not any("supplementalGroups" in context or "runAsGroup" in context for context in contexts)
    free = render(task)
    assert_kubernetes_takes(free)
    assert container_of(free)["securityContext"]["runAsUser"] == 0
    assert pod_of(free)["securityContext"] == {"supplementalGroups": [4]}


def test_capabilities_that_the_operator_drops_stay_dropped() -> None:
    queue = QueueSettings(template_overrides={"containerSecurityContext": {"capabilities": {"drop": ["ALL"]}}})
    main = container_of(render(task_with("--cap-drop NET_RAW"), queue=queue))
    assert main["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_cache_on_a_volume() -> None:
    claim = {"persistentVolumeClaim": {"claimName": "podstrap-cache"}}
    cache = {"mountPath": "/cache", "volume": claim}
    manifest = render(settings=Settings.model_validate({"cache": cache}))
    assert_kubernetes_takes(manifest)
    assert {"name": "podstrap-cache", **claim} in pod_of(manifest)["volumes"]
    assert variables_of(manifest)["PODSTRAP_CACHE_DIR"] == "/cache"


def test_a_queue_name_is_not_expanded_by_kubernetes() -> None:
    assert variables_of(render(queue_name="a$(HOME)"))["PODSTRAP_QUEUE_NAME"] == "a$$(HOME)"


def test_a_templates_variable_may_name_ours() -> None:
    env = [{"name": "RUN", "value": "run-$(PODSTRAP_TASK_ID)"}]
    names = list(variables_of(render(queue=QueueSettings(template_overrides={"env": env}))))
    assert names.index("PODSTRAP_TASK_ID") < names.index("RUN")


def test_a_lone_surrogate_or_a_very_long_name_makes_a_manifest_all_the_same() -> None:
    manifest = render(replace(TASK, name="\ud800" + "x" * 300_000))
    assert len(json.dumps(manifest, ensure_ascii=False).encode()) < 64_000


@pytest.mark.parametrize("task_id", ["", "a/b", "x" * 64, "-x"])
def test_an_id_that_is_no_label_is_refused(task_id: str) -> None:
    with pytest.raises(TemplateError, match="label"):
        render(Task(id=task_id))


def test_every_chart_key_together_is_a_manifest_that_kubernetes_takes() -> None:
    template = {
        "labels": {"a": "b"}, "annotations": {"c": "d"},
        "initContainers": [
            {"name": "init", "image": "busybox", "resources": {"limits": {"cpu": 1}}},
            {"name": "sidecar", "image": "proxy", "restartPolicy": "Always", "resources": {"limits": {"memory": 2**9}}},
        ],
        "schedulerName": "volcano", "priorityClassName": "high", "runtimeClassName": "nvidia",
        "volumes": [{"name": "data", "nfs": {"server": "192.168.0.1", "path": "/var/nfs"}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "x"}], "fileMounts": [],
        "env": [{"name": "GIT", "valueFrom": {"secretKeyRef": {"name": "git", "key": "pass"}}}],
        "envFrom": [{"configMapRef": {"name": "env"}}], "resources": {"limits": {"nvidia.com/gpu": 1}},
        "nodeSelector": {"fleet": "gpu"}, "tolerations": [{"key": "gpu", "operator": "Exists"}], "affinity": {},
        "podSecurityContext": {"fsGroup": 1001}, "containerSecurityContext": {"runAsUser": 1001},
        "hostAliases": [{"ip": "127.0.0.1", "hostnames": ["foo.local"]}], "serviceAccountName": "task",
        "imagePullSecrets": [{"name": "pull"}], "imagePullPolicy": "Always", "terminationGracePeriodSeconds": 120,
        "dnsConfig": {"nameservers": ["1.1.1.1"]}, "dnsPolicy": "None", "hostNetwork": False, "hostIPC": False,
        "hostUsers": False, "shareProcessNamespace": True, "automountServiceAccountToken": True,
        "topologySpreadConstraints": [
            {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
        ],
    }  # fmt: skip
    manifest = render(settings=Settings(base_pod_template=template))
    assert_kubernetes_takes(manifest)
    assert variables_of(manifest)["PODSTRAP_GRACE_SECONDS"] == "120"
    assert pod_of(manifest)["initContainers"][0]["resources"] == {"limits": {"cpu": "1"}}
    assert pod_of(manifest)["automountServiceAccountToken"] is True


def test_files_of_secrets_and_config_maps_are_mounted_and_a_queues_stand_over_the_files_of_all() -> None:
    def named(folder: str, **source: str) -> dict[str, str]:
        return {"name": "tool.conf", "folderPath": folder, **source}

    base = {"fileMounts": [named("/etc/a", secretName="one"), named("/etc/b/", configMapName="two")]}
    over = {"fileMounts": [named("/etc/a", secretName="three")]}
    manifest = render(settings=Settings(base_pod_template=base), queue=QueueSettings(template_overrides=over))
    assert_kubernetes_takes(manifest)
    volumes = {one["name"]: one for one in pod_of(manifest)["volumes"]}
    mounts = {one["mountPath"]: one for one in container_of(manifest)["volumeMounts"]}
    assert volumes[mounts["/etc/a/tool.conf"]["name"]]["secret"] == {"secretName": "three"}
    assert volumes[mounts["/etc/b/tool.conf"]["name"]]["configMap"] == {"name": "two"}
    assert mounts["/etc/a/tool.conf"]["subPath"] == "tool.conf" and mounts["/etc/a/tool.conf"]["readOnly"]


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ({"name": "x", "folderPath": "/m", "fileContent": "hunter2"}, r"fileMounts\[0\]\.fileContent"),
        ({"name": "../x", "folderPath": "/m", "secretName": "s"}, r"fileMounts\[0\]\.name"),
        ({"name": "x", "folderPath": "m", "secretName": "s"}, r"fileMounts\[0\]\.folderPath"),
        ({"name": "x", "folderPath": "/m/../etc", "secretName": "s"}, r"fileMounts\[0\]\.folderPath"),
        ({"name": "x", "folderPath": "/m", "secretName": "s", "configMapName": "c"}, "one of secretName and configMap"),
        ({"name": "x", "folderPath": "/m"}, "one of secretName and configMapName"),
        ({"name": "x", "folderPath": "/m", "secretName": 3}, "one of secretName and configMapName"),
        ({"name": "x", "folderPath": "/podstrap", "secretName": "s", "mode": 1}, r"fileMounts\[0\]\.mode"),
    ],
)
def test_a_file_that_cannot_be_mounted_is_refused_by_its_key(file: dict[str, Any], named: str) -> None:
    with pytest.raises(TemplateError, match=named) as error:
        render(settings=Settings(base_pod_template={"fileMounts": [file]}))
    assert "hunter2" not in str(error.value)


_text = st.sampled_from(["a", "b", "1", ""])
_value = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1, 3), _text),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(["name", "value", "mountPath", "limits", "a", "$patch"]), inner, max_size=3),
        st.lists(st.fixed_dictionaries({"name": _text}, optional={"value": _text, "a": inner}), max_size=3),
    ),
    max_leaves=6,
)
_key = st.sampled_from(
    ["labels", "annotations", "env", "resources", "volumes", "volumeMounts", "nodeSelector", "tolerations", "image",
     "initContainers", "hostNetwork", "podSecurityContext", "containerSecurityContext", "terminationGracePeriodSeconds",
     "spec", "metadata", "template", "kind", "restartPolicy", "command", "nonsense"]
)  # fmt: skip
_well_formed = st.fixed_dictionaries(
    {},
    optional={
        "labels": st.dictionaries(_text, _text, max_size=2),
        "env": st.lists(st.fixed_dictionaries({"name": st.sampled_from("AB")}, optional={"value": _text}), max_size=2),
        "nodeSelector": st.dictionaries(_text, st.one_of(st.none(), _text), max_size=2),
        "resources": st.none() | st.dictionaries(
            st.sampled_from(["limits", "requests"]), st.dictionaries(_text, st.integers(0, 2), max_size=2), max_size=2
        ),
        "spec": st.fixed_dictionaries({}, optional={
            "containers": st.lists(
                st.fixed_dictionaries(
                    {"name": st.sampled_from(["x", "task"])}, optional={"$patch": st.just("delete"), "image": _text}
                ),
                max_size=2,
            ),
            "$patch": st.just("replace"),
        }),
    },
)  # fmt: skip
_template = st.one_of(_well_formed, st.dictionaries(_key, _value, max_size=3))


@settings(max_examples=150, deadline=None)
@given(_template, _template, st.sampled_from(["", "--user 0", "--memory 1g --gpus 1", "--ipc=host -e A=1"]))
def test_any_template_gives_a_refusal_or_a_manifest_whose_owned_parts_hold(
    base: dict[str, Any], over: dict[str, Any], arguments: str
) -> None:
    before = copy.deepcopy((base, over))
    try:
        manifest = render(
            task_with(arguments), Settings(base_pod_template=base), QueueSettings(template_overrides=over)
        )
    except ConfigError:
        return
    finally:
        assert (base, over) == before
    plain = render()
    spec, main = pod_of(manifest), container_of(manifest)
    json.dumps(manifest)
    assert spec["restartPolicy"] == "Never"
    brought = "podstrap.io/injection" in manifest["metadata"]["annotations"]
    assert main["command"] == ["/opt/podstrap/bin/podstrap" if brought else "podstrap", "bootstrap"]
    assert {k: v for k, v in manifest["spec"].items() if k != "template"} == {
        k: v for k, v in plain["spec"].items() if k != "template"
    }
    found, owned = variables_of(manifest), variables_of(plain)
    others = ("CLEARML_API_HOST", "CLEARML_WEB_HOST", "CLEARML_FILES_HOST", "PODSTRAP_GRACE_SECONDS")  # other settings
    assert all(found[key] == value for key, value in owned.items() if key not in others)
    assert found["PODSTRAP_GRACE_SECONDS"] == str(spec.get("terminationGracePeriodSeconds", 30))
    assert plain["metadata"]["labels"].items() <= manifest["metadata"]["labels"].items()
    mounts = [mount["mountPath"] for mount in main["volumeMounts"]]
    assert mounts.count("/podstrap/work") == mounts.count("/podstrap/cache") == 1
    assert {"name": "podstrap-work", "emptyDir": {}} in spec["volumes"]
