"""A Job's whole life on simulated nodes: what happens to the task drives the Job, and the other way round."""

from __future__ import annotations

import json
import time

import pytest

from clearml_api import queues, tasks
from tests import support
from tests.cluster.conftest import World, job_reason, steps
from tests.cluster.kube import jobs, pods

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("nodes")]

RUN = ({"phase": "Running"}, {"call": "claim"}, {"seconds": 600})
WAITS = ({"waiting": {"reason": "ContainerCreating"}}, {"seconds": 600})


def test_a_task_runs_and_its_job_is_what_the_design_says(world: World) -> None:
    world.controller(steps({"phase": "Running"}, {"call": "bootstrap"}))
    task = world.enqueue("a name, with ümläuts")
    assert world.status(task, "completed").claim is not None
    (job,) = support.until(lambda: [one for one in world.jobs(task) if job_reason(one)])
    spec, labels = job["spec"], job["metadata"]["labels"]
    assert job_reason(job) == "Complete"
    assert (spec["backoffLimit"], spec["podReplacementPolicy"], spec["ttlSecondsAfterFinished"]) == (0, "Failed", 3600)
    rules = [(rule["action"], rule.get("onExitCodes", {}).get("values")) for rule in spec["podFailurePolicy"]["rules"]]
    assert rules == [("Ignore", None), ("Ignore", [75]), ("FailJob", [75])]
    assert labels["podstrap.io/task"] == task and labels["podstrap.io/queue"] == world.queue_id
    assert world.task(task).claim.job_uid == job["metadata"]["uid"]


@pytest.mark.parametrize("change", ["aborted", "reset", "deleted", "moved", "archived"])
def test_a_change_of_a_waiting_task_ends_its_job(world: World, change: str) -> None:
    world.controller(steps(*WAITS))
    task = world.enqueue()
    support.until(lambda: world.pods(task), 30, world.describe)
    if change == "aborted":
        world.session.call("tasks.stop", {"task": task})
    elif change == "reset":
        world.session.call("tasks.dequeue", {"task": task})
        world.session.call("tasks.reset", {"task": task, "force": True})
    elif change == "deleted":
        world.session.call("tasks.delete", {"task": task, "force": True})
    elif change == "moved":
        world.session.call("tasks.dequeue", {"task": task})
        tasks.enqueue(world.session, task, queues.create(world.session, f"other {world.namespace}"))
    else:
        world.session.call("tasks.archive", {"tasks": [task]})
        world.session.call("tasks.stop", {"task": task, "force": True})
    support.until(lambda: not world.jobs(task), 60, world.describe)
    assert not world.pods(task)


def test_a_task_enqueued_again_while_its_job_waits_gets_a_new_job(world: World) -> None:
    world.controller(steps(*WAITS))
    task = world.enqueue()
    (first,) = support.until(lambda: world.jobs(task), 30, world.describe)
    world.session.call("tasks.dequeue", {"task": task})
    tasks.enqueue(world.session, task, world.queue_id)
    (second,) = support.until(
        lambda: [one for one in world.jobs(task) if one["metadata"]["uid"] != first["metadata"]["uid"]],
        60,
        world.describe,
    )
    assert second["metadata"]["labels"]["podstrap.io/added"] != first["metadata"]["labels"]["podstrap.io/added"]


def test_a_running_pod_deleted_by_hand_is_followed_by_another(world: World) -> None:
    world.controller(steps(*RUN))
    task = world.enqueue()
    world.status(task, "in_progress")
    pod = world.pod(task)
    world.plane.kube.delete(pods(world.namespace, pod["metadata"]["name"]))
    support.until(lambda: world.task(task).claim.attempt == 2, 60, world.describe)
    (job,) = world.jobs(task)
    assert not job_reason(job) and job["status"].get("failed", 0) == 0


def test_a_job_deleted_by_hand_is_followed_by_another(world: World) -> None:
    world.controller(steps(*RUN))
    task = world.enqueue()
    first = world.status(task, "in_progress").claim
    (job,) = world.jobs(task)
    world.plane.kube.delete(jobs(world.namespace, job["metadata"]["name"]), propagationPolicy="Background")
    support.until(lambda: world.task(task).claim.attempt == 2, 60, lambda: world.describe(task))
    assert world.task(task).claim.job_uid != first.job_uid


