"""Templates and a real API server: what it refuses is told by file, line and key, and stops its own queue alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from clearml_api import queues, tasks
from controller import probe, settings_file
from controller.cluster.kube_cluster import KubernetesCluster
from controller.cluster.kubernetes import Api
from controller.settings_file import Places
from tests import support
from tests.cluster.conftest import World, steps

pytestmark = [pytest.mark.cluster]

NOW = datetime(2025, 6, 1, tzinfo=timezone.utc)
QUICK = ({"phase": "Running"}, {"call": "bootstrap"})


@pytest.fixture
def cluster(world: World) -> Iterator[KubernetesCluster]:
    """Watches nothing: it is only asked."""
    one = KubernetesCluster(Api(world.plane.kubeconfig("admin")), "podstrap", (), home="")
    yield one
    one.close()


def findings(world: World, cluster: KubernetesCluster, text: str) -> list[probe.Finding]:
    file = world.folder / "settings.yaml"
    file.write_text(f"namespace: {world.namespace}\n{text}")
    return probe.findings(settings_file.load(file), cluster, NOW, Places.of(file))


# What the API server says, told where it was written


@pytest.mark.parametrize(
    ("text", "key", "line", "words"),
    [
        ("queues:\n  gpu:\n    templateOverrides:\n      tolerations:\n      - {key: a, operator: Exist}\n",
         "queues.gpu.templateOverrides.tolerations[0].operator", 6, "Unsupported value"),
        ("basePodTemplate:\n  nodeSelector:\n    zone: a\n    'not ok!': x\nqueues: [gpu]\n",
         "basePodTemplate.nodeSelector.not ok!", 5, "Invalid value"),
        ("queues:\n  gpu:\n    templateOverrides:\n      spec:\n        hostNetwrk: true\n",
         "queues.gpu.templateOverrides.spec.hostNetwrk", 6, 'unknown field "spec.template.spec.hostNetwrk"'),
        ("queues:\n  gpu:\n    templateOverrides:\n      volumeMounts:\n      - name: data\n        mountPath: /data\n",
         "queues.gpu.templateOverrides.volumeMounts[0].name", 6, "Not found"),
        ("queues: [gpu]\nrules:\n- when: {tags: [big]}\n  templateOverrides:\n    dnsPolicy: Sometimes\n",
         "rules[0].templateOverrides.dnsPolicy", 6, "Unsupported value"),
        ("queues:\n  gpu:\n    templateOverrides:\n      spec:\n        containers:\n        - name: task\n"
         "        - name: side\n", "queues.gpu.templateOverrides.spec.containers[1].name", 8, "Required value"),
        ("queues:\n  gpu:\n    templateOverrides:\n      ports:\n      - {containerPort: '80'}\n",
         "queues.gpu.templateOverrides.ports[0].containerPort", 6, "cannot unmarshal string"),
        ("queues:\n  gpu:\n    templateOverrides:\n      resources: {requests: {cpu: 4}, limits: {cpu: 1}}\n",
         "queues.gpu.templateOverrides.resources.requests.cpu", 5, "must be less than or equal to cpu limit"),
        ("credentialsSecret: Not_A_Name\nqueues: [gpu]\ncache: {volume: {hostPath: {path: ../x}}}\n",
         "cache.volume", 4, "must not contain '..'"),
    ],
)  # fmt: skip
def test_a_refusal_names_file_line_and_key(
    text: str, key: str, line: int, words: str, world: World, cluster: KubernetesCluster
) -> None:
    found = findings(world, cluster, text)
    one = next((each for each in found if words in each.words), None)
    assert one is not None, found
    assert probe.dotted(one.key) == key
    assert one.at.startswith(f"{world.folder / 'settings.yaml'}:{line}:")


def test_all_that_is_wrong_is_told_once_and_what_is_right_is_not(world: World, cluster: KubernetesCluster) -> None:
    found = findings(
        world, cluster,
        "basePodTemplate: {dnsPolicy: Sometimes}\n"
        "queues: {a: {}, b: {templateOverrides: {dnsPolicy: Default, hostname: 'UPPER'}}}\n"
        "rules: [{when: {types: [x]}, templateOverrides: {priorityClassName: '?'}}, {when: {queues: [c]}}]\n",
    )  # fmt: skip
    keys = sorted(probe.dotted(one.key) for one in found)
    assert keys == [
        "basePodTemplate.dnsPolicy", "queues.b.templateOverrides.hostname",
        "rules[0].templateOverrides.priorityClassName",
    ]  # fmt: skip
    assert findings(world, cluster, "queues: {a: {}, 'gpu-*': {}}\nrules: [{when: {projects: [Vision]}}]\n") == []


def test_a_namespace_that_is_not_there_is_told(world: World, cluster: KubernetesCluster) -> None:
    (found,) = findings(world, cluster, "queues: {a: {namespace: nowhere-at-all}}\n")
    assert "namespace nowhere-at-all does not exist" in found.words


def test_check_asks_the_api_server(world: World) -> None:
    file = world.folder / "settings.yaml"
    kubeconfig = str(world.plane.kubeconfig("admin"))

    def check(text: str) -> subprocess.CompletedProcess[str]:
        file.write_text(text)
        command = [*support.PODSTRAP, "check", "--config", str(file), "--dry-run", "--kubeconfig", kubeconfig]
        environ = {**support.base_environ(), **world.environ, "PYTHONPATH": str(support.REPOSITORY_ROOT)}
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)

    good = f"namespace: {world.namespace}\nqueues:\n  {world.queue}:\n"
    done = check(good)
    assert done.returncode == 0 and "takes the Jobs of 1 queues and rules" in done.stdout, done.stdout
    done = check(good + "    templateOverrides: {dnsPolicy: Sometimes}\n")
    assert done.returncode == 1 and "FAIL  templates" in done.stdout
    assert f"{file}:4:25: queues.{world.queue}.templateOverrides.dnsPolicy: " in done.stdout, done.stdout


@pytest.mark.usefixtures("nodes")
def test_at_the_start_and_after_a_change_the_log_and_the_lease_say_what_is_refused(world: World) -> None:
    bad = steps(*QUICK, templateOverrides={"dnsPolicy": "Sometimes"})
    process = world.controller(steps(*QUICK), queues={world.queue: bad})
    support.until(lambda: "template-refused" in process.text(), 30, process.text)
    assert f"queues.{world.queue}.templateOverrides.dnsPolicy" in process.text()
    assert f"{world.folder / 'settings-0.yaml'}:1:" in process.text()
    file = world.folder / "settings-0.yaml"
    file.write_text(file.read_text().replace("Sometimes", "Default"))
    support.until(lambda: "templates-taken" in process.text(), 30, process.text)
    world.status(world.enqueue(), "completed")


# One bad template stops its own queue


@pytest.mark.usefixtures("nodes")
def test_of_500_tasks_half_have_invalid_templates_and_the_other_half_runs(world: World) -> None:
    wrong: list[dict[str, Any]] = [
        {"dnsPolicy": "Sometimes"}, {"spec": {"hostNetwrk": True}}, {"initContainers": [{"name": "no-image"}]},
        {"nodeSelector": {"not ok!": "x"}}, {"volumeMounts": [{"name": "x", "mountPath": "/x"}]},
    ]  # fmt: skip
    names = [f"{world.queue}-{n}" for n in range(10)]
    config = {
        name: steps(*QUICK, templateOverrides=wrong[n] if n < 5 else {}) for n, name in enumerate(names)
    }  # the bad ones first: they are served first
    made = {name: queues.create(world.session, name) for name in names}

    def enqueue(number: int) -> tuple[int, str]:
        session = support.session_of(world.environ)
        task = support.create_task(session, f"task {number}", "pass")
        tasks.enqueue(session, task, made[names[number % 10]])
        return number % 10, task

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(enqueue, range(500)))
    bad, good = ([task for n, task in found if (n < 5) == first] for first in (True, False))
    process = world.controller(queues=config, maxPods=120)

    def statuses(of: list[str]) -> dict[str, Any]:
        return tasks.get_all(world.session, of, ("id", "status", "status_message"))

    support.until(
        lambda: all(task.status == "completed" for task in statuses(good).values()), 150, lambda: process.text()[-3000:]
    )
    support.until(
        lambda: all("the cluster refuses its Job" in task.status_message for task in statuses(bad).values()),
        60, lambda: process.text()[-3000:],
    )  # fmt: skip
    left = statuses(bad)
    assert {task.status for task in left.values()} == {"queued"} and len(left) == len(good) == 250
    assert "Unsupported value" in left[bad[0]].status_message, "the server's words"
    assert [world.jobs(bad[n]) for n in range(5)] == [[]] * 5
    for queue in made.values():
        world.session.call("queues.delete", {"queue": queue, "force": True})


# The seed


def test_the_seeds_settings_unchanged_give_two_jobs_with_its_selectors_and_limits(world: World, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(support.SEED_VALUES)
    wanted = {
        "example_queue_1": ("A100-SXM4-40GB-MIG-1g.5gb", "1"), "example_queue_2": ("A100-SXM4-40GB", "2"),
    }  # fmt: skip
    made = {}
    for name in wanted:
        made[name] = support.create_task(world.session, name, "pass")
        tasks.enqueue(world.session, made[name], support.queue_id(world.session, name))
    command = ["controller", "--config", str(file), "--namespace", world.namespace]
    command += ["--kubeconfig", str(world.plane.kubeconfig("admin"))]
    process = support.Process(command, {**support.base_environ(), **world.environ}, tmp_path / "seed.log")
    world.processes.append(process)
    process.start()
    support.until(lambda: len(world.jobs()) == 2, 30, process.text)
    for name, (product, count) in wanted.items():
        (job,) = world.jobs(made[name])
        spec = job["spec"]["template"]["spec"]
        (task,) = [one for one in spec["containers"] if one["name"] == "task"]
        assert spec["nodeSelector"] == {"nvidia.com/gpu.product": product}
        assert task["resources"]["limits"] == {"nvidia.com/gpu": count}
        world.session.call("tasks.stop", {"task": made[name]})
