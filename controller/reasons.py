"""The vocabulary of the truth about a task: one word for each reason why it waits or how it ended.

The words are what Kubernetes calls a reason: CamelCase, few, and never changed once people alert on them. They stand
in Events, metrics and machine-readable output; the sentence beside each word is `diagnosis`'s, made from the facts.
docs/troubleshooting.md has an entry for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Cause(Enum):
    """Whose fault an end was. INFRASTRUCTURE is a reason to run again, TASK only if the queue asks for it."""

    NONE = "none"
    TASK = "task"
    CONFIG = "config"
    """The settings, the template or the image: another run would end the same way."""
    INFRASTRUCTURE = "infrastructure"


class Stage(Enum):
    """Where in a task's life a reason belongs, in order of cause."""

    QUEUE = "queue"
    LIMITS = "limits"
    TEMPLATE = "template"
    ADMISSION = "admission"
    SCHEDULER = "scheduler"
    IMAGE = "image"
    CONTAINER = "container"
    CLAIM = "claim"
    SETUP = "setup"
    """The repository and the environment."""
    RUN = "run"
    CLUSTER = "cluster"


class Reason(str, Enum):
    """Each reason's word."""

    # No Job yet
    QUEUE_PAUSED = "QueuePaused"
    QUEUE_FULL = "QueueFull"
    ALL_FULL = "AllQueuesFull"
    RETRY_BACKOFF = "RetryBackOff"
    TEMPLATE_INVALID = "TemplateInvalid"
    JOB_REFUSED = "JobRefused"
    # A Job without a pod
    QUOTA_EXCEEDED = "QuotaExceeded"
    SERVICE_ACCOUNT_MISSING = "ServiceAccountMissing"
    ADMISSION_REFUSED = "AdmissionRefused"
    POD_NOT_CREATED = "PodNotCreated"
    # A pod that does not start
    UNSCHEDULABLE = "Unschedulable"
    SCHEDULING_GATED = "SchedulingGated"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    IMAGE_NOT_FOUND = "ImageNotFound"
    IMAGE_PULL_DENIED = "ImagePullDenied"
    IMAGE_NEVER_PULLED = "ImageNeverPulled"
    IMAGE_NAME_INVALID = "InvalidImageName"
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    CONTAINER_CREATE_ERROR = "ContainerCreateError"
    IMAGE_VOLUME_REFUSED = "ImageVolumeRefused"
    VOLUME_NOT_MOUNTED = "VolumeNotMounted"
    SANDBOX_FAILED = "SandboxFailed"
    POD_WAITING = "PodWaiting"
    NODE_UNREACHABLE = "NodeUnreachable"
    STARTED = "Started"
    # Ended, and nobody's fault
    COMPLETED = "Completed"
    ABORTED = "Aborted"
    CLAIM_LOST = "ClaimLost"
    # Ended by the task itself
    TASK_FAILED = "TaskFailed"
    SETUP_FAILED = "SetupFailed"
    OOM_KILLED = "OOMKilled"
    NO_LAST_WORD = "NoLastWord"
    # Ended by settings, template or image
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    PENDING_TIMEOUT = "PendingTimeout"
    START_FAILED = "StartFailed"
    INIT_CONTAINER_FAILED = "InitContainerFailed"
    CLAIM_FAILED = "ClaimFailed"
    NEVER_BEGAN = "NeverBegan"
    # Ended by the infrastructure
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    NODE_TAINTED = "NodeTainted"
    NODE_SHUTDOWN = "NodeShutdown"
    NODE_REFUSED = "NodeRefused"
    DISRUPTED = "Disrupted"
    KILLED = "Killed"
    POD_DELETED = "PodDeleted"
    JOB_DELETED = "JobDeleted"
    JOB_STOPPED = "JobStopped"
    JOB_ENDED = "JobEnded"
    NO_ATTEMPT_LEFT = "NoAttemptLeft"


@dataclass(frozen=True)
class Diagnosis:
    """A word, and one line (or a few) for a person."""

    word: Reason
    reason: str
    wants_log: bool = False
    """The facts are thin: the pod's last log lines would help."""

    @property
    def cause(self) -> Cause:
        """Whose fault it is."""
        return REASONS[self.word].cause


@dataclass(frozen=True)
class About:
    """What stands behind a word."""

    stage: Stage
    cause: Cause
    summary: str


_NONE, _TASK, _CONFIG, _INFRASTRUCTURE = Cause.NONE, Cause.TASK, Cause.CONFIG, Cause.INFRASTRUCTURE

