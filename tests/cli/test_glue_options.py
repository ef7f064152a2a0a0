"""The glue script's options: what they come to with and without a settings file, in a pod and outside."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from cli import controller
from controller.settings import Settings


def settings(own_namespace: Path, *words: str) -> Settings:
    parser = argparse.ArgumentParser()
    controller.add_arguments(parser)
    return controller.settings_of(parser.parse_args(words), own_namespace)


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """A pod's own namespace, as Kubernetes mounts it."""
    file = tmp_path / "namespace"
    file.write_text("team\n")
    return file


def test_queues_by_option_go_to_the_pods_own_namespace(pod: Path) -> None:
    assert settings(pod, "--queue", "a,b").namespace == "team"
    assert settings(pod, "--queue", "a", "--namespace", "other").namespace == "other"
    assert settings(pod.with_name("nowhere"), "--queue", "a").namespace == "default"


def test_options_and_a_file_together(pod: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("queues: {a: {queueSettings: {maxPods: 3}}}")
    found = settings(pod, "--config", str(file), "--queue", "b,a")
    assert (found.namespace, list(found.queues), found.queues["a"].max_pods) == ("team", ["b", "a"], 3)
    file.write_text("namespace: filed\nqueues: [a]")
    assert settings(pod, "--config", str(file), "--max-pods", "2").namespace == "filed"
