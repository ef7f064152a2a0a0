"""Labels and annotations on the Jobs and pods we make. Labels are what we list and watch by; values stay short."""

from __future__ import annotations

PREFIX = "podstrap.io/"

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY_VALUE = "podstrap"

CONTROLLER = PREFIX + "controller"
"""The controller's instance name (settings `instance`): two controllers in one namespace tell their Jobs apart."""
TASK = PREFIX + "task"
QUEUE = PREFIX + "queue"
"""The queue's id (its name may hold characters a label must not)."""
ADDED = PREFIX + "added"
"""Milliseconds since the epoch at which the queue entry was added, decimal."""
ATTEMPT = PREFIX + "attempt"
JOB_UID = "batch.kubernetes.io/controller-uid"
"""Set by Kubernetes on each pod of a Job: the Job's uid, which the pod reads through the downward API."""
JOB_NAME = "batch.kubernetes.io/job-name"
"""Likewise, the Job's name."""

TASK_NAME = PREFIX + "task-name"
"""Annotation: the task's name as it is."""
INJECTION = PREFIX + "injection"
"""Annotation: how podstrap was brought into the task's image (imageVolume, initContainer); absent for a baked one."""
TOLD = PREFIX + "told"
"""Annotation of a Job: the reason that the controller told last (controller/notes.py)."""
STOPPED_BECAUSE = PREFIX + "stopped-because"
"""Annotation of a Job: why the controller stopped it, where its task is to hear of it."""
QUEUE_NAME = PREFIX + "queue-name"
"""Annotation: the queue's name as it is."""
