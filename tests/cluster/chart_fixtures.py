"""helm for the chart's tests, and a shell in which people's commands run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests import support
from tests.cluster import tools
from tests.cluster.chart import Helm
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import condition


@pytest.fixture(scope="session")
def offline_helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Of no cluster."""
    return Helm(tools.helm(), tmp_path_factory.mktemp("helm"))


@pytest.fixture
def helm(offline_helm: Helm, control_plane: ControlPlane, tmp_path: Path) -> Helm:
    """Of the control plane."""
    return replace(offline_helm, folder=tmp_path, kubeconfig=control_plane.kubeconfig("admin"))


@pytest.fixture(scope="session")
def monitoring(control_plane: ControlPlane) -> None:
    """The cluster knows PodMonitor and PrometheusRule, by the operator's own schemas."""
    kube, path = control_plane.kube, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for file in tools.monitoring_kinds():
        definition = yaml.safe_load(file.read_text())
        name = definition["metadata"]["name"]
        if kube.find(f"{path}/{name}") is None:
            kube.create(path, definition)
        support.until(lambda name=name: condition(kube.get(f"{path}/{name}"), "Established"), 30)


@pytest.fixture
def shell(offline_helm: Helm, control_plane: ControlPlane) -> Callable[[str], str]:
    """Commands as a person types them in the repository's root, with kubectl and helm; what they print."""
    folders = [str(tools.kubernetes()), str(offline_helm.program.parent), support.base_environ()["PATH"]]
    environ = {
        **support.base_environ(),
        **{f"HELM_{one}_HOME": str(offline_helm.folder / one) for one in ("CACHE", "CONFIG", "DATA")},
        "PATH": ":".join(folders),
        "KUBECONFIG": str(control_plane.kubeconfig("admin")),
    }

    def run(text: str) -> str:
        words = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(words, env=environ, cwd=support.REPOSITORY_ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
