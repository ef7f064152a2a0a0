"""What a controller on this machine counts, beside what its pods told and what the server was asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clearml_api import tasks
from clearml_api.session import Session
from protocol.timeline import TIMELINE, until_claimed
from tests import support
from tests.scraping import scrape, total

SETTINGS = "{{pollSeconds: 0.3, reconcileSeconds: 1, maxPods: 1, queues: {{'{queue}': {{}}, nowhere: {{}}}}}}"


@pytest.mark.usefixtures("world")
def test_a_start_is_counted_as_its_pod_timed_it(server_environ: dict[str, str], api: Session, tmp_path: Path) -> None:
    queue, address = f"metrics-{tmp_path.name}", f"127.0.0.1:{support.free_port()}"
    queue_id = support.queue_id(api, queue)
    words = ("--metrics", address, "--health", address, "--state", str(tmp_path / "state"))
    controller = support.controller(server_environ, SETTINGS.format(queue=queue), tmp_path, *words)
    controller.start()
    try:
        task = support.create_task(api, "timed", "print('hello')")
        behind = support.create_task(api, "behind", "print('hello')")
        for one in (task, behind):
            tasks.enqueue(api, one, queue_id)
        for one in (task, behind):
            assert support.ended(api, one, log=controller).status == "completed"
        mine = f'queue="{queue}"'

        def counted() -> dict[str, float] | None:
            found = scrape(address)
            both = ("podstrap_claim_seconds_count", "podstrap_jobs_ended_total")
            return found if all(total(found, name, mine) == 2 for name in both) else None

        found = support.until(counted, 30, lambda: f"{scrape(address)}\n{controller.text()}")
    finally:
        controller.stop()
    told = [_timeline(api, one) for one in (task, behind)]
    for phase in ("start", "claim", "repository", "environment", "first line"):
        summed = total(found, "podstrap_startup_seconds_sum", mine, f'phase="{phase}"')
        assert summed == pytest.approx(sum(one[phase] for one in told), abs=0.01), phase
    claims = sum(until_claimed(one) or 0.0 for one in told)
    assert total(found, "podstrap_claim_seconds_sum", mine) == pytest.approx(claims, abs=0.01)
    assert total(found, "podstrap_dispatch_seconds_count", mine) == 2
    assert total(found, "podstrap_jobs_ended_total", mine, 'outcome="completed"', 'reason="Completed"') == 2
    assert found['podstrap_queue_missing{queue="nowhere"}'] == 1
    assert total(found, "podstrap_clearml_requests_total", 'call="auth.login"', 'status="200"') == 1
    polls = total(found, "podstrap_clearml_requests_total", 'call="queues.get_all"', 'status="200"')
    assert polls == total(found, "podstrap_clearml_request_seconds_count", 'call="queues.get_all"') > 2
    assert not [key for key in found if task in key or behind in key]


def _timeline(session: Session, task: str) -> dict[str, float]:
    properties = support.task(session, task).hyperparams["properties"]
    found: dict[str, float] = json.loads(properties[TIMELINE]["value"])
    return found
