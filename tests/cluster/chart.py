"""The chart as its users have it: helm's own program, and what it renders run as the kubelet would run it."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests import support
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import Kube, Object

CHART = support.REPOSITORY_ROOT / "charts" / "podstrap"
SETTINGS = "/etc/podstrap/settings.yaml"
_GROUPS = {
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1",
    "ConfigMap": "/api/v1",
    "CronJob": "/apis/batch/v1",
    "Deployment": "/apis/apps/v1",
    "Job": "/apis/batch/v1",
    "NetworkPolicy": "/apis/networking.k8s.io/v1",
    "PersistentVolumeClaim": "/api/v1",
    "PodDisruptionBudget": "/apis/policy/v1",
    "PodMonitor": "/apis/monitoring.coreos.com/v1",
    "PrometheusRule": "/apis/monitoring.coreos.com/v1",
    "Role": "/apis/rbac.authorization.k8s.io/v1",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1",
    "Secret": "/api/v1",
    "ServiceAccount": "/api/v1",
}


def path_of(one: Object) -> str:
    """Where objects of its kind are, in its namespace."""
    plural = one["kind"].lower().replace("policy", "policie") + "s"
    namespace = one["metadata"].get("namespace")
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{_GROUPS[one['kind']]}{inside}/{plural}"


class Refused(AssertionError):
    """helm ended with an error; its words."""


@dataclass(frozen=True)
class Helm:
    """The program, for one cluster; its own files lie in `folder`."""

    program: Path
    folder: Path
    kubeconfig: Path | None = None

    def __call__(self, *words: str | Path, values: Any = None) -> str:
        """Standard output. `values`: a mapping, or YAML text. Raises Refused."""
        command: list[str | Path] = [self.program, *words]
        if values is not None:
            file = self.folder / "values.yaml"
            file.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
            command += ["--values", file]
        if self.kubeconfig:
            command += ["--kubeconfig", self.kubeconfig]
        environ = {f"HELM_{one}_HOME": str(self.folder / one) for one in ("CACHE", "CONFIG", "DATA")}
        done = subprocess.run(
            command, env={**support.base_environ(), **environ}, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode:
            raise Refused(f"{done.stdout}\n{done.stderr}")
        assert "warning" not in done.stderr.lower(), done.stderr
        return done.stdout

    def rendered(self, values: Any, namespace: str = "team", release: str = "podstrap") -> list[Object]:
        text = self("template", release, CHART, "--namespace", namespace, values=values)
        return [one for one in yaml.safe_load_all(text) if one]


def only(objects: list[Object], kind: str) -> Object:
    """The one of a kind."""
    (found,) = [one for one in objects if one["kind"] == kind]
    return found


def settings_text(objects: list[Object]) -> str:
    """The controller's settings file."""
    (text,) = [one["data"]["settings.yaml"] for one in objects if "settings.yaml" in one.get("data", ())]
    return str(text)


def pod_template(objects: list[Object]) -> Object:
    """The controller's, of whatever runs it."""
    (owner,) = [one for one in objects if one["kind"] in ("Deployment", "Job", "CronJob")]
    spec = owner["spec"]["jobTemplate"]["spec"] if owner["kind"] == "CronJob" else owner["spec"]
    found: Object = spec["template"]
    return found


def controller(plane: ControlPlane, namespace: str, pod: Object, name: str, folder: Path) -> support.Process:
    """The pod's one container as a process of this machine, as its own service account, which may do nothing else.

    Its command, variables, ConfigMap and Secrets are those of the cluster; only paths and the port are this machine's.
    """
    spec = pod["spec"]
    (container,) = spec["containers"]
    assert container["command"] == ["podstrap"]
    folder.mkdir()
    config_map = next(one["configMap"]["name"] for one in spec["volumes"] if one["name"] == "settings")
    text = plane.kube.get(f"/api/v1/namespaces/{namespace}/configmaps/{config_map}")["data"]["settings.yaml"]
    (folder / "settings.yaml").write_text(text)
    ports = {f":{port}": f"127.0.0.1:{support.free_port()}" for port in (8080, 8081)}
    here = {SETTINGS: str(folder / "settings.yaml"), **ports}
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts/{spec['serviceAccountName']}/token"
    token = plane.kube.create(account, {"spec": {"expirationSeconds": 3600}})["status"]["token"]
    kubeconfig = plane.kubeconfig(f"{namespace}-{name}", token=token)
    environ = {**_variables(plane.kube, namespace, container, name), "KUBECONFIG": str(kubeconfig)}
    words = [here.get(word, word) for word in container["args"]]
    process = support.Process(words, {**support.base_environ(), **environ}, folder / "controller.log")
    process.start()
    return process


def _variables(kube: Kube, namespace: str, container: Object, pod: str) -> Mapping[str, str]:
    found = {}
    for one in container["env"]:
        source = one.get("valueFrom") or {}
        if reference := source.get("secretKeyRef"):
            held = kube.get(f"/api/v1/namespaces/{namespace}/secrets/{reference['name']}")["data"]
            found[one["name"]] = base64.b64decode(held[reference["key"]]).decode()
        elif "fieldRef" in source:
            assert source["fieldRef"]["fieldPath"] == "metadata.name"
            found[one["name"]] = pod
        else:
            found[one["name"]] = one["value"]
    return found


def pull_secret(one: Object) -> Any:
    """What a dockerconfigjson Secret says."""
    return json.loads(base64.b64decode(one["data"][".dockerconfigjson"]))
