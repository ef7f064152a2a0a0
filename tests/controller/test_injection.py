"""How podstrap comes into an image: which images have it, which way it is brought, and what the pod then looks like."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clearml_api.models import Task
from controller import injection
from controller.actions import CreateJob, SetMessage, StopJob
from controller.job_template import TemplateError
from controller.notes import StopMark
from controller.reasons import Reason
from controller.settings import Settings
from controller.settings_file import load_text
from controller.settings_queue import QueueSettings
from controller.state import IMAGE_VOLUME, INIT_CONTAINER, JobEnd, JobFacts, PodFacts
from protocol import labels
from protocol.names import job_name
from tests.controller.manifests import (
    assert_kubernetes_takes,
    container_of,
    pod_of,
    render,
    task_with,
    variables_of,
)  # fmt: skip
from tests.controller.test_plan import ADDED, created, decide, job, settings, state, task

BOTH, COPY_ONLY = (IMAGE_VOLUME, INIT_CONTAINER), (INIT_CONTAINER,)
OLD_RUNTIME = PodFacts(
    "p", "p", waiting_reason="CreateContainerError",
    waiting_message='failed to generate container spec: failed to stat "": stat : no such file or directory',
)  # fmt: skip


def brought(manifest: dict[str, Any]) -> str:
    found: str = manifest["metadata"]["annotations"].get(labels.INJECTION, "")
    return found


@pytest.mark.parametrize(
    ("image", "has_it"),
    [
        ("podstrap/task:latest", True),
        ("podstrap/task-cuda:0.1.0", True),
        ("docker.io/podstrap/task:1", True),
        ("registry.example.org:5000/mirror/podstrap/task@sha256:0123", True),
        ("python:3.12", False),
        ("podstrap/bootstrap:0.1.0", False),
        ("notpodstrap/task:1", False),
        ("registry.example.org/team/train:7", True),
        ("registry.example.org/other/train:7", False),
    ],
)
def test_ours_and_those_that_the_operator_names_are_baked_all_others_are_brought_podstrap(
    image: str, has_it: bool
) -> None:
    config = Settings(baked_images=("registry.example.org/team/*",))
    assert injection.baked(image, config.baked_images) is has_it
    manifest = render(task_with(image=image), config)
    assert_kubernetes_takes(manifest)
    assert bool(brought(manifest)) is not has_it
    assert container_of(manifest)["command"] == ["podstrap" if has_it else "/opt/podstrap/bin/podstrap", "bootstrap"]


def test_rule_queue_and_file_say_whether_in_this_order() -> None:
    config = load_text("""
