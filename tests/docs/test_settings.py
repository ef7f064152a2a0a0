"""The settings on the pages are taken by the controller, and a task of each queue becomes a Job by them."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from clearml_api.models import task_of
from controller import job_template, settings_file
from tests.docs import pages
from tests.docs.pages import Block

TASK = task_of({"id": "a" * 32, "name": "one", "type": "training", "status": "queued"})


@pytest.mark.parametrize("block", pages.all_blocks("settings"), ids=lambda one: one.place)
def test_the_controller_takes_a_pages_settings(block: Block) -> None:
    settings = settings_file.load_text(block.text, block.place)
    now = datetime.now(timezone.utc)
    assert settings.queues, f"{block.place} names no queue: show it with one"
    for name, queue in settings.queues.items():
        job = job_template.render(
            TASK, queue_id="b" * 32, queue_name=name, added=now, attempt=1, settings=settings, queue=queue, now=now
        )
        assert job["kind"] == "Job"
