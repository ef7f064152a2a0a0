"""The parts of a pod that bring our folder into an image that lacks it. Pure.

The image volume is read-only by its nature; the copy is mounted read-only into the task's container, so that neither a
task nor a sidecar can change what another program of the pod runs. Pull secrets are the pod's and hold for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.settings import Settings
from controller.state import IMAGE_VOLUME
from protocol.folder import HOME, PROGRAM

VOLUME = "podstrap-bootstrap"
INIT_CONTAINER_NAME = "podstrap-copy"
_TARGET = "/podstrap/bootstrap"
"""Where the init container sees the volume; at HOME it has the original."""
_SHARED_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_USER_FIELDS = ("runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile", "seLinuxOptions", "appArmorProfile")


@dataclass(frozen=True)
class Injected:
    """What is laid into a pod; all empty for a baked image."""

    command: tuple[str, ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()
    volumes: tuple[dict[str, Any], ...] = ()
    init_containers: tuple[dict[str, Any], ...] = field(default=())


def parts(method: str, settings: Settings, main: Mapping[str, Any]) -> Injected:
    """For the container `main` of the task."""
    command = (str(PROGRAM), "bootstrap")
    mount: dict[str, Any] = {"name": VOLUME, "mountPath": str(HOME), "readOnly": True}
    pull = {"pullPolicy": settings.bootstrap_image_pull_policy} if settings.bootstrap_image_pull_policy else {}
    if method == IMAGE_VOLUME:
        volume = {"name": VOLUME, "image": {"reference": settings.injected_image, **pull}}
        return Injected(command, ({**mount, "subPath": str(HOME).lstrip("/")},), (volume,))
    volume = {"name": VOLUME, "emptyDir": {}}
    return Injected(command, (mount,), (volume,), (_copier(settings, main),))


def _copier(settings: Settings, main: Mapping[str, Any]) -> dict[str, Any]:
    """The init container, as the user that the task runs as and with no privilege.

    Its resources are the task's own: a pod asks for the largest of its init containers, not for their sum, so this
    costs nothing, passes quotas that the task passes, and keeps a Guaranteed pod Guaranteed
    (https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers). Devices
    are left out.
    """
    context = main.get("securityContext") or {}
    policy = settings.bootstrap_image_pull_policy
    resources = _shared(main.get("resources") or {})
    return {
        "name": INIT_CONTAINER_NAME,
        "image": settings.injected_image,
        **({"imagePullPolicy": policy} if policy else {}),
        "command": [str(PROGRAM), "copy", _TARGET],
        "volumeMounts": [{"name": VOLUME, "mountPath": _TARGET}],
        **({"resources": resources} if resources else {}),
        "securityContext": {
            **{key: context[key] for key in _USER_FIELDS if key in context},
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _shared(resources: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        kind: {name: amount for name, amount in (resources.get(kind) or {}).items() if name in _SHARED_RESOURCES}
        for kind in ("limits", "requests")
    }
    return {kind: amounts for kind, amounts in found.items() if amounts}
