"""What an operator sets: one YAML file, every value with its type, its default and its meaning.

The keys are those of the official chart's `agentk8sglue` section where it has them (queues, basePodTemplate,
defaultContainerImage, createQueueIfNotExists, ...), camelCase in the file. A queue and a
rule are in `settings_queue`, the types of values in `settings_values`; `settings_file` reads the file and turns every
error into file, line, column and key; templates are looked at by `job_template_keys`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from controller.settings_queue import QueueSettings, RuleSettings
from controller.settings_values import (
    ContainerPath,
    Engine,
    Flag,
    Injection,
    InjectionMethod,
    Installer,
    Limit,
    LoopbackUrl,
    MaxPods,
    MissingPython,
    Model,
    Namespace,
    PullPolicy,
    Seconds,
    ServerUrl,
    Template,
    dns_label,
    volume_source,
)

QUEUE_FORM = "queue_form"
"""The error type of everything wrong with the short form `queue: a,b`."""


class CacheSettings(Model):
    """Where environments, repositories and wheels are kept between pods."""

    mount_path: ContainerPath = Field("/podstrap/cache", description="Where pods see the cache.")
    volume: Annotated[Template, AfterValidator(volume_source)] = Field(
        default_factory=lambda: {"emptyDir": {}},
        description="A Kubernetes volume source: persistentVolumeClaim, hostPath, emptyDir (no cache between pods).",
    )
    resolve_after_hours: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] = Field(
        24.0,
        description="How long what requirements that are not pinned led to serves before the index is asked again.",
    )
    max_gib: Limit | None = Field(
        None, description="GiB of environments beyond which the least recently used go; no limit when not set."
    )
    max_days: Limit | None = Field(
        None, description="Days after which an environment that no task used goes; no limit when not set."
    )


class CredentialsKeys(Model):
    """What ClearML's keys are called in the Secret that holds them."""

    access_key: Annotated[str, Field(min_length=1)] = Field(
        "CLEARML_API_ACCESS_KEY", description="The Secret's key that holds the access key."
    )
    secret_key: Annotated[str, Field(min_length=1)] = Field(
        "CLEARML_API_SECRET_KEY", description="The Secret's key that holds the secret key."
    )


