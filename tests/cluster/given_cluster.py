"""A cluster that is there already, in the control plane's place: its kubeconfig is given, nothing of it is ours."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import Kube


class GivenCluster(ControlPlane):
    """`kubeconfig` and `client` as ControlPlane's, of a file whose current user holds a token."""

    def __init__(self, file: Path, folder: Path) -> None:
        config = yaml.safe_load(file.read_text())
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
        if "token" not in user:
            pytest.fail(f"{file}: a user with a token is wanted, such as a service account's bound to cluster-admin")
        self.folder = folder
        self.url = str(cluster["server"])
        self._tokens = {"admin": str(user["token"])}
        authority = cluster.get("certificate-authority-data")
        data = base64.b64decode(authority) if authority else Path(cluster["certificate-authority"]).read_bytes()
        self.ca.write_bytes(data)
        self.kube: Kube = self.client("admin")

    def client_certificate(self, user: str, group: str) -> tuple[Path, Path]:
        pytest.skip("the given cluster's certificate authority is not ours")


def _named(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(one for one in found if one["name"] == name)
