"""A pod on a node that does not answer, in a queue that says `onNodeLost: replace`: fenced first, then given up.

    told that its node does not answer
    fence     its claim is taken from it: while it can reach ClearML it ends itself at its next poll
    give up   a little later the pod counts as failed, and the Job makes its next one, which takes the claim

Each step is seen in what stands on the task and on the Job, so it is done once, whoever was killed before. What a
fence cannot end is a pod that reaches neither Kubernetes nor ClearML: docs/decisions/0009-lost-nodes.md.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from clearml_api.models import Task
from controller.actions import Fence, GiveUp
from controller.notes import Note
from controller.reasons import Reason
from controller.settings_queue import QueueSettings
from controller.state import JobFacts
from controller.waiting import lost

FENCE = timedelta(seconds=10)
"""Between the fence and the end of the pod: three polls of bootstrap at its default."""


def replaced(job: JobFacts, task: Task, now: datetime) -> Fence | GiveUp | None:
    """The next step for a pod on a lost node; None when its node is not lost, or there is nothing to do yet."""
    found, pod, told = lost(job, now), job.last_pod, job.told
    if found is None or pod is None or told is None or told.pod != pod.name:
        return None  # it is told first
    claim = task.claim
    if claim is not None and claim.job_uid == job.uid and claim.pod == pod.name:
        where = f"attempt {claim.attempt} (pod {pod.name} on node {pod.node}): node lost"
        free = replace(claim, pod="", node="", history=(*claim.history, where))
        return Fence(job.task, job, free, claim)
    if told.word is not Reason.NODE_LOST:
        text = f"node {pod.node} is given up (onNodeLost: replace): its pod {pod.name} lost the task, another takes it"
        return Fence(job.task, job, None, claim, Note(Reason.NODE_LOST, text, pod.name, now, now))
    return GiveUp(job.task, job, pod, f"node {pod.node} lost (onNodeLost: replace)") if now - told.at >= FENCE else None


def worth_a_look(job: JobFacts, queue: QueueSettings, now: datetime) -> bool:
    """Whether its task must be read to go on at once; what takes longer is seen to once a minute."""
    told = job.told
    recent = told is not None and now - told.at < timedelta(minutes=1)
    return recent and queue.on_node_lost == "replace" and lost(job, now) is not None


def given_up(job: JobFacts) -> bool:
    """Whether the newest pod's node was given up: nothing more is to be told about it."""
    told, pod = job.told, job.last_pod
    return bool(told and pod and told.word is Reason.NODE_LOST and told.pod == pod.name)