REASONS: Mapping[Reason, About] = {
    Reason.QUEUE_PAUSED: About(Stage.LIMITS, _NONE, "the queue is paused in the settings"),
    Reason.QUEUE_FULL: About(Stage.LIMITS, _NONE, "the queue runs as many pods as it may (maxPods)"),
    Reason.ALL_FULL: About(Stage.LIMITS, _NONE, "as many pods run as may over all queues (maxPods)"),
    Reason.RETRY_BACKOFF: About(Stage.LIMITS, _NONE, "the next attempt waits after the last one's failure"),
    Reason.TEMPLATE_INVALID: About(Stage.TEMPLATE, _CONFIG, "no Job can be made of the template and the task"),
    Reason.JOB_REFUSED: About(Stage.ADMISSION, _CONFIG, "the API server does not take the Job"),
    Reason.QUOTA_EXCEEDED: About(Stage.ADMISSION, _CONFIG, "a ResourceQuota leaves no room for the pod"),
    Reason.SERVICE_ACCOUNT_MISSING: About(Stage.ADMISSION, _CONFIG, "the pod's service account does not exist"),
    Reason.ADMISSION_REFUSED: About(Stage.ADMISSION, _CONFIG, "an admission rule of the cluster refuses the pod"),
    Reason.POD_NOT_CREATED: About(Stage.ADMISSION, _CONFIG, "the Job's pod cannot be made"),
    Reason.UNSCHEDULABLE: About(Stage.SCHEDULER, _CONFIG, "no node takes the pod"),
    Reason.SCHEDULING_GATED: About(Stage.SCHEDULER, _CONFIG, "a scheduling gate holds the pod back"),
    Reason.IMAGE_PULL_FAILED: About(Stage.IMAGE, _INFRASTRUCTURE, "the registry does not answer as it should"),
    Reason.IMAGE_NOT_FOUND: About(Stage.IMAGE, _CONFIG, "the registry does not have the image"),
    Reason.IMAGE_PULL_DENIED: About(Stage.IMAGE, _CONFIG, "the registry does not give the image to these credentials"),
    Reason.IMAGE_NEVER_PULLED: About(Stage.IMAGE, _CONFIG, "the image is not on the node, its pull policy is Never"),
    Reason.IMAGE_NAME_INVALID: About(Stage.IMAGE, _CONFIG, "the image's name is not valid"),
    Reason.CONTAINER_CONFIG_ERROR: About(Stage.CONTAINER, _CONFIG, "a Secret, a ConfigMap or a key of one is missing"),
    Reason.CONTAINER_CREATE_ERROR: About(Stage.CONTAINER, _CONFIG, "the container cannot be created on its node"),
    Reason.IMAGE_VOLUME_REFUSED: About(Stage.CONTAINER, _INFRASTRUCTURE, "the node mounts no image volume"),
    Reason.VOLUME_NOT_MOUNTED: About(Stage.CONTAINER, _CONFIG, "a volume of the pod cannot be mounted"),
    Reason.SANDBOX_FAILED: About(Stage.CONTAINER, _CONFIG, "the node cannot make the pod's sandbox (network, runtime)"),
    Reason.POD_WAITING: About(Stage.CONTAINER, _CONFIG, "the pod waits for something else"),
    Reason.NODE_UNREACHABLE: About(Stage.CLUSTER, _INFRASTRUCTURE, "the node does not say that the pod ended"),
    Reason.STARTED: About(Stage.RUN, _NONE, "the pod that had waited runs"),
    Reason.COMPLETED: About(Stage.RUN, _NONE, "the task completed"),
    Reason.ABORTED: About(Stage.RUN, _NONE, "the task was aborted by a user"),
    Reason.CLAIM_LOST: About(Stage.CLAIM, _NONE, "another pod runs the task, or it was reset or deleted"),
    Reason.TASK_FAILED: About(Stage.RUN, _TASK, "the task's process failed"),
    Reason.SETUP_FAILED: About(Stage.SETUP, _TASK, "the repository or the environment could not be prepared"),
    Reason.OOM_KILLED: About(Stage.RUN, _TASK, "the container used more memory than its limit"),
    Reason.NO_LAST_WORD: About(Stage.RUN, _TASK, "the pod ended and did not say how the task ended"),
    Reason.DEADLINE_EXCEEDED: About(Stage.RUN, _CONFIG, "the Job ran longer than activeDeadlineSeconds"),
    Reason.PENDING_TIMEOUT: About(Stage.SCHEDULER, _CONFIG, "the pod did not start within pendingTimeoutSeconds"),
    Reason.START_FAILED: About(Stage.CONTAINER, _CONFIG, "the container's command cannot be started"),
    Reason.INIT_CONTAINER_FAILED: About(Stage.CONTAINER, _CONFIG, "an init container failed"),
    Reason.CLAIM_FAILED: About(Stage.CLAIM, _CONFIG, "the pod could not ask ClearML for its task"),
    Reason.NEVER_BEGAN: About(Stage.CLAIM, _CONFIG, "the pod ended before it claimed the task"),
    Reason.EVICTED: About(Stage.CLUSTER, _INFRASTRUCTURE, "the pod was evicted"),
    Reason.PREEMPTED: About(Stage.CLUSTER, _INFRASTRUCTURE, "a pod of higher priority took its place"),
    Reason.NODE_LOST: About(Stage.CLUSTER, _INFRASTRUCTURE, "the node is gone"),
    Reason.NODE_TAINTED: About(Stage.CLUSTER, _INFRASTRUCTURE, "a taint of the node put the pod out"),
    Reason.NODE_SHUTDOWN: About(Stage.CLUSTER, _INFRASTRUCTURE, "the node shut down"),
    Reason.NODE_REFUSED: About(Stage.CLUSTER, _INFRASTRUCTURE, "the node did not take the pod"),
    Reason.DISRUPTED: About(Stage.CLUSTER, _INFRASTRUCTURE, "the infrastructure took the pod away"),
    Reason.KILLED: About(Stage.CLUSTER, _INFRASTRUCTURE, "a signal from outside killed the pod"),
    Reason.POD_DELETED: About(Stage.CLUSTER, _INFRASTRUCTURE, "the pod was deleted"),
    Reason.JOB_DELETED: About(Stage.CLUSTER, _INFRASTRUCTURE, "the Job was deleted"),
    Reason.JOB_STOPPED: About(Stage.CLUSTER, _INFRASTRUCTURE, "the Job was stopped before its pod ended"),
    Reason.JOB_ENDED: About(Stage.CLUSTER, _INFRASTRUCTURE, "the Job ended and its pod is gone"),
    Reason.NO_ATTEMPT_LEFT: About(Stage.CLUSTER, _INFRASTRUCTURE, "the attempts are used up (maxAttempts)"),
}
"""Every reason. The cause decides whether a task that ended so is run again."""
