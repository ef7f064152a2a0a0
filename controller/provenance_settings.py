"""Which setting decides what podstrap itself writes into a manifest: for `podstrap render --explain`.

A value that no setting decides (who the Job is, what bootstrap must know) is simply podstrap's own.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.settings import Settings
from controller.settings_queue import QueueSettings
from controller.settings_yaml import Key
from protocol import environment as variables

_MAIN = "spec.template.spec.containers[task]"
_OF_FILE = {
    "image": ("defaultContainerImage",),
    "spec.ttlSecondsAfterFinished": ("ttlSecondsAfterFinished",),
    f"{_MAIN}.command": ("bootstrapCommand",),
    f"{_MAIN}.volumeMounts[/podstrap/work]": ("workPath",),
    "spec.template.spec.volumes[podstrap-cache]": ("cache", "volume"),
    variables.CACHE_DIR: ("cache", "mountPath"),
    variables.WORK_DIR: ("workPath",),
    variables.CONNECT_SECONDS: ("connectSeconds",),
    variables.RESOLVE_AFTER_HOURS: ("cache", "resolveAfterHours"),
    variables.CACHE_MAX_GIB: ("cache", "maxGib"),
    variables.CACHE_MAX_DAYS: ("cache", "maxDays"),
    "CLEARML_API_HOST": ("apiServerUrlReference",),
    "CLEARML_WEB_HOST": ("webServerUrlReference",),
    "CLEARML_FILES_HOST": ("fileServerUrlReference",),
    "CLEARML_API_ACCESS_KEY": ("credentialsSecret",),
    "CLEARML_API_SECRET_KEY": ("credentialsSecret",),
}
_OF_QUEUE = {
    "spec.activeDeadlineSeconds": ("activeDeadlineSeconds",),
    variables.MAX_ATTEMPTS: ("maxAttempts",),
    variables.ON_DISRUPTION: ("onDisruption",),
    variables.POLL_SECONDS: ("pollSeconds",),
    variables.RETRIES_LEFT: ("retryOwnFailures",),
}
_OF_EITHER = {
    "metadata.namespace": ("namespace",),
    variables.PACKAGE_MANAGER: ("packageManager",),
    variables.ENGINE: ("engine",),
    variables.MISSING_PYTHON: ("missingPython",),
    variables.SIDECAR_QUIT_URL: ("sidecarQuitUrl",),
}
"""The queue's where it says it, else the file's."""


def deciding(path: str, settings: Settings, queue: QueueSettings, queue_key: str) -> Key:
    """The settings' key behind a value of podstrap's own in a manifest; empty where there is none."""
    for name in _names(path, settings):
        if name in _OF_FILE:
            return _OF_FILE[name]
        if name in _OF_QUEUE:
            return ("queues", queue_key, *_OF_QUEUE[name])
        if name in _OF_EITHER:
            key = _OF_EITHER[name]
            aliases = {field.alias or own: own for own, field in QueueSettings.model_fields.items()}
            of_queue = getattr(queue, aliases[key[0]]) is not None
            return ("queues", queue_key, *key) if of_queue else key
    return ()


def _names(path: str, settings: Settings) -> Iterator[str]:
    """The names under which a path may stand in the tables: itself, what it lies below, its variable."""
    if path.startswith(f"{_MAIN}.env["):
        yield path[len(_MAIN) + 5 :].partition("]")[0]
        return
    if path == f"{_MAIN}.image":
        yield "image"
        return
    for stem in (settings.cache.mount_path, settings.work_path):
        if path.startswith(f"{_MAIN}.volumeMounts[{stem}]"):
            yield variables.CACHE_DIR if stem == settings.cache.mount_path else variables.WORK_DIR
            return
    for known in (*_OF_FILE, *_OF_QUEUE, *_OF_EITHER):
        if path == known or path.startswith((f"{known}.", f"{known}[")):
            yield known
