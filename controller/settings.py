"""What an operator sets: one YAML file, every value with its type, its default and its meaning.

The keys are those of the official chart's `agentk8sglue` section where it has them (queues, basePodTemplate,
defaultContainerImage, createQueueIfNotExists, ...), camelCase in the file. `settings_file` reads the file and turns
every error into file, line, column and key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

Template = dict[str, Any]
Seconds = Annotated[float, Field(gt=0)]
MaxPods = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class QueueLimits(_Model):
    """The Enterprise chart's `queueSettings`."""

    max_pods: MaxPods | None = Field(None, description="Most pods of this queue at a time; none when not set.")


class QueueSettings(_Model):
    """One queue."""

    template_overrides: Template = Field(
        default_factory=dict, description="Laid over basePodTemplate for this queue's tasks; same keys."
    )
    queue_settings: QueueLimits = Field(default_factory=lambda: QueueLimits(), description="Limits of this queue.")
    namespace: str | None = Field(None, description="Namespace of this queue's Jobs; the controller's when not set.")
    paused: bool = Field(False, description="Start nothing new from this queue.")
    on_disruption: Literal["restart", "fail"] = Field(
        "restart", description="What becomes of a task whose pod the infrastructure took away."
    )
    max_attempts: Annotated[int, Field(ge=1)] = Field(3, description="Pods that may run one task, first one included.")
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = Field(None, description="Longest life of a Job.")
    package_manager: Literal["uv", "pip"] | None = Field(None, description="Who installs requirements.")

    @property
    def max_pods(self) -> int | None:
        """Most pods of this queue at a time."""
        return self.queue_settings.max_pods


class CacheSettings(_Model):
    """Where environments, repositories and wheels are kept between pods."""

    mount_path: str = Field("/podstrap/cache", description="Where pods see the cache.")
    volume: Template = Field(
        default_factory=lambda: {"emptyDir": {}},
        description="A Kubernetes volume source: persistentVolumeClaim, hostPath, emptyDir (no cache between pods).",
    )


class Settings(_Model):
    """The whole file."""

    instance: str = Field(
        "podstrap",
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$",
        description="This controller's name, on a label of its Jobs.",
    )
    namespace: str = Field("default", description="Namespace of Jobs whose queue names none.")
    queues: dict[str, QueueSettings] = Field(
        default_factory=dict,
        description="Queue name or id -> its settings, in order of priority. A list of names is taken too.",
    )
    base_pod_template: Template = Field(default_factory=dict, description="What every task's pod is made from.")
    default_container_image: str = Field(
        "podstrap/task:latest", description="Image of tasks that name none, where the queue's template names none."
    )
    max_pods: MaxPods | None = Field(None, description="Most pods over all queues at a time.")
    poll_seconds: Seconds = Field(2.0, description="Seconds between two looks at the queues.")
    reconcile_seconds: Seconds = Field(60.0, description="Seconds between two full comparisons of Jobs and tasks.")
    orphan_grace_seconds: Seconds = Field(60.0, description="How long a task may be nobody's before it is put back.")
    create_queues: bool = Field(
        False, alias="createQueueIfNotExists", description="Create queues that the server does not have."
    )
    credentials_secret: str = Field(
        "podstrap-clearml",
        description="Secret with CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY, in each namespace of Jobs.",
    )
    api_server_url: str | None = Field(
        None, alias="apiServerUrlReference", description="API server as pods reach it; the controller's when not set."
    )
    web_server_url: str | None = Field(None, alias="webServerUrlReference", description="Web server, likewise.")
    files_server_url: str | None = Field(None, alias="fileServerUrlReference", description="Files server, likewise.")
    bootstrap_command: tuple[str, ...] = Field(
        ("podstrap", "bootstrap"), min_length=1, description="What a task's container executes."
    )
    work_path: str = Field("/podstrap/work", description="Where pods see their own work folder.")
    cache: CacheSettings = Field(default_factory=lambda: CacheSettings(), description="The cache of pods.")
    package_manager: Literal["uv", "pip"] = Field("uv", description="Who installs requirements.")
    allowed_host_paths: tuple[str, ...] = Field(
        (), description="Host folders that a task's `-v` may mount; none when empty."
    )
    allow_privileged: bool = Field(False, description="Whether a task's --privileged and --cap-add are obeyed.")
    ttl_seconds_after_finished: Annotated[int, Field(ge=0)] = Field(
        3600, description="How long a finished Job stays to be looked at."
    )

    def with_servers(self, api: str, web: str, files: str) -> Settings:
        """The same, with the controller's own server addresses where the file names none for pods."""
        return self.model_copy(
            update={
                "api_server_url": self.api_server_url or api,
                "web_server_url": self.web_server_url or web,
                "files_server_url": self.files_server_url or files,
            }
        )

    @model_validator(mode="before")
    @classmethod
    def _unwrapped(cls, value: Any) -> Any:
        """The chart's wrapper and the glue's `queue: a,b` are taken too."""
        if not isinstance(value, Mapping):
            return value
        found = dict(value)
        names = found.pop("queue", None)
        if names is not None:
            if not isinstance(names, str):
                raise ValueError("queue: a text of names separated by commas is wanted; use queues for more")
            if found.get("queues"):
                raise ValueError("queue and queues are both set: keep one")
            found["queues"] = [name.strip() for name in names.split(",") if name.strip()]
        return found

    @field_validator("queues", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return {str(name): {} for name in value}
        if isinstance(value, Mapping):
            return {name: {} if queue is None else queue for name, queue in value.items()}
        return value
