"""What an operator sets for one queue, and the rules that lay templates over kinds of tasks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, model_validator
from pydantic_core import PydanticCustomError

from controller.settings_values import (
    Engine,
    Flag,
    Injection,
    InjectionMethod,
    Installer,
    LoopbackUrl,
    MaxPods,
    MissingPython,
    Model,
    Namespace,
    NotNegative,
    Positive,
    Seconds,
    Template,
)


class QueueLimits(Model):
    """The Enterprise chart's `queueSettings`."""

    max_pods: MaxPods | None = Field(
        None, description="Most pods of this queue at a time: 0 lets none run; no limit when not set."
    )


class QueueSettings(Model):
    """One queue."""

    template_overrides: Template = Field(
        default_factory=dict, description="Laid over basePodTemplate for this queue's tasks; same keys."
    )
    queue_settings: QueueLimits = Field(default_factory=lambda: QueueLimits(), description="Limits of this queue.")
    namespace: Namespace | None = Field(
        None, description="Namespace of this queue's Jobs; that of the whole file when not set."
    )
    paused: Flag = Field(False, description="Start nothing new from this queue.")
    on_disruption: Literal["restart", "fail"] = Field(
        "restart", description="What becomes of a task whose pod the infrastructure took away."
    )
    on_node_lost: Literal["wait", "replace"] = Field(
        "wait",
        description="What becomes of a task on a node that does not answer: wait until the node is back or its object "
        "is removed, or let another pod take the task, which a pod cut off from everything may run a second time.",
    )
    max_attempts: Positive = Field(3, description="Pods that may run one task, the first one included.")
    retry_own_failures: Annotated[int, Field(ge=0, strict=True)] = Field(
        0,
        description="How often a task that failed by itself (its exit code, out of memory) is put back into its queue, "
        "on top of maxAttempts; 0: never. Not with engine clearml-agent.",
    )
    retry_backoff_seconds: NotNegative = Field(
        10.0, description="Pause before a task's second attempt, doubled for each further one, at most ten minutes."
    )
    pending_timeout_seconds: Positive | None = Field(
        None,
        validation_alias=AliasChoices("pendingTimeoutSeconds", "pendingTimeout"),
        description="Seconds after which a Job whose pod has not started ends, and its task fails with the reason; "
        "no limit when not set. Also called pendingTimeout.",
    )
    image_pull_grace_seconds: NotNegative = Field(
        300.0,
        description="Seconds for which an image that cannot be pulled is tried again; then the task fails, or, when "
        "the registry did not answer, its next attempt begins.",
    )
    active_deadline_seconds: Positive | None = Field(
        None, description="Longest life of a Job, all its pods together; no limit when not set."
    )
    poll_seconds: Seconds | None = Field(
        None, description="Seconds between a pod's looks at whether its task is still its own; 3 when not set."
    )
    package_manager: Installer | None = Field(
        None, description="Who installs requirements; that of the whole file when not set."
    )
    engine: Engine | None = Field(None, description="Who prepares tasks; that of the whole file when not set.")
    missing_python: MissingPython | None = Field(
        None, description="When an image lacks the Python that a task names; that of the whole file when not set."
    )
    injection: Injection | None = Field(
        None, description="Whether podstrap is brought into images; that of the whole file when not set."
    )
    injection_method: InjectionMethod | None = Field(
        None, description="How it is brought; that of the whole file when not set."
    )

    sidecar_quit_url: LoopbackUrl | None = Field(
        None, description="Where a pod's end is told to a mesh's sidecar; that of the whole file when not set."
    )

    @property
    def max_pods(self) -> int | None:
        """Most pods of this queue at a time; None: no limit."""
        return self.queue_settings.max_pods


class RuleCondition(Model):
    """Which tasks: each list that is given must hold the task's own; a task's author chooses type and tags."""

    types: tuple[str, ...] = Field((), description="Task types: training, controller (a pipeline's), service, ...")
    tags: tuple[str, ...] = Field((), description="Tags, one of which the task has.")
    projects: tuple[str, ...] = Field(
        (), description="Projects by name (`Vision`, `Vision/Detect`) or id, each with its sub-projects."
    )
    users: tuple[str, ...] = Field((), description="Users who made the tasks, by name or id.")
    queues: tuple[str, ...] = Field((), description="Names of queues, or patterns such as `gpu-*`.")

    @model_validator(mode="after")
    def _not_everything(self) -> RuleCondition:
        if not any((self.types, self.tags, self.projects, self.users, self.queues)):
            raise PydanticCustomError("rule", "no condition is given; basePodTemplate is for all tasks")
        return self


class RuleSettings(Model):
    """A template for the tasks of some kind: a pipeline's controller needs no GPU, whatever its queue gives."""

    when: RuleCondition = Field(description="Which tasks.")
    template_overrides: Template = Field(
        default_factory=dict, description="Laid over the queue's template; same keys as basePodTemplate."
    )
    engine: Engine | None = Field(None, description="Who prepares these tasks; the queue's when not set.")
    injection: Injection | None = Field(
        None, description="Whether podstrap is brought into these tasks' images; the queue's when not set."
    )