def test_a_job_deleted_while_no_controller_ran_is_missed_by_the_next(world: World) -> None:
    first = world.controller(steps(*RUN))
    task = world.enqueue()
    world.status(task, "in_progress")
    first.kill9()
    (job,) = world.jobs(task)
    world.plane.kube.delete(jobs(world.namespace, job["metadata"]["name"]), propagationPolicy="Background")
    support.until(lambda: not world.pods(task) and not world.jobs(task), 60, world.describe)
    assert world.task(task).status == "in_progress"
    world.controller(steps(*RUN))
    support.until(lambda: world.task(task).claim.attempt == 2, 90, lambda: world.describe(task))


def test_a_deadline_fails_the_task(world: World) -> None:
    world.controller(steps(*RUN, activeDeadlineSeconds=3))
    task = world.enqueue()
    ended = world.status(task, "failed")
    assert "deadline" in ended.status_message and job_reason(world.jobs(task)[0]) == "DeadlineExceeded"


def test_a_finished_job_goes_by_its_ttl_and_the_task_stays_as_it_was(world: World) -> None:
    world.controller(steps({"phase": "Running"}, {"call": "bootstrap"}), ttlSecondsAfterFinished=1)
    task = world.enqueue()
    world.status(task, "completed")
    support.until(lambda: not world.jobs(task), 60, world.describe)
    time.sleep(3)
    assert world.task(task).status == "completed" and not world.jobs(task)


def test_preemption_by_priority_starts_the_task_again(world: World) -> None:
    """The one that is asked to go says 75; its Job waits for room and goes on."""
    kube, name = world.plane.kube, f"high-{world.namespace}"
    kube.create("/apis/scheduling.k8s.io/v1/priorityclasses", {"metadata": {"name": name}, "value": 1000})
    whole = {"resources": {"requests": {"cpu": "60"}}}
    small = {"podstrap.test/node": "simulated"}
    world.controller(steps(*RUN, templateOverrides={**whole, "nodeSelector": small}))
    tasks_of_ours = [world.enqueue(f"task {n}") for n in range(2)]
    for task in tasks_of_ours:
        world.status(task, "in_progress")
    spec = {
        "priorityClassName": name, "nodeSelector": small, "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "busybox", "resources": {"requests": {"cpu": "60"}}}],
    }  # fmt: skip
    kube.create(pods(world.namespace), {"metadata": {"name": "important", "annotations": {}}, "spec": spec})
    pod = support.until(
        lambda: (
            next((one for one in world.pods() if one["status"]["phase"] == "Failed"), None)
            or next(
                (one for task in tasks_of_ours for one in world.pods(task) if one["status"]["phase"] == "Pending"), None
            )
        ),
        60,
        world.describe,
    )
    assert pod
    kube.delete(pods(world.namespace, "important"), gracePeriodSeconds=0)
    support.until(lambda: sorted(world.task(one).claim.attempt for one in tasks_of_ours) == [1, 2], 90, world.describe)
    assert [world.task(one).status for one in tasks_of_ours] == ["in_progress", "in_progress"]


def test_a_namespace_that_terminates_loses_nothing(world: World) -> None:
    kube, other = world.plane.kube, f"{world.namespace}-jobs"
    kube.create("/api/v1/namespaces", {"metadata": {"name": other}})
    world.controller(steps(*RUN, namespace=other))
    task = world.enqueue()
    world.status(task, "in_progress")
    kube.delete(f"/api/v1/namespaces/{other}")
    support.until(lambda: kube.find(f"/api/v1/namespaces/{other}") is None, 90)
    world.message(task, f"namespace {other} does not exist", 60)
    assert world.task(task).status == "queued"
    kube.create("/api/v1/namespaces", {"metadata": {"name": other}})
    world.status(task, "in_progress", seconds=90)