injection: never
queues: {gpu: {injection: always}, cpu: {}}
rules: [{when: {types: [controller]}, injection: auto}]
""")

    def way(queue: str, image: str, kind: str = "training") -> str:
        one = replace(task_with(image=image), type=kind)
        return brought(render(one, config, config.queues[queue], queue_name=queue))

    assert way("cpu", "python:3.12") == ""
    assert way("gpu", "python:3.12") == way("gpu", "podstrap/task:1") == IMAGE_VOLUME
    assert way("gpu", "podstrap/task:1", "controller") == ""
    assert way("cpu", "python:3.12", "controller") == IMAGE_VOLUME


@pytest.mark.parametrize(
    ("wanted", "offered", "way"),
    [
        ("auto", BOTH, IMAGE_VOLUME),
        ("auto", COPY_ONLY, INIT_CONTAINER),
        ("initContainer", BOTH, INIT_CONTAINER),
        ("imageVolume", COPY_ONLY, IMAGE_VOLUME),
        ("auto", (), ""),
        ("imageVolume", (), ""),
    ],
)
def test_the_way_is_the_operators_else_the_best_that_the_cluster_offers_and_none_on_one_machine(
    wanted: str, offered: tuple[str, ...], way: str
) -> None:
    config = Settings.model_validate({"injectionMethod": wanted})
    manifest = render(task_with(image="python:3.12"), config, injections=offered)
    assert_kubernetes_takes(manifest)
    assert brought(manifest) == variables_of(manifest).get("PODSTRAP_INJECTION", "") == way
    queue = QueueSettings.model_validate({"injectionMethod": "initContainer"})
    assert brought(render(task_with(image="python:3.12"), config, queue, injections=offered)) == (
        INIT_CONTAINER if offered else ""
    )


def test_an_image_volume_is_our_folder_read_only_and_nothing_else_in_the_pod_changes() -> None:
    manifest = render(task_with(image="python:3.12"), Settings(bootstrap_image="mirror/bootstrap:2"))
    spec, main = pod_of(manifest), container_of(manifest)
    assert spec["volumes"][-1] == {"name": "podstrap-bootstrap", "image": {"reference": "mirror/bootstrap:2"}}
    assert main["volumeMounts"][-1] == {
        "name": "podstrap-bootstrap", "mountPath": "/opt/podstrap", "subPath": "opt/podstrap", "readOnly": True,
    }  # fmt: skip
    assert "initContainers" not in spec and len(spec["containers"]) == 1


HARDENED = {
    "hostUsers": False,
    "imagePullSecrets": [{"name": "registry"}],
    "initContainers": [{"name": "mesh", "image": "mesh:1", "restartPolicy": "Always"}],
    "podSecurityContext": {"runAsUser": 12345, "fsGroup": 12345},
    "containerSecurityContext": {
        "runAsUser": 12345, "runAsNonRoot": True, "readOnlyRootFilesystem": True, "privileged": False,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "resources": {
        "limits": {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": 1}, "requests": {"cpu": "2", "memory": "8Gi"},
    },
}  # fmt: skip


def test_the_init_container_runs_as_the_task_does_costs_nothing_and_may_nothing() -> None:
    config = Settings.model_validate(
        {"basePodTemplate": HARDENED, "injectionMethod": "initContainer", "bootstrapImagePullPolicy": "Always"}
    )
    manifest = render(task_with(image="python:3.12"), config)
    assert_kubernetes_takes(manifest)
    spec, main = pod_of(manifest), container_of(manifest)
    copier, mesh = spec["initContainers"]
    assert mesh["name"] == "mesh", "after ours, which needs no network"
    assert copier["image"] == config.injected_image and config.injected_image.startswith("podstrap/bootstrap:")
    assert copier["imagePullPolicy"] == "Always"
    assert copier["command"] == ["/opt/podstrap/bin/podstrap", "copy", "/podstrap/bootstrap"]
    assert copier["volumeMounts"] == [{"name": "podstrap-bootstrap", "mountPath": "/podstrap/bootstrap"}]
    assert copier["resources"] == {
        "limits": {"cpu": "2", "memory": "8Gi"}, "requests": {"cpu": "2", "memory": "8Gi"},
    }  # fmt: skip
    assert copier["securityContext"] == {
        "runAsUser": 12345, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
    }  # fmt: skip
    assert main["volumeMounts"][-1] == {"name": "podstrap-bootstrap", "mountPath": "/opt/podstrap", "readOnly": True}
    assert spec["volumes"][-1] == {"name": "podstrap-bootstrap", "emptyDir": {}}
    assert (spec["hostUsers"], spec["imagePullSecrets"]) == (False, [{"name": "registry"}])
    assert "resources" not in pod_of(render(task_with(image="python:3.12"), injections=COPY_ONLY))["initContainers"][0]


@pytest.mark.parametrize("image", ["podstrap/task:1", "python:3.12"])
def test_our_folders_place_is_nobodys_to_mount(image: str) -> None:
    over = {"volumeMounts": [{"name": "x", "mountPath": "/opt/podstrap/"}], "volumes": [{"name": "x", "emptyDir": {}}]}
    with pytest.raises(TemplateError, match="/opt/podstrap is podstrap's own"):
        render(task_with(image=image), queue=QueueSettings(template_overrides=over))
    with pytest.raises(TemplateError, match="podstrap"):
        render(task_with("-v /data:/opt/podstrap/lib", image), Settings(allowed_host_paths=("/data",)))


# A node whose runtime refuses the image volume


def refusing(way: str = IMAGE_VOLUME, attempt: int = 1, uid: str = "u1", **more: Any) -> JobFacts:
    found = job(attempt=attempt, uid=uid, **{"pods": (OLD_RUNTIME,), **more})
    return replace(found, annotations={labels.INJECTION: way, **more.get("annotations", {})})


def stopped_for(why: str) -> dict[str, str]:
    return {labels.STOPPED_BECAUSE: StopMark(Reason.IMAGE_VOLUME_REFUSED, f"no image volume: {why}").to_text()}


def real_render(one: Task, **more: Any) -> dict[str, Any]:
    return render(replace(one, container=task_with(image="python:3.12").container), **more)


def test_a_pod_whose_image_volume_is_refused_is_given_up_and_says_so() -> None:
    facts = state(task(), jobs=(refusing(),), q1="a", injections=BOTH)
    message, stop = decide(facts).actions
    assert isinstance(message, SetMessage) and "takes no image volume (CreateContainerError: failed" in message.message
    assert isinstance(stop, StopJob) and stop.why.startswith("no image volume: CreateContainerError")


def test_the_next_pod_copies_and_is_told_why_whatever_became_of_the_controller() -> None:
    """Only the Job's annotations are left: its pod is gone, and who stopped it was killed."""
    stopped = refusing(pods=(), stopped=True, annotations=stopped_for("CreateContainerError: x"))
    facts = state(task(), jobs=(stopped,), q1="a", injections=BOTH)
    (made,) = [one for one in decide(facts, render=real_render).actions if isinstance(one, CreateJob)]
    assert made.name == job_name("a", ADDED, 2)
    assert brought(dict(made.manifest)) == INIT_CONTAINER
    assert variables_of(dict(made.manifest))["PODSTRAP_INJECTION_NOTE"] == "CreateContainerError: x"


