"""Keys of the official chart (clearml-agent 5.3) that are none of the controller's settings: what becomes of each."""

from __future__ import annotations

from collections.abc import Mapping

_OWN_POD = "of the controller's own pod"
_OWN_ACCOUNT = "of the controller's service account"
CHART: Mapping[str, str] = {
    "replicaCount": "replicas of the controller's Deployment",
    "clearmlcheckCertificate": "of the controller and of tasks",
    "debugMode": "the controller's log level",
    **dict.fromkeys(
        ("resources", "extraEnvs", "labels", "annotations", "nodeSelector", "tolerations", "affinity", "volumes",
         "volumeMounts", "fileMounts", "podSecurityContext", "containerSecurityContext"),
        _OWN_POD,
    ),
    **dict.fromkeys(
        ("serviceAccountAnnotations", "serviceExistingAccountName", "additionalRoleBindings",
         "additionalClusterRoleBindings"),
        _OWN_ACCOUNT,
    ),
}  # fmt: skip
_EXISTING = "an existing Secret; none is made then"
_PULL = "of the pull secret of private registries"
TOP_CHART: Mapping[str, Mapping[str, str]] = {
    "global": {"imageRegistry": "registry of the controller's image"},
    "imageCredentials": {
        "enabled": "whether there is a pull secret, for the controller and every task",
        "existingSecret": _EXISTING,
        **dict.fromkeys(("registry", "username", "password", "email"), _PULL),
    },
    "clearml": {
        "existingAgentk8sglueSecret": _EXISTING,
        **dict.fromkeys(("agentk8sglueKey", "agentk8sglueSecret"), "of the Secret with ClearML's credentials"),
        "existingClearmlConfigSecret": _EXISTING,
        "clearmlConfig": "clearml.conf of the controller and of every task, as a Secret",
    },
    "podstrap": {
        "image": _OWN_POD,
        "fullnameOverride": "name of the chart's objects",
        "runAs": "Deployment, Job or CronJob",
        "drain": "of the Job or CronJob",
        **dict.fromkeys(("logLevel", "logFormat"), "the controller's log"),
        "healthPort": _OWN_POD,
        "metrics": "metrics, alerts and dashboard of the controller",
        "priorityClassName": _OWN_POD,
        **dict.fromkeys(("proxy", "certificates"), "of the controller and of tasks"),
        "cache": "where tasks keep environments, repositories and wheels",
        "taskServiceAccount": "of tasks",
        **dict.fromkeys(("podDisruptionBudget", "networkPolicy"), "of the controller"),
    },
}
"""Sections beside agentk8sglue, and what becomes of each key in them."""
FILES = "a Secret that is mounted in tasks"
"""basePodTemplate.fileMounts."""
ORDER = "queues in order of priority, before those of `queues`"
"""`queue` beside `queues`: a mapping in Helm's values keeps no order."""
SHARED = "global"
"""The section that other charts of a release may read too: a key that is none of ours is theirs."""
IGNORED: Mapping[str, str] = {
    "image": "the official agent's image; podstrap runs its own",
    "initContainers": "podstrap's controller has no init container",
    "sessions": "interactive sessions through services are not offered yet",
    "tcpProxy": "interactive sessions through services are not offered yet",
}
