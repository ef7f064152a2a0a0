"""/metrics as Prometheus reads it, beside the facts that the numbers were made from."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from urllib.error import HTTPError

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from clearml_api.models import QueueEntry, Task
from controller import pages, telemetry_metrics
from controller.actions import CreateJob
from controller.health import Health
from controller.notes import StopMark
from controller.plan import plan
from controller.reasons import Reason
from controller.settings import Settings
from controller.settings_queue import QueueLimits, QueueSettings
from controller.state import JobEnd, JobFacts, QueueFacts, State
from controller.telemetry import Telemetry
from protocol import labels
from protocol.errors import ConfigError, PodstrapError
from protocol.names import added_millis
from protocol.termination import Outcome
from protocol.timeline import TIMELINE
from tests import scraping
from tests.controller.test_plan import ADDED, COMPLETE, FAILED, NOW, ended, job, pod
from tests.controller.test_plan_machine import render
from tests.support import free_port

SETTINGS = Settings(
    queues={
        "one": QueueSettings(queue_settings=QueueLimits(max_pods=3)),
        "two": QueueSettings(),
        "gone": QueueSettings(),
    },
    max_pods=5,
)


def numbers(telemetry: Telemetry) -> dict[str, float]:
    """Series as PromQL writes them -> value."""
    return scraping.numbers(telemetry.text()[0].decode())


def state(*jobs: JobFacts, tasks: Mapping[str, Task] | None = None, **more: object) -> State:
    found = {"queues": (QueueFacts("one", "q1"), QueueFacts("two", "q2")), **more}
    tasks = tasks or {}
    return State(NOW, jobs=jobs, tasks=tasks, asked=frozenset(tasks), **found)  # type: ignore[arg-type]


def told(telemetry: Telemetry, *states: State, settings: Settings = SETTINGS) -> dict[str, float]:
    """After these rounds."""
    for one in states:
        telemetry.leads(True)
        telemetry.decided(one, settings, plan(one, settings, render))
        telemetry.round_over(0.2)
    return numbers(telemetry)


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry("1.2", "mine", clock=lambda: NOW.timestamp())


def over(said: Outcome | None = None, end: JobEnd = FAILED, **more: object) -> JobFacts:
    """The Job of `job()` once it is over."""
    last = ended(0 if said is Outcome.COMPLETED else 1, **({"said": said} if said else {}), **more)
    return job(pods=(last,), end=end)


def test_entries_are_counted_by_what_becomes_of_them(telemetry: Telemetry) -> None:
    names = ("runs", "refused", "later", "last")
    entries = tuple(QueueEntry(name, NOW - timedelta(seconds=60 * (4 - i))) for i, name in enumerate(names))
    queue = QueueFacts("one", "q1", entries, complete=False, depth=70)
    tasks = {name: Task(name, status="queued") for name in names[:3]}

    def picky(task: Task, **words: object) -> dict[str, object]:
        if task.id == "refused":
            raise PodstrapError("no such template")
        return render(task, **words)  # type: ignore[arg-type, no-any-return]

    busy = job("runs", added=entries[0].added, pods=(pod(phase="Pending"),))
    settings = Settings(queues={"one": QueueSettings(queue_settings=QueueLimits(max_pods=1))})
    for _ in range(2):  # the second round finds the reasons on the tasks already, and says no less
        one = state(busy, tasks=tasks, queues=(queue,))
        telemetry.decided(one, settings, plan(one, settings, picky))  # type: ignore[arg-type]
        tasks = {name: replace(task, status_message="waiting: somehow") for name, task in tasks.items()}
    found = numbers(telemetry)
    assert found['podstrap_queue_entries{queue="one",state="starting"}'] == 1
    assert found['podstrap_queue_entries{queue="one",state="blocked"}'] == 0
    assert found['podstrap_queue_entries{queue="one",state="waiting"}'] == 69
    assert found['podstrap_queue_waiting{queue="one",reason="QueueFull"}'] == 2
    assert found['podstrap_queue_oldest_waiting_seconds{queue="one"}'] == 180
    assert found['podstrap_queue_places_free{queue="one"}'] == 0
    assert found["podstrap_places_free{}"] == float("inf")

    roomy = Settings(queues={"one": QueueSettings()})
    one = state(busy, tasks=tasks, queues=(queue,))
    telemetry.decided(one, roomy, plan(one, roomy, picky))  # type: ignore[arg-type]
    found = numbers(telemetry)
    assert found['podstrap_queue_waiting{queue="one",reason="TemplateInvalid"}'] == 1
    assert found['podstrap_queue_entries{queue="one",state="blocked"}'] == 1
    assert found['podstrap_queue_entries{queue="one",state="waiting"}'] == 68
    assert 'podstrap_queue_waiting{queue="one",reason="QueueFull"}' not in found, "a reason that is gone is gone"


def test_places_and_jobs_are_those_of_the_round(telemetry: Telemetry) -> None:
    waits = pod(phase="Pending", waiting_reason="ErrImagePull", waiting_message="x: not found")
    jobs = (
        job("a", uid="1"),
        job("b", uid="2", pods=(waits,)),
        job("c", uid="3", queue="q2", pods=(pod(deleting=True),), deleting=True),
        job(
            "d", uid="4", queue="q9", annotations={labels.QUEUE_NAME: "of old settings"}, end=COMPLETE, pods=(ended(0),)
        ),
    )
    paused = SETTINGS.model_copy(update={"queues": {**SETTINGS.queues, "two": QueueSettings(paused=True)}})
    found = told(telemetry, state(*jobs), settings=paused)
    assert found["podstrap_places_free{}"] == 2
    assert found['podstrap_queue_places_free{queue="one"}'] == 1
    assert found['podstrap_queue_places_free{queue="two"}'] == 0
    assert found['podstrap_queue_paused{queue="two"}'] == 1
    assert found['podstrap_queue_missing{queue="gone"}'] == 1 and found['podstrap_queue_missing{queue="one"}'] == 0
    states = {key: value for key, value in found.items() if key.startswith("podstrap_jobs{") and value}
    assert states == {
        'podstrap_jobs{queue="one",state="running"}': 1,
        'podstrap_jobs{queue="one",state="pending"}': 1,
        'podstrap_jobs{queue="two",state="stopping"}': 1,
        'podstrap_jobs{queue="of old settings",state="succeeded"}': 1,
    }
    assert found['podstrap_jobs_waiting{queue="one",reason="ImageNotFound"}'] == 1


def stopped_for(word: Reason) -> JobFacts:
    """The Job that we stopped because its pod did not start."""
    mark = StopMark(word, "it waited too long", pod="p", at=NOW)
    return job(pods=(), stopped=True, annotations={labels.STOPPED_BECAUSE: mark.to_text()})


@pytest.mark.parametrize(
    ("before", "after", "series"),
    [
        (job(), over(Outcome.COMPLETED, COMPLETE), 'cause="none",outcome="completed",queue="one",reason="Completed"'),
        (job(), over(Outcome.STOPPED), 'cause="none",outcome="stopped",queue="one",reason="Aborted"'),
        (job(), over(Outcome.FAILED), 'cause="task",outcome="failed",queue="one",reason="TaskFailed"'),
        (job(), over(Outcome.CLAIM_LOST, COMPLETE), 'cause="none",outcome="claim-lost",queue="one",reason="ClaimLost"'),
        (job(), over(reason="OOMKilled"), 'cause="task",outcome="failed",queue="one",reason="OOMKilled"'),
        (job(), over(reason="Evicted"), 'cause="infrastructure",outcome="disrupted",queue="one",reason="Evicted"'),
        (job(pods=(pod(phase="Pending"),)), job(pods=(), stopped=True),
         'cause="none",outcome="withdrawn",queue="one",reason="JobStopped"'),
        (job(pods=(pod(phase="Pending"),)), stopped_for(Reason.PENDING_TIMEOUT),
         'cause="config",outcome="failed",queue="one",reason="PendingTimeout"'),
        (job(pods=(pod(phase="Pending"),)), stopped_for(Reason.IMAGE_PULL_FAILED),
         'cause="infrastructure",outcome="disrupted",queue="one",reason="ImagePullFailed"'),
        (None, over(Outcome.COMPLETED, COMPLETE), 'cause="none",outcome="completed",queue="one",reason="Completed"'),
    ],
)  # fmt: skip
def test_each_end_is_counted_once_with_its_reason(
    before: JobFacts | None, after: JobFacts, series: str, telemetry: Telemetry
) -> None:
    first = state(*([before] if before else []))
    found = told(telemetry, first, state(after), state(replace(after)))
    assert {key: value for key, value in found.items() if key.startswith("podstrap_jobs_ended_total")} == {
        f"podstrap_jobs_ended_total{{{series}}}": 1
    }


def test_what_ended_before_this_process_began_is_not_counted_again(telemetry: Telemetry) -> None:
    done = over(reason="Evicted")
    found = told(telemetry, state(done), state(replace(done)))
    assert not any(key.startswith("podstrap_jobs_ended_total") for key in found)
    assert found['podstrap_pods_lost_total{queue="one",reason="Evicted"}'] == 0, "it is there before it counts"


def test_pods_that_the_infrastructure_took_are_counted_though_their_job_goes_on(telemetry: Telemetry) -> None:
    first = replace(pod(), uid="p1", created=NOW)
    gone = replace(first, phase="Failed", disruption="EvictionByEvictionAPI")
    second = replace(pod(), uid="p2", created=NOW)
    failed = replace(second, phase="Failed", exit_code=3, termination=pod(said=Outcome.FAILED).termination)
    found = told(
        telemetry,
        state(job(pods=(first,))),
        state(job(pods=(gone, second))),
        state(job(pods=(gone, failed), end=FAILED)),
    )
    assert found['podstrap_pods_lost_total{queue="one",reason="Evicted"}'] == 1
    assert sum(value for key, value in found.items() if key.startswith("podstrap_pods_lost_total")) == 1


def test_a_pods_start_is_timed_step_by_step(telemetry: Telemetry) -> None:
    created, chosen, began = ADDED, ADDED + timedelta(seconds=2), ADDED + timedelta(seconds=9)
    steps = [
        pod(phase="Pending"),
        pod(phase="Pending", scheduled=chosen),
        pod(scheduled=chosen, started=began),
        pod(scheduled=chosen, started=began),
    ]
    found = told(telemetry, *(state(job(created=created, pods=(one,))) for one in steps))
    assert found['podstrap_startup_seconds_sum{phase="pod scheduled",queue="one"}'] == 2
    assert found['podstrap_startup_seconds_count{phase="pod scheduled",queue="one"}'] == 1
    assert found['podstrap_startup_seconds_sum{phase="pod started",queue="one"}'] == 7


def with_timeline(text: str) -> dict[str, Task]:
    return {"a": Task("a", status="in_progress", hyperparams={"properties": {TIMELINE: {"value": text}}})}


def test_bootstraps_own_seconds_are_read_from_the_task_once(telemetry: Telemetry) -> None:
    phases = {
        "queued": 1.0,
        "pod": 2.0,
        "start": 0.25,
        "claim": 0.05,
        "repository": 3.0,
        "environment": 0.5,
        "first line": 4,
    }
    text = json.dumps(phases)
    old = with_timeline(json.dumps({**phases, "claim": 99}))
    found = told(telemetry, state(job(), tasks=old), *[state(replace(job()), tasks=with_timeline(text))] * 2)
    assert found['podstrap_claim_seconds_count{queue="one"}'] == 1
    assert found['podstrap_claim_seconds_sum{queue="one"}'] == pytest.approx(3.3)
    for phase in ("start", "claim", "repository", "environment", "first line"):
        assert found[f'podstrap_startup_seconds_sum{{phase="{phase}",queue="one"}}'] == phases[phase]
    assert found['podstrap_startup_seconds_count{phase="repository",queue="one"}'] == 1


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '"x"', "[" * 4000, '{"claim": 1' + "0" * 400 + "}", '{"claim": 0.1, "x": "' + "y" * 5000 + '"}',
        '{"claim": "soon", "start": NaN, "environment": -1, "first line": 1e99, "evil": 1, "repository": true}',
    ],
)  # fmt: skip
def test_a_timeline_that_somebody_else_wrote_counts_nothing(text: str, telemetry: Telemetry) -> None:
    found = told(telemetry, state(job(), tasks=with_timeline("")), state(replace(job()), tasks=with_timeline(text)))
    assert not any(key.startswith(("podstrap_startup_seconds", "podstrap_claim")) for key in found)


def test_dispatch_is_the_time_between_enqueueing_and_job(telemetry: Telemetry) -> None:
    told(telemetry, state())
    manifest = {"metadata": {"labels": {labels.ADDED: str(added_millis(NOW - timedelta(seconds=7)))}}}
    for result in ("refused", "done"):
        telemetry.acted(CreateJob("a", "q1", "job-a", 1, manifest), result)
    found = numbers(telemetry)
    assert found['podstrap_jobs_created_total{queue="one"}'] == 1
    assert found['podstrap_dispatch_seconds_sum{queue="one"}'] == pytest.approx(7)
    assert found['podstrap_dispatch_seconds_bucket{le="5.0",queue="one"}'] == 0
    assert found['podstrap_dispatch_seconds_bucket{le="10.0",queue="one"}'] == 1
    assert found['podstrap_actions_total{action="CreateJob",result="refused"}'] == 1


def test_only_the_leader_shows_queues_so_that_a_sum_counts_nothing_twice(telemetry: Telemetry) -> None:
    found = told(telemetry, state(job()))
    assert found["podstrap_leader{}"] == 1 and found['podstrap_jobs{queue="one",state="running"}'] == 1
    telemetry.leads(False)
    found = numbers(telemetry)
    assert found["podstrap_leader{}"] == 0
    assert not any(key.startswith(("podstrap_jobs{", "podstrap_queue", "podstrap_places")) for key in found)


def test_failed_rounds_are_told_and_the_last_success_stays(telemetry: Telemetry) -> None:
    assert numbers(telemetry)["podstrap_last_success_timestamp_seconds{}"] == 0
    telemetry.round_over(0.1)
    telemetry.round_over(3.0, "ApiUnreachable")
    found = numbers(telemetry)
    assert found["podstrap_last_success_timestamp_seconds{}"] == NOW.timestamp()
    assert found['podstrap_round_failures_total{error="ApiUnreachable"}'] == 1
    assert found["podstrap_round_seconds_count{}"] == 2


def test_a_refused_settings_file_is_seen_until_one_is_taken(telemetry: Telemetry) -> None:
    telemetry.settings_taken(False)
    found = numbers(telemetry)
    assert found["podstrap_settings_last_reload_successful{}"] == 0 and found["podstrap_settings_generation{}"] == 1
    telemetry.settings_taken(True)
    found = numbers(telemetry)
    assert found["podstrap_settings_last_reload_successful{}"] == 1 and found["podstrap_settings_generation{}"] == 2
    assert found['podstrap_settings_reloads_total{result="refused"}'] == 1


def test_what_is_served_is_what_the_table_says(telemetry: Telemetry) -> None:
    told(telemetry, state(job()))
    families = {one.name: one for one in text_string_to_metric_families(telemetry.text()[0].decode())}
    for metric in telemetry_metrics.METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.about)
    own = {name for name in families if name.startswith("podstrap_")}
    assert own == {metric.name.removesuffix("_total") for metric in telemetry_metrics.METRICS}
    assert "process_resident_memory_bytes" in families
    assert not any("task" in label or "job" in label for metric in telemetry_metrics.METRICS for label in metric.labels)


@pytest.fixture
def served(telemetry: Telemetry) -> Iterator[str]:
    port = free_port()
    found = {**pages.of_health(Health()), **pages.of_metrics(telemetry.text)}
    server = pages.serve(found, f"127.0.0.1:{port}")
    yield f"http://127.0.0.1:{port}"
    server.shutdown()
    server.server_close()


def test_one_port_serves_probes_and_metrics_in_the_form_that_is_asked_for(served: str, telemetry: Telemetry) -> None:
    told(telemetry, state(job()))
    asked = urllib.request.Request(
        f"{served}/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}
    )
    with urllib.request.urlopen(asked) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert {one.name for one in openmetrics(answer.read().decode())} >= {"podstrap_leader", "podstrap_jobs_ended"}
    with urllib.request.urlopen(f"{served}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
    with urllib.request.urlopen(f"{served}/healthz") as answer:
        assert answer.read() == b"ok\n"
    for path, status, words in (("/readyz", 503, "no round yet"), ("/", 404, "/healthz, /readyz, /metrics")):
        with pytest.raises(HTTPError) as caught:
            urllib.request.urlopen(served + path)
        assert caught.value.code == status and words in caught.value.read().decode()


def test_an_address_that_cannot_be_had_is_told(served: str, telemetry: Telemetry) -> None:
    for address in (served.removeprefix("http://"), "nonsense"):
        with pytest.raises(ConfigError, match="/metrics"):
            pages.serve(pages.of_metrics(telemetry.text), address)
