"""The node itself: what a Job does on it is what it does in a cluster."""

from __future__ import annotations

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import jobs
from tests.cluster.node import Node
from tests.support import until

pytestmark = pytest.mark.cluster


def job(name: str, image: str, script: str, **container):
    one = {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script], **container}
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [one]}
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}},
    }  # fmt: skip


def test_a_job_succeeds(control_plane: ControlPlane, node: Node, busybox_image: str) -> None:
    control_plane.kube.create(jobs("default"), job("succeeds", busybox_image, "echo hello"))
    until(lambda: control_plane.kube.get(jobs("default", "succeeds"))["status"].get("succeeded"), 30, node.logs)
    assert node.kubectl("logs", "job/succeeds") == "hello\n"
