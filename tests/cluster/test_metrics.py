"""/metrics of a controller on a real control plane, beside what really happened to its tasks."""

from __future__ import annotations

import re
import time

import pytest

from tests import support
from tests.cluster.conftest import World, steps
from tests.cluster.kube import pods
from tests.scraping import scrape, total

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("nodes")]

QUICK = ({"phase": "Running"}, {"call": "bootstrap"})
LONG = ({"phase": "Running"}, {"call": "claim"})


def metrics_of(world: World, *given: dict[str, object], **settings: object) -> tuple[str, support.Process]:
    address = f"127.0.0.1:{support.free_port()}"
    process = world.controller(steps(*given), "--metrics", address, **settings)  # type: ignore[arg-type]
    support.until(lambda: "started" in process.text(), 30, process.text)
    return address, process


def test_numbers_are_what_happened(world: World) -> None:
    address, process = metrics_of(world, *QUICK, maxPods=2)
    began = time.time()
    tasks = [world.enqueue(f"number {number}") for number in range(5)]
    for task in tasks:
        world.status(task, "completed")
    mine = f'queue="{world.queue}"'

    def settled() -> dict[str, float] | None:
        found = scrape(address)
        return found if total(found, "podstrap_jobs_ended_total", mine) == 5 else None

    found = support.until(settled, 30, process.text)
    assert total(found, "podstrap_jobs_created_total", mine) == len(world.jobs()) == 5
    assert total(found, "podstrap_jobs_ended_total", mine, 'outcome="completed"') == 5
    assert found[f'podstrap_jobs{{{mine},state="succeeded"}}'] == 5
    assert found["podstrap_places_free{}"] == 2 and found["podstrap_leader{}"] == 1
    assert found["podstrap_last_success_timestamp_seconds{}"] >= began
    waited = total(found, "podstrap_dispatch_seconds_sum", mine)
    assert total(found, "podstrap_dispatch_seconds_count", mine) == 5
    assert 0 < waited < 5 * (time.time() - began)
    for phase in ("pod scheduled", "pod started"):
        assert total(found, "podstrap_startup_seconds_count", mine, f'phase="{phase}"') == 5, phase
    requests = "podstrap_kubernetes_requests_total"
    made = total(found, requests, 'verb="create"', 'resource="jobs"', 'status="201"')
    assert made == 6, "five Jobs, and the dry run of the queue's template"
    for resource in ("jobs", "pods"):
        assert total(found, requests, 'verb="list"', f'resource="{resource}"', 'status="200"') == 1
    assert total(found, requests, 'resource="leases"') > 0
    resources = {re.search(r'resource="([^"]*)"', key)[1] for key in found if key.startswith(requests)}  # type: ignore[index]
    assert resources <= {"jobs", "pods", "pods/log", "events", "leases", "nodes", "version"}
    assert total(found, requests, 'status="unanswered"') == 0


def test_waiting_lost_and_refused_are_counted_by_their_reasons_and_are_right_again_after_a_restart(
    world: World,
) -> None:
    address, process = metrics_of(world, *LONG)
    mine, kube = f'queue="{world.queue}"', world.plane.kube
    task = world.enqueue("evicted")
    world.status(task, "in_progress")
    (pod,) = world.pods(task)
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod["metadata"]["name"]}}
    kube.create(f"{pods(world.namespace)}/{pod['metadata']['name']}/eviction", body)
    support.until(
        lambda: len(world.pods(task)) == 1 and world.pod(task)["metadata"]["uid"] != pod["metadata"]["uid"], 60
    )
    lost = "podstrap_pods_lost_total"
    support.until(lambda: total(scrape(address), lost, mine) == 1, 30, lambda: f"{scrape(address)}\n{process.text()}")
    assert total(scrape(address), "podstrap_jobs_ended_total", mine) == 0, "its Job goes on"
    assert process.stop() == 0

    nowhere = {"podstrap.test/node": "none"}
    settings = {"basePodTemplate": {"nodeSelector": nowhere}}
    second = f"127.0.0.1:{support.free_port()}"
    process = world.controller({}, "--metrics", second, **settings)
    waits = world.enqueue("unschedulable")
    world.message(waits, "unschedulable")
    refused = world.enqueue("refused", container={"arguments": "--privileged"})
    world.message(refused, "privileged")

    def seen() -> dict[str, float] | None:
        found = scrape(second)
        blocked = found.get(f'podstrap_queue_entries{{{mine},state="blocked"}}')
        return found if blocked and total(found, "podstrap_jobs_waiting", mine) else None

    found = support.until(seen, 30, process.text)
    assert found[f'podstrap_jobs{{{mine},state="running"}}'] == 1, "that of the controller before"
    assert found[f'podstrap_jobs_waiting{{{mine},reason="Unschedulable"}}'] == 1
    assert found[f'podstrap_queue_waiting{{{mine},reason="TemplateInvalid"}}'] == 1
    assert found[f'podstrap_queue_entries{{{mine},state="starting"}}'] == 1
    assert total(found, lost) == 0, "counters begin anew"


def test_one_of_two_replicas_shows_the_queues_and_an_outage_is_seen(world: World) -> None:
    first, _ = metrics_of(world, *QUICK)
    support.until(lambda: scrape(first)["podstrap_leader{}"] == 1, 30)
    second = f"127.0.0.1:{support.free_port()}"
    world.controller(steps(*QUICK), "--metrics", second, environ={"POD_NAME": "second"})
    support.until(lambda: "podstrap_leader{}" in _or_empty(second), 30)
    assert scrape(second)["podstrap_leader{}"] == 0
    assert total(scrape(first), "podstrap_jobs") == 0 and any("podstrap_jobs{" in key for key in scrape(first))
    assert not any(key.startswith(("podstrap_jobs{", "podstrap_queue_")) for key in scrape(second))
    world.plane.pause("kube-apiserver")
    try:
        failing = 'podstrap_kubernetes_requests_total{resource="leases",status="unanswered",verb='
        support.until(lambda: any(key.startswith(failing) for key in scrape(first)), 60, lambda: str(scrape(first)))
    finally:
        world.plane.resume("kube-apiserver")
    task = world.enqueue()
    world.status(task, "completed")


def _or_empty(address: str) -> dict[str, float]:
    try:
        return scrape(address)
    except OSError:
        return {}
