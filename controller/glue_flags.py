"""The glue script's command line as our settings, for people who run that today.

`--queue a,b --namespace N --max-pods N --template-yaml F --overrides-yaml F --pod-name-prefix P --create-queue`
mean what they mean there; together with a settings file they go over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from controller import job_template_keys, settings_yaml
from controller.settings import Settings
from protocol.errors import ConfigError


def laid_over(
    base: Settings,
    *,
    queue: str | None = None,
    namespace: str | None = None,
    max_pods: int | None = None,
    template_yaml: Path | None = None,
    overrides_yaml: Path | None = None,
    pod_name_prefix: str | None = None,
    create_queue: bool = False,
) -> Settings:
    """`base` with what the flags say. Raises ConfigError that names the flag and the reason.

    `--queue` replaces the file's list, keeping the settings of those that stand in both. The template is the base of
    every pod, the overrides go over it for each queue.
    """
    kept = dict(base.queues)
    flags: dict[str, Any] = {}
    if queue is not None:
        names = [name.strip() for name in queue.split(",") if name.strip()]
        if not names:
            raise ConfigError(f"--queue {queue!r} names no queue", hint="--queue NAME,NAME")
        flags["queues"] = {name: kept.get(name, {}) for name in names}
    if template_yaml is not None:
        flags["base_pod_template"] = _template("--template-yaml", template_yaml)
    if overrides_yaml is not None:
        over = _template("--overrides-yaml", overrides_yaml)
        names = list(flags.get("queues", kept))
        queues = {name: kept[name].model_dump(exclude_unset=True) if name in kept else {} for name in names}
        flags["queues"] = {name: {**one, "template_overrides": over} for name, one in queues.items()}
    plain = {"namespace": namespace, "max_pods": max_pods, "pod_name_prefix": pod_name_prefix}
    flags |= {key: value for key, value in plain.items() if value is not None}
    if create_queue:
        flags["create_queues"] = True
    raw = {**{name: getattr(base, name) for name in base.model_fields_set}, **flags}
    try:
        return Settings.model_validate(raw, by_name=True, by_alias=False)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc'])) or 'the flags'}: {one['msg']}" for one in error.errors()]
        raise ConfigError("The flags cannot be used: " + "; ".join(lines)) from error


def _template(flag: str, file: Path) -> dict[str, Any]:
    document = settings_yaml.read(file)
    if not isinstance(document.value, Mapping):
        raise ConfigError(f"{flag} {file}: a pod's YAML is wanted, a mapping")
    found = dict(document.value)
    problems = job_template_keys.read(found).problems
    if problems:
        lines = [f"{document.at(one.path)}: {one.key}: {one.message}" for one in problems]
        raise ConfigError(f"{flag} {file}:\n" + "\n".join(lines))
    return found
