"""The Job's name is the cluster's claim on a queue entry: the same entry and attempt always give the same name.

A task that is reset and enqueued again has a new `added`, so it gets a new Job. Creating a Job whose name exists
answers AlreadyExists, which means "done" only when that Job's labels name the same task, entry and attempt.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime

MAX_JOB_NAME = 63
"""Kubernetes copies a Job's name into a label of its pods: 63 characters at most."""
_NOT_DNS = re.compile(r"[^a-z0-9-]+")


def added_millis(added: datetime) -> int:
    """A queue entry's `added` as whole milliseconds since the epoch, as the ADDED label carries it."""
    return round(added.timestamp() * 1000)


def job_name(task_id: str, added: datetime, attempt: int, prefix: str = "podstrap") -> str:
    """`podstrap-TASKID-ENTRY-ATTEMPT`, a valid DNS label of at most 63 characters.

    ENTRY is eight hexadecimal digits of the hash of (task id, added). A task id that is not plain lower-case
    letters and digits (ClearML's are 32 hexadecimal digits) is cleaned and shortened; the hash keeps it unique.
    """
    entry = hashlib.sha256(f"{task_id}/{added_millis(added)}".encode()).hexdigest()[:8]
    tail = f"-{entry}-{attempt}"
    clean = _NOT_DNS.sub("-", task_id.lower()).strip("-") or "task"
    lead = _NOT_DNS.sub("-", prefix.lower()).strip("-") or "podstrap"
    room = MAX_JOB_NAME - len(tail)
    return f"{lead[: max(1, room - len(clean) - 1)]}-{clean}"[:room].rstrip("-") + tail
