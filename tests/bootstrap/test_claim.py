"""The claim protocol, with real pods on a real server: who wins, who goes on, who leaves the task alone."""

from __future__ import annotations

import json

from clearml_api import queues, tasks
from protocol.claim import RUNTIME_KEY, Claim
from protocol.termination import Outcome
from tests import support

QUICK = "print('ran once')"


def test_of_two_pods_one_runs_and_the_other_runs_nothing(api, queued, start) -> None:
    task = queued(QUICK)
    pods = [start(task) for _ in range(3)]
    assert [pod.wait() for pod in pods] == [0, 0, 0]
    outcomes = sorted(pod.message().outcome.value for pod in pods)
    assert outcomes == ["claim-lost", "claim-lost", "completed"]
    assert support.task(api, task).status == "completed"
    assert support.console(api, task).count("ran once") == 1


def test_the_claim_is_five_requests_and_stands_on_the_task(api, queued, start) -> None:
    task = queued(QUICK)
    pod = start(task, job="the-job", PODSTRAP_ATTEMPT="2")
    assert pod.wait() == 0
    claim = support.task(api, task).claim
    assert claim is not None
    assert (claim.job_uid, claim.attempt, claim.node) == ("the-job", 2, "node-0")
    assert pod.message().reported


def test_the_next_pod_of_the_same_job_goes_on(api, queue, queued, start) -> None:
    task = queued(QUICK)
    assert queues.remove_task(api, queue, task)
    before = Claim("the-job", 1, "pod-before", node="node-before")
    tasks.edit_runtime(api, task, {RUNTIME_KEY: before.to_text()})
    tasks.started(api, task)
    pod = start(task, job="the-job")
    assert pod.wait() == 0
    claim = support.task(api, task).claim
    assert claim is not None and claim.attempt == 2
    text = support.console(api, task)
    assert "attempt 2 of 3" in text
    assert "attempt 1 (pod pod-before on node node-before) was taken away" in text


def test_a_pod_of_another_job_does_not_go_on(api, queue, queued, start) -> None:
    task = queued(QUICK)
    assert queues.remove_task(api, queue, task)
    tasks.edit_runtime(api, task, {RUNTIME_KEY: Claim("other-job", 1, "p").to_text()})
    tasks.started(api, task)
    pod = start(task, job="the-job")
    assert pod.wait() == 0
    assert pod.message().outcome is Outcome.CLAIM_LOST
    assert support.task(api, task).status == "in_progress"
    assert "other-job" in pod.output()


def test_an_orphan_without_a_claim_is_left_to_the_controller(api, queue, queued, start) -> None:
    task = queued(QUICK)
    assert queues.remove_task(api, queue, task)
    pod = start(task)
    assert pod.wait() == 0
    assert pod.message().outcome is Outcome.CLAIM_LOST
    assert support.task(api, task).status == "queued"


def test_beyond_the_last_attempt_nothing_runs_and_the_history_is_told(api, queue, queued, start) -> None:
    task = queued(QUICK)
    assert queues.remove_task(api, queue, task)
    last = Claim("the-job", 3, "third", history=("attempt 1 was taken away", "attempt 2 was taken away"))
    tasks.edit_runtime(api, task, {RUNTIME_KEY: last.to_text()})
    tasks.started(api, task)
    pod = start(task, job="the-job")
    assert pod.wait() == 1
    ended = support.task(api, task)
    assert ended.status == "failed"
    assert "3 attempts" in ended.status_message
    assert "attempt 2 was taken away" in ended.status_message
    assert "ran once" not in support.console(api, task)


def test_a_deleted_task_is_no_error(api, queued, start) -> None:
    task = queued(QUICK)
    api.call("tasks.delete", {"task": task, "force": True})
    pod = start(task)
    assert pod.wait() == 0
    assert pod.message().outcome is Outcome.CLAIM_LOST


def test_wrong_keys_fail_the_pod_with_words_and_without_the_secret(api, queued, start) -> None:
    task = queued(QUICK)
    pod = start(task, CLEARML_API_SECRET_KEY="a-very-wrong-secret")
    assert pod.wait() == 1
    assert "refuses the access key" in pod.message().reason
    assert "a-very-wrong-secret" not in pod.output() + pod.message().to_text()
    assert support.task(api, task).status == "queued", "the task waits where it was"


def test_a_queue_that_does_not_start_again_what_was_taken_away_is_obeyed_by_the_next_pod(
    api, queue, queued, start
) -> None:
    """The node took the first pod without a word; the Job, which knows no such policy, made another."""
    task = queued(QUICK)
    assert queues.remove_task(api, queue, task)
    tasks.edit_runtime(api, task, {RUNTIME_KEY: Claim("the-job", 1, "pod-before").to_text()})
    tasks.started(api, task)
    assert start(task, job="the-job", PODSTRAP_ON_DISRUPTION="fail").wait() != 0
    ended = support.task(api, task)
    assert (ended.status, ended.status_reason) == ("failed", "disrupted")
    assert "pod-before" in ended.status_message and "onDisruption: fail" in ended.status_message


def test_the_claim_goes_on_counting_from_what_the_job_tells(api, queued, start) -> None:
    task = queued(QUICK)
    lines = ["attempt 1: exit code 3", 'attempt 2: evicted: "$(HOME)"']
    told = {"PODSTRAP_ATTEMPT": "3", "PODSTRAP_FAILURES": "1", "PODSTRAP_HISTORY": json.dumps(lines)}
    assert start(task, job="the-job", **told).wait() == 0
    claim = support.task(api, task).claim
    assert claim and (claim.attempt, claim.failures, claim.history) == (3, 1, tuple(lines))


def test_a_failure_that_is_tried_again_is_left_to_the_controller(api, queued, start) -> None:
    task = queued("raise SystemExit(3)")
    pod = start(task, job="the-job", PODSTRAP_RETRIES_LEFT="1")
    assert pod.wait() == 3
    assert support.task(api, task).status == "in_progress", "nobody who watches the task may see it fail in between"
    said = pod.message()
    assert (said.outcome, said.reason, said.reported) == (Outcome.FAILED, "exit code 3", False)
    assert "retryOwnFailures" in support.console(api, task)
