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
TOP_CHART: Mapping[str, str] = {
    "clearml": "credentials and clearml.conf, as Secrets",
    "imageCredentials": "pull secret of private registries",
    "global": "image registry",
    "podstrap": "the chart's own keys",
}
FILES = "a Secret that is mounted in tasks"
"""basePodTemplate.fileMounts."""
ORDER = "queues in order of priority, before those of `queues`"
"""`queue` beside `queues`: a mapping in Helm's values keeps no order."""
IGNORED: Mapping[str, str] = {
    "image": "the official agent's image; podstrap runs its own",
    "initContainers": "podstrap's controller has no init container",
    "sessions": "interactive sessions through services are not offered yet",
    "tcpProxy": "interactive sessions through services are not offered yet",
}
