"""What podstrap owns in a template: a template that tries to set it is refused by the key's name, so that nobody
believes in a setting that does nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from controller.job_template_shapes import TEXTS, Path, Problem, Shape
from protocol import environment as variables
from protocol import labels

METADATA_KEYS: Mapping[str, Shape] = {"labels": TEXTS, "annotations": TEXTS}
VOLUME_PREFIX = "podstrap-"
OWNED = "is podstrap's own and cannot be set"
OWNED_POD = {"restartPolicy": "Never", "activeDeadlineSeconds": None, "ephemeralContainers": None}
"""Pod key -> the value that may stand all the same, since it is the one podstrap sets."""
OWNED_CONTAINER = {
    "command": None,
    "args": None,
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
_OWNED_LABELS = ("batch.kubernetes.io/", "controller-uid", "job-name", labels.PREFIX, labels.MANAGED_BY)
_SERVERS = "CLEARML_API_HOST", "CLEARML_WEB_HOST", "CLEARML_FILES_HOST"
KEYS = ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY")
_ELSEWHERE = {
    **dict.fromkeys(KEYS, "credentialsSecret names the Secret they come from"),
    **dict(zip(_SERVERS, ("apiServerUrlReference", "webServerUrlReference", "fileServerUrlReference"), strict=True)),
    "activeDeadlineSeconds": "set it for the queue, beside templateOverrides",
    "command": "bootstrapCommand of the settings",
    variables.MAX_ATTEMPTS: "maxAttempts of the queue",
    variables.ON_DISRUPTION: "onDisruption of the queue",
    variables.POLL_SECONDS: "pollSeconds of the queue",
    variables.PACKAGE_MANAGER: "packageManager of the queue or the settings",
    variables.ENGINE: "engine of the queue or the settings",
    variables.MISSING_PYTHON: "missingPython of the queue or the settings",
    variables.RESOLVE_AFTER_HOURS: "cache.resolveAfterHours of the settings",
    variables.CACHE_MAX_GIB: "cache.maxGib of the settings",
    variables.CACHE_MAX_DAYS: "cache.maxDays of the settings",
    variables.GRACE_SECONDS: "terminationGracePeriodSeconds",
    variables.CONNECT_SECONDS: "connectSeconds of the settings",
    variables.SIDECAR_QUIT_URL: "sidecarQuitUrl of the queue or the settings",
    variables.WORK_DIR: "workPath of the settings",
    variables.CACHE_DIR: "cache.mountPath of the settings",
}
_FREE = (variables.SAMPLE_SECONDS, variables.ANSI)
"""The variables of bootstrap that the manifest does not set: a template may."""
OWNED_VARIABLES = {
    *_SERVERS,
    *KEYS,
    *(value for name, value in vars(variables).items() if name.isupper() and str(value).startswith(variables.PREFIX)),
} - {variables.PREFIX, *_FREE}
"""What a template must not set: the servers, the keys, and every word of protocol/environment but the free ones."""


def owned_metadata(metadata: Mapping[str, Any], at: Path) -> Iterator[Problem]:
    """Labels and annotations of ours."""
    for kind in METADATA_KEYS:
        names = metadata.get(kind)
        for name in names if isinstance(names, Mapping) else ():
            if str(name).startswith(_OWNED_LABELS):
                yield Problem((*at, kind, str(name)), OWNED, "remove it")


def owned_inside(spec: Mapping[str, Any], container: Mapping[str, Any], at: Path) -> Iterator[Problem]:
    """Our variables, and the names of our volumes."""
    for key, owner, names in (("env", container, OWNED_VARIABLES), ("volumes", spec, None)):
        given = owner.get(key)
        for index, item in enumerate(given if isinstance(given, list) else ()):
            name = item.get("name") if isinstance(item, Mapping) else None
            if isinstance(name, str) and (name in names if names else name.startswith(VOLUME_PREFIX)):
                yield Problem(
                    (*at, key, index, "name"),
                    f"{name} {OWNED}",
                    _ELSEWHERE.get(name, "choose another name"),
                )


def owned_value(key: str, value: Any, owned: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    """A key of ours, unless it says what we say."""
    if value is not None and value != owned[key]:
        yield Problem(path, OWNED, _ELSEWHERE.get(key, "remove it from the template"))
