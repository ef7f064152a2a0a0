"""The command line as a person meets it: help, version, wrong usage, clear errors, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support import REPOSITORY_ROOT, SEED_VALUES, base_environ

COMMANDS = (
    "controller", "bootstrap", "standalone", "render", "status", "explain", "role", "cache", "check", "demo",
)  # fmt: skip


def podstrap(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *words],
        env={**base_environ(), "PYTHONPATH": str(REPOSITORY_ROOT), "COLUMNS": "100", **environ},
        capture_output=True,
        text=True,
    )


def test_help_lists_every_command_with_what_it_does() -> None:
    done = podstrap("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert command in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command) -> None:
    done = podstrap(command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: podstrap {command}")


def test_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert podstrap("--version").stdout.strip() == f"podstrap {version('podstrap')}"


@pytest.mark.parametrize(
    "words",
    [(), ("nonsense",), ("standalone",), ("controller",), ("standalone", "--data", "x", "--api-port", "99999")],
)
def test_wrong_usage_exits_2_and_says_how(words) -> None:
    done = podstrap(*words)
    assert done.returncode == 2
    assert "usage: podstrap" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_file_that_is_missing_is_named() -> None:
    done = podstrap("controller", "--config", "/nowhere/settings.yaml")
    assert done.returncode == 1
    assert "/nowhere/settings.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_without_a_server_says_what_to_set() -> None:
    done = podstrap("check")
    assert done.returncode == 1
    assert "FAIL  configuration: No ClearML server is configured" in done.stdout
    assert "CLEARML_API_HOST" in done.stdout


def test_bootstrap_without_its_variables_says_which() -> None:
    done = podstrap("bootstrap")
    assert done.returncode not in (0, 75)
    assert "PODSTRAP_TASK_ID" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_importing_the_command_imports_no_room() -> None:
    code = (
        "import sys, cli.main; "
        "print([m for m in sys.modules if m.split('.')[0] in ('bootstrap','controller','standalone','clearml_api')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY_ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_render_of_a_file_needs_no_server_and_shows_no_secret(tmp_path) -> None:
    import yaml

    task = tmp_path / "task.json"
    task.write_text('{"name": "a task", "container": {"image": "busybox", "arguments": "-e TOKEN=hush --memory 2g"}}')
    done = podstrap("render", str(task), "--queue", "gpu", CLEARML_API_SECRET_KEY="very-secret")
    assert done.returncode == 0, done.stderr
    assert "hush" not in done.stdout
    assert "very-secret" not in done.stdout
    job = yaml.safe_load(done.stdout)
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert (job["kind"], container["image"], container["resources"]["limits"]["memory"]) == ("Job", "busybox", "2Gi")


def test_render_shows_how_podstrap_comes_into_the_image_on_a_cluster_of_this_version(tmp_path) -> None:
    import json

    task = tmp_path / "task.json"
    task.write_text('{"name": "a task", "container": {"image": "python:3.12"}}')
    for words, volume, copiers in (
        ((), "image", 0),
        (("--kubernetes", "v1.36.3"), "image", 0),
        (("--kubernetes", "1.34"), "emptyDir", 1),
    ):
        done = podstrap("render", str(task), "--queue", "gpu", "--output", "json", *words)
        assert done.returncode == 0, done.stderr
        spec = json.loads(done.stdout)["spec"]["template"]["spec"]
        assert volume in spec["volumes"][-1] and len(spec.get("initContainers", ())) == copiers
        assert spec["containers"][0]["command"] == ["/opt/podstrap/bin/podstrap", "bootstrap"]
    done = podstrap("render", str(task), "--queue", "gpu", "--kubernetes", "latest")
    assert done.returncode != 0 and "'latest' is no version of Kubernetes" in done.stderr


def test_clearmls_documented_snippet_is_read_as_it_stands(tmp_path) -> None:
    import yaml

    settings, task = tmp_path / "values.yaml", tmp_path / "task.yaml"
    settings.write_text(SEED_VALUES)
    task.write_text("name: a task")
    assert podstrap("check", "--values", str(settings)).returncode == 0
    for queue, product, gpus in (("example_queue_1", "MIG-1g.5gb", "1"), ("example_queue_2", "A100-SXM4-40GB", "2")):
        done = podstrap("render", str(task), "--queue", queue, "--config", str(settings))
        spec = yaml.safe_load(done.stdout)["spec"]["template"]["spec"]
        assert spec["nodeSelector"]["nvidia.com/gpu.product"].endswith(product)
        assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == gpus


def test_a_values_file_with_something_unknown_is_told_by_line(tmp_path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(SEED_VALUES + "  podTemplte: {}\nsessions:\n  portModeEnabled: true\n")
    done = podstrap("check", "--values", str(values))
    assert done.returncode == 1
    assert "podTemplte" in done.stdout
    assert "sessions" in done.stdout


def test_render_explains_each_value_with_its_line_and_each_rule(tmp_path) -> None:
    settings, task = tmp_path / "settings.yaml", tmp_path / "task.yaml"
    settings.write_text(
        "agentk8sglue:\n"
        "  queues:\n"
        "    gpu:\n"
        "      templateOverrides: {nodeSelector: {disk: ssd}}\n"
        "  rules:\n"
        "  - when: {types: [controller]}\n"
        "    templateOverrides: {priorityClassName: low}\n"
    )
    task.write_text("{id: " + "a" * 32 + ", type: training, container: {image: 'python:3.12'}}")
    words = ["render", str(task), "--queue", "gpu", "--config", str(settings), "--explain"]
    done = podstrap(*words)
    assert done.returncode == 0, done.stderr
    lines = {line.partition(": ")[0]: line for line in done.stdout.splitlines()}
    assert "does not hold" in done.stdout.splitlines()[0] and f"{settings}:6:5" in done.stdout.splitlines()[0]
    selector = lines["spec.template.spec.nodeSelector.disk"]
    assert f"queues.gpu.templateOverrides.nodeSelector.disk ({settings}:4:42)" in selector
    assert lines["spec.template.spec.containers[task].image"].endswith("# the task's container image")
    assert lines["spec.ttlSecondsAfterFinished"].endswith("# ttlSecondsAfterFinished (not set: the default)")
    found = json.loads(podstrap(*words, "-o", "json").stdout)
    assert [rule["holds"] for rule in found["rules"]] == [False]
    (disk,) = [one for one in found["values"] if one["path"].endswith("nodeSelector.disk")]
    assert (disk["value"], disk["from"], disk["at"]) == ("ssd", "queue", f"{settings}:4:42")