def test_what_admission_refuses_stands_on_the_task_and_others_go_on(world: World) -> None:
    """A policy of the cluster: no Job of our second task's name."""
    kube = world.plane.kube
    rules = [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}]
    name = f"no-blocked-{world.namespace}"
    api = "/apis/admissionregistration.k8s.io/v1/"
    kube.create(api + "validatingadmissionpolicies", {
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail", "matchConstraints": {"resourceRules": rules},
            "validations": [{
                "expression": "!object.metadata.annotations['podstrap.io/task-name'].startsWith('blocked')",
                "message": "blocked tasks are not welcome here",
            }],
        },
    })  # fmt: skip
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}}}  # fmt: skip
    kube.create(api + "validatingadmissionpolicybindings", {"metadata": {"name": name}, "spec": binding})
    time.sleep(2)
    blocked = [world.enqueue(f"blocked {n}") for n in range(12)]
    free = world.enqueue("free")
    world.controller(steps({"phase": "Running"}, {"call": "bootstrap"}), maxPods=2)
    try:
        world.status(free, "completed", seconds=60)
        world.message(blocked[0], "blocked tasks are not welcome here")
        assert {world.task(one).status for one in blocked} == {"queued"}
    finally:
        kube.delete(api + f"validatingadmissionpolicybindings/{name}")
        kube.delete(api + f"validatingadmissionpolicies/{name}")
    world.status(blocked[0], "completed", seconds=90)


@pytest.mark.parametrize("what", ["quota", "service account", "pod security"])
def test_why_a_pod_cannot_be_made_stands_on_the_task(world: World, what: str) -> None:
    kube, over, words = world.plane.kube, {}, ""
    if what == "quota":
        quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
        kube.create(f"/api/v1/namespaces/{world.namespace}/resourcequotas", quota)
        words = "exceeded quota"
        support.until(lambda: kube.items(f"/api/v1/namespaces/{world.namespace}/resourcequotas")[0].get("status"))
    elif what == "service account":
        over, words = {"serviceAccountName": "nobody-of-that-name"}, "nobody-of-that-name"
    else:
        label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
        kube.patch(f"/api/v1/namespaces/{world.namespace}", label)
        words = "violates PodSecurity"
    world.controller(steps(*RUN, templateOverrides=over))
    task = world.enqueue()
    world.message(task, words, 40)
    assert world.task(task).status == "queued" and "its pod cannot be made" in world.task(task).status_message


def test_a_new_controller_repeats_nothing_that_was_told(world: World) -> None:
    """What was told stands on the Job: one line in the console, one Event, counted once, after three controllers."""
    too_much = steps(*RUN, templateOverrides={"resources": {"requests": {"memory": "9000Gi"}}})
    several: list[str] = []

    def told() -> bool:
        return all("podstrap.io/told" in world.jobs(one)[0]["metadata"]["annotations"] for one in several)

    for _ in range(3):
        process = world.controller(too_much, environ={"POD_NAME": "the same"}, reconcileSeconds=0.5)
        several.append(world.enqueue())  # once it is told of this one, it has looked at the others too
        world.message(several[-1], "unschedulable")
        support.until(told, 30, process.text)
        process.kill9()
    task = several[0]
    (event,) = world.events(task)
    assert (event["reason"], event["count"], event["type"]) == ("Unschedulable", 1, "Warning")
    assert support.console(world.session, task).count("podstrap: waiting: unschedulable") == 1


def test_what_is_told_again_is_counted_on_its_event_and_not_said_again(world: World) -> None:
    """An Event that stands there already is counted up: the note of its telling was lost."""
    world.controller(steps(*RUN, templateOverrides={"serviceAccountName": "nobody"}))
    task = world.enqueue()
    (event,) = support.until(lambda: world.events(task, "ServiceAccountMissing"), 40, world.describe)
    assert event["count"] == 1
    (job,) = world.jobs(task)
    path = jobs(world.namespace, job["metadata"]["name"])
    world.plane.kube.patch(path, {"metadata": {"annotations": {"podstrap.io/told": None}}})
    support.until(lambda: world.events(task)[0]["count"] == 2, 60, world.describe)
    assert support.console(world.session, task).count("podstrap: waiting: its pod cannot be made") == 1


def test_limits_hold_while_jobs_are_made_faster_than_watched(world: World) -> None:
    world.controller({**steps(*RUN), "queueSettings": {"maxPods": 3}})
    for number in range(10):
        world.enqueue(f"task {number}")
    support.until(lambda: len(world.jobs()) >= 3, 30, world.describe)
    time.sleep(3)
    assert len(world.jobs()) == 3, json.dumps([one["metadata"]["name"] for one in world.jobs()])
