"""The real clearml SDK inside the task: its abort callback, its writes to the runtime, its console."""

from __future__ import annotations

import sysconfig

from tests import support

HEAD = f"""
import sys
sys.path.append({sysconfig.get_paths()["purelib"]!r})
import time
from clearml import Task
task = Task.init()
"""


def test_the_abort_callback_runs_to_its_end_before_the_task_is_ended(api, queued, start) -> None:
    code = (
        HEAD
        + """
def bye():
    print("callback begins", flush=True)
    time.sleep(2)
    print("callback done", flush=True)
task.register_abort_callback(bye, callback_execution_timeout=20)
print("running", flush=True)
time.sleep(600)
"""
    )
    task = queued(code)
    pod = start(task, PODSTRAP_GRACE_SECONDS="20")
    support.until(lambda: "running" in support.console(api, task).splitlines(), 60, pod.output)
    assert support.task(api, task).claim is not None, "the SDK's own writes to the runtime keep the claim"
    support.until(lambda: support.task(api, task).last_worker, 20, pod.output)
    api.call("tasks.stop", {"task": task})
    assert pod.wait(45) == 0
    found = support.task(api, task)
    text = support.console(api, task)
    assert found.status == "stopped", f"{found}\n{text}"
    lines = text.splitlines()
    assert lines.count("callback done") == 1, "waited for"
    assert lines.count("running") == 1, "the SDK does not ship the console a second time"