def test_a_refusal_is_none_of_the_attempts() -> None:
    once = settings(QueueSettings(max_attempts=1))
    stopped = refusing(pods=(), stopped=True, annotations=stopped_for("x"))
    facts = state(task(), jobs=(stopped,), q1="a", injections=BOTH)
    (made,) = [one for one in decide(facts, once, real_render).actions if isinstance(one, CreateJob)]
    assert variables_of(dict(made.manifest))["PODSTRAP_MAX_ATTEMPTS"] == "2", "it may run, once"
    copied = job(attempt=2, uid="u2", pods=(), end=JobEnd(False, "BackoffLimitExceeded"))
    again = state(task(), jobs=(stopped, copied), q1="a", injections=BOTH)
    assert created(decide(again, once)) == []


@pytest.mark.parametrize(
    ("reason", "message", "is_refusal"),
    [
        ("StartError", 'exec: "/opt/podstrap/bin/podstrap": stat /opt/podstrap/bin/podstrap: no such file', True),
        ("CreateContainerError", "ImageVolumeMountFailed: failed to ensure image subpath", True),
        ("CreateContainerConfigError", "path is empty", True),
        ("CreateContainerConfigError", 'secret "podstrap-clearml" not found', False),
        ("StartError", "nvidia-container-cli: initialization error", False),
        ("ErrImagePull", "podstrap/bootstrap:0.1.0: not found", False),
        ("OOMKilled", "", False),
    ],
)
def test_what_a_node_says_that_cannot_mount_our_image(reason: str, message: str, is_refusal: bool) -> None:
    waits = refusing(pods=(PodFacts("p", "p", waiting_reason=reason, waiting_message=message),))
    ended = refusing(pods=(PodFacts("p", "p", phase="Failed", exit_code=128, reason=reason, message=message),))
    for found in (waits, ended):
        assert bool(injection.refused(found)) is is_refusal
        copied = replace(found, annotations={labels.INJECTION: INIT_CONTAINER})
        assert injection.refused(copied) == "", "there is no image volume in it"


def test_a_pod_that_ended_since_the_folder_was_not_there_is_followed_by_one_that_copies() -> None:
    gone = PodFacts("p", "p", phase="Failed", exit_code=128, reason="StartError", message="stat /opt/podstrap/bin/x")
    over = refusing(pods=(gone,), end=JobEnd(False, "PodFailurePolicy"))
    assert created(decide(state(task(), jobs=(over,), q1="a", injections=BOTH))) == [("a", 2)]


def test_an_operator_who_wants_the_image_volume_keeps_it() -> None:
    fixed = settings(QueueSettings.model_validate({"injectionMethod": "imageVolume"}))
    facts = state(task(), jobs=(refusing(),), q1="a", injections=BOTH)
    (message,) = decide(facts, fixed).actions
    assert isinstance(message, SetMessage) and "the container cannot be created" in message.message


def test_a_task_that_runs_is_left_alone() -> None:
    began = PodFacts("p", "p", phase="Running", waiting_reason="CreateContainerError", waiting_message="stale")
    facts = state(task(), jobs=(refusing(pods=(began,)),), q1="a", injections=BOTH)
    assert not [one for one in decide(facts).actions if isinstance(one, StopJob)]
