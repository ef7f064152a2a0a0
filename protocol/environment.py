"""The variables by which a Job's manifest tells the pod who it is. Nothing here is a secret.

Written by controller/job_template.py, read by bootstrap/settings.py. Credentials come as ClearML's own variables
(CLEARML_API_ACCESS_KEY, ...) by Secret reference, never through these.
"""

from __future__ import annotations

PREFIX = "PODSTRAP_"

TASK_ID = "PODSTRAP_TASK_ID"
QUEUE_ID = "PODSTRAP_QUEUE_ID"
QUEUE_NAME = "PODSTRAP_QUEUE_NAME"
JOB_NAME = "PODSTRAP_JOB_NAME"
JOB_UID = "PODSTRAP_JOB_UID"
"""From the downward API (label batch.kubernetes.io/controller-uid)."""
POD_NAME = "PODSTRAP_POD_NAME"
POD_UID = "PODSTRAP_POD_UID"
NODE_NAME = "PODSTRAP_NODE_NAME"

ATTEMPT = "PODSTRAP_ATTEMPT"
"""The Job's attempt, from 1; the pods of one Job count on from there."""
MAX_ATTEMPTS = "PODSTRAP_MAX_ATTEMPTS"
ON_DISRUPTION = "PODSTRAP_ON_DISRUPTION"
"""`restart` (exit 75: the Job makes another pod) or `fail`."""
GRACE_SECONDS = "PODSTRAP_GRACE_SECONDS"
"""The pod's terminationGracePeriodSeconds: seconds between SIGTERM and SIGKILL."""

CACHE_DIR = "PODSTRAP_CACHE_DIR"
"""Environments, mirrors, wheels; may be shared by many pods."""
WORK_DIR = "PODSTRAP_WORK_DIR"
"""This pod's own folder: checkout, venv, spool."""
TERMINATION_LOG = "PODSTRAP_TERMINATION_LOG"
"""The file Kubernetes reads as the container's termination message (default /dev/termination-log)."""
PACKAGE_MANAGER = "PODSTRAP_PACKAGE_MANAGER"
"""`uv` (default) or `pip`."""
POLL_SECONDS = "PODSTRAP_POLL_SECONDS"
"""How often the pod asks the server whether the task is still its own (default 3)."""
SAMPLE_SECONDS = "PODSTRAP_SAMPLE_SECONDS"
"""How often machine use is sampled (default 10)."""
ANSI = "PODSTRAP_ANSI"
"""Colours and other escape sequences in the task's console: `keep` (default) or `strip`."""
QUEUED_AT = "PODSTRAP_QUEUED_AT"
"""Milliseconds since the epoch when the entry was added to its queue: the start-up timeline begins there."""
HOME = "PODSTRAP_HOME"
"""The controller instance that made the Job, unlike any other: a mark that the pod writes into its claim."""
CREATED_AT = "PODSTRAP_CREATED_AT"
"""Milliseconds since the epoch when the controller made the Job."""
