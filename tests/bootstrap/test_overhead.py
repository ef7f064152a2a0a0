"""What bootstrap costs beside a task that does nothing, with the intervals of production."""

from __future__ import annotations

import time

import psutil
import pytest

from protocol import environment as names
from tests import support

SECONDS = 25.0


@pytest.mark.slow
def test_beside_a_resting_task_bootstrap_takes_next_to_nothing(api, queued, start) -> None:
    task = queued("import time\nprint('running', flush=True)\ntime.sleep(600)")
    pod = start(task, **{names.POLL_SECONDS: "", names.SAMPLE_SECONDS: ""})
    support.until(lambda: "running" in support.console(api, task), 30, pod.output)
    time.sleep(3)  # the modules that the first sample imports are no rest
    process = psutil.Process(pod.process.pid)
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(SECONDS)
    after, passed = process.cpu_times(), time.monotonic() - began
    share = (after.user + after.system - before.user - before.system) / passed
    assert share < 0.01, f"{share:.1%} of a core"
    assert process.memory_info().rss < 40 << 20
