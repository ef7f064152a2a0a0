"""What the controller may do in Kubernetes: one list, each verb beside the feature that needs it.

The chart, `podstrap role` and the tests take it from here, so the Role that is documented is the Role that is
tested. Pods of tasks need no permission at all: their service account token is not even mounted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from controller.cluster.lease_name import lease_name
from controller.settings import Settings
from protocol import labels


@dataclass(frozen=True)
class Permission:
    """One feature's verbs on one resource."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    everywhere: bool = True
    """In each namespace of Jobs; else in the controller's own alone."""
    named: bool = False
    """On the instance's own object alone."""
    setting: str = ""
    """What of the settings asks for it, as it is called in the file; empty: nothing works without."""


PERMISSIONS = (
    Permission("batch", "jobs", ("create",), "one Job for each task"),
    Permission("batch", "jobs", ("list", "watch"), "know which tasks have a Job, and how it ended"),
    Permission("batch", "jobs", ("get",), "tell our own Job from another of the same name"),
    Permission("batch", "jobs", ("patch",), "stop the Job of a task that was aborted, reset or moved (suspend)"),
    Permission("batch", "jobs", ("delete",), "forget a stopped Job once its task is settled"),
    Permission("", "pods", ("list", "watch"), "say why a task waits and how its pod ended"),
    Permission("", "pods/log", ("get",), "the last lines of a pod that died without a word"),
    Permission("", "events", ("list",), "say why a pod cannot be made (quota, admission) or begin (volumes)"),
    Permission("", "events", ("create", "get", "patch"), "tell why a Job waits and fails", setting="kubernetesEvents"),
    Permission("", "pods/status", ("patch",), "count a pod on a lost node as failed", setting="onNodeLost"),
    Permission("", "pods", ("delete",), "remove a pod on a lost node", setting="onNodeLost"),
    Permission("coordination.k8s.io", "leases", ("create",), "one leader among replicas", everywhere=False),
    Permission("coordination.k8s.io", "leases", ("get", "update"), "one leader among replicas", False, named=True),
)


def namespaces(settings: Settings) -> tuple[str, ...]:
    """Where this controller makes Jobs, its own namespace first."""
    found = [settings.namespace, *(queue.namespace for queue in settings.queues.values() if queue.namespace)]
    return tuple(dict.fromkeys(found))


def on_request() -> dict[str, list[dict[str, Any]]]:
    """Setting -> the rules that it asks for."""
    names = dict.fromkeys(one.setting for one in PERMISSIONS if one.setting)
    return {name: rules(one for one in PERMISSIONS if one.setting == name) for name in names}


def asks(settings: Settings, setting: str) -> bool:
    """Whether these settings ask for the permissions of one."""
    if setting == "onNodeLost":
        return any(queue.on_node_lost == "replace" for queue in settings.queues.values())
    return bool(settings.model_dump(by_alias=True)[setting])


def manifests(settings: Settings, service_account: str, account_namespace: str) -> list[dict[str, Any]]:
    """A Role and its RoleBinding for each namespace of Jobs, and those for the Lease."""
    found: list[dict[str, Any]] = []
    own = settings.namespace
    for namespace in namespaces(settings):
        granted = rules(one for one in PERMISSIONS if one.everywhere and not one.setting)
        for setting, given in on_request().items():
            granted += given if asks(settings, setting) else []
        if namespace == own:
            granted += rules((one for one in PERMISSIONS if not one.everywhere), lease_name(settings.instance))
        name = f"podstrap-{settings.instance}".lower()
        metadata = {"name": name, "namespace": namespace, "labels": {labels.MANAGED_BY: labels.MANAGED_BY_VALUE}}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        subject = {"kind": "ServiceAccount", "name": service_account, "namespace": account_namespace}
        api = "rbac.authorization.k8s.io/v1"
        found.append({"apiVersion": api, "kind": "Role", "metadata": metadata, "rules": granted})
        found.append(
            {
                "apiVersion": api,
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": reference,
                "subjects": [subject],
            }
        )
    return found


def rules(permissions: Iterable[Permission], object_name: str = "") -> list[dict[str, Any]]:
    """One rule a resource, verbs in the list's order."""
    found: dict[tuple[str, str, bool], dict[str, Any]] = {}
    for one in permissions:
        empty: dict[str, Any] = {"apiGroups": [one.group], "resources": [one.resource], "verbs": []}
        rule = found.setdefault((one.group, one.resource, one.named), empty)
        rule["verbs"] += one.verbs
        if one.named:
            rule["resourceNames"] = [object_name]
    return list(found.values())
