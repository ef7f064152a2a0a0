"""Exit codes with a meaning, for the pod (`podstrap bootstrap`) and for the shell (`podstrap ...`).

DISRUPTED is the one code that a Job's podFailurePolicy ignores, so the Job makes another pod
(https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy). 75 is EX_TEMPFAIL of
sysexits.h: "temporary failure, try again". A task's own 75 leaves the pod as 1; its true code stands on the task.
"""

from __future__ import annotations

OK = 0
"""Done."""
FAILED = 1
"""It could not be done; the error says why."""
USAGE = 2
"""The command line makes no sense."""
DISRUPTED = 75
"""The infrastructure took the pod away; start the task again elsewhere."""

DRAIN_TIMEOUT = 4
"""`controller --drain --timeout S`: the time was over before the queues were empty."""
INTERRUPTED = 130
"""Stopped (SIGTERM, SIGINT) before the queues were empty."""


def of_process(returncode: int) -> int:
    """A process's code as a shell would give it: 128+N for one ended by signal N (subprocess: -N)."""
    return 128 - returncode if returncode < 0 else returncode


def of_pod(task_exit_code: int) -> int:
    """The pod's exit code for a task's own: the same, except that 75 is ours and becomes 1."""
    return FAILED if task_exit_code == DISRUPTED else task_exit_code