class Settings(Model):
    """The whole file."""

    instance: str = Field(
        "podstrap",
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$",
        description="This controller's name, on a label of its Jobs.",
    )
    namespace: Namespace = Field(
        "default", description="Namespace of Jobs whose queue names none; the controller's own when not set."
    )
    queues: dict[str, QueueSettings] = Field(
        default_factory=dict,
        description="Queue name, id or pattern (`gpu-*`) -> its settings, in order of priority; a name wins over a "
        "pattern. A list is taken too.",
    )
    base_pod_template: Template = Field(default_factory=dict, description="What every task's pod is made from.")
    rules: tuple[RuleSettings, ...] = Field(
        (), description="Templates by kind of task, laid over the queue's in this order."
    )
    pod_name_prefix: Annotated[str, AfterValidator(dns_label), Field(max_length=20)] = Field(
        "podstrap", description="What the names of Jobs and pods begin with."
    )
    default_container_image: str = Field(
        "",
        description="Image of tasks that name none, where the queue's template names none; podstrap/task of the "
        "controller's own version when not set.",
    )
    max_pods: MaxPods | None = Field(
        None, description="Most pods over all queues at a time: 0 lets none run; no limit when not set."
    )
    poll_seconds: Seconds = Field(2.0, description="Seconds between two looks at the queues.")
    reconcile_seconds: Seconds = Field(60.0, description="Seconds between two full comparisons of Jobs and tasks.")
    orphan_grace_seconds: Seconds = Field(60.0, description="How long a task may be nobody's before it is put back.")
    create_queues: Flag = Field(
        False, alias="createQueueIfNotExists", description="Create queues that the server does not have."
    )
    credentials_secret: Annotated[str, Field(min_length=1)] = Field(
        "podstrap-clearml",
        description="Secret with CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY, in each namespace of Jobs.",
    )
    credentials_secret_keys: CredentialsKeys = Field(
        default_factory=lambda: CredentialsKeys(), description="Keys in that Secret, where they are called otherwise."
    )
    api_server_url: ServerUrl | None = Field(
        None, alias="apiServerUrlReference", description="API server as pods reach it; the controller's when not set."
    )
    web_server_url: ServerUrl | None = Field(
        None, alias="webServerUrlReference", description="Web server as pods reach it; likewise."
    )
    files_server_url: ServerUrl | None = Field(
        None, alias="fileServerUrlReference", description="Files server as pods reach it; likewise."
    )
    bootstrap_command: tuple[str, ...] = Field(
        ("podstrap", "bootstrap"), min_length=1, description="What a task's container executes in a baked image."
    )
    injection: Injection = Field(
        "auto",
        description="Whether podstrap is brought into a task's image: into all but those of bakedImages (auto), "
        "always, or never: then the image must have it.",
    )
    baked_images: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="Patterns (* ? []) of images that have podstrap in them, besides our own podstrap/task*."
    )
    injection_method: InjectionMethod = Field(
        "auto",
        description="How it is brought: mounted from bootstrapImage (imageVolume: Kubernetes 1.35 and a runtime that "
        "can), copied by an initContainer, or the first where it works, else the second (auto).",
    )
    bootstrap_image: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="The image that is brought; podstrap/bootstrap of the controller's own version when not set."
    )
    bootstrap_image_pull_policy: PullPolicy | None = Field(
        None, description="When bootstrapImage is pulled; Kubernetes' own rule when not set."
    )
    connect_seconds: Seconds | None = Field(
        None,
        description="How long a pod tries to reach the ClearML server at its start (a mesh's sidecar may be later than "
        "it) before it gives its place to another; 120 when not set.",
    )
    sidecar_quit_url: LoopbackUrl = Field(
        "", description="Where a pod's end is told to a mesh's sidecar, by a POST; to nobody when empty."
    )
    work_path: ContainerPath = Field("/podstrap/work", description="Where pods see their own work folder.")
    cache: CacheSettings = Field(default_factory=lambda: CacheSettings(), description="The cache of pods.")
    package_manager: Installer = Field("uv", description="Who installs requirements.")
    engine: Engine = Field(
        "podstrap",
        description="Who prepares tasks: podstrap, or the image's own clearml-agent; a task's tag "
        "`podstrap:engine=clearml-agent` stands above rules, queue and this.",
    )
    missing_python: MissingPython = Field(
        "install",
        description="When an image lacks the Python that a task names: uv brings it (install), the nearest one of the "
        "image runs the task, or the task fails.",
    )
    allowed_host_paths: tuple[ContainerPath, ...] = Field(
        (), description="Host folders that a task's `-v` may mount, `:ro` after one for reading only; none when empty."
    )
    allow_privileged: Flag = Field(
        False, description="Whether a task's --privileged, --cap-add and host namespaces are obeyed."
    )
    ignore_refused_docker_arguments: Flag = Field(
        False, description="Start a task without the docker arguments that are refused, instead of not at all."
    )
    kubernetes_events: Flag = Field(
        True,
        description="Write a Kubernetes Event on a Job for each change of why it waits, and for its failure.",
    )
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, strict=True)] = Field(
        3600, description="How long a finished Job stays to be looked at."
    )

    @property
    def injected_image(self) -> str:
        """The image that holds our folder."""
        return self.bootstrap_image or f"podstrap/bootstrap:{_release()}"

    @property
    def task_image(self) -> str:
        """The image of tasks that name none."""
        return self.default_container_image or f"podstrap/task:{_release()}"

    def or_in(self, namespace: str) -> Settings:
        """The same, in this namespace where the file names none; with an empty one as it is."""
        if not namespace or "namespace" in self.model_fields_set:
            return self
        return self.model_copy(update={"namespace": namespace})

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
    def _glue_form(cls, value: Any) -> Any:
        """The glue's `queue: a,b` is taken too."""
        if not isinstance(value, Mapping) or value.get("queue") is None:
            return value
        names = value["queue"]
        if not isinstance(names, str):
            raise PydanticCustomError(QUEUE_FORM, "a text of names separated by commas is wanted; `queues` takes more")
        if value.get("queues"):
            raise PydanticCustomError(QUEUE_FORM, "stands beside queues: keep one of them")
        found = {key: item for key, item in value.items() if key != "queue"}
        return {**found, "queues": [name.strip() for name in names.split(",") if name.strip()]}

    @field_validator("queues", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A list of names, and a queue with nothing under it, are taken too."""
        if not isinstance(value, (list, tuple, Mapping)):
            return value
        for name in value:
            if not isinstance(name, str) or not name.strip():
                raise PydanticCustomError("queue_name", f"the queue name {name!r} is no text: put it in quotes")
        if isinstance(value, Mapping):
            return {name: {} if queue is None else queue for name, queue in value.items()}
        twice = sorted({name for name in value if value.count(name) > 1})
        if twice:
            raise PydanticCustomError("queue_name", f"{', '.join(twice)} stands twice")
        return {name: {} for name in value}

    @model_validator(mode="after")
    def _apart(self) -> Settings:
        work, cache = self.work_path.rstrip("/") + "/", self.cache.mount_path.rstrip("/") + "/"
        if work.startswith(cache) or cache.startswith(work):
            raise PydanticCustomError(
                "paths", f"workPath {self.work_path} and cache.mountPath {self.cache.mount_path} lie in one another"
            )
        return self


@cache
def _release() -> str:
    """The tag of our own images; `latest` where only podstrap's files lie, without its distribution."""
    try:
        return metadata.version("podstrap")
    except metadata.PackageNotFoundError:
        return "latest"
