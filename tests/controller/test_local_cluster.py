"""The local cluster with real processes: every way a pod can end, and what its Job makes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from controller.cluster.interface import ClusterError, NameTaken, Refused
from controller.cluster.local import LocalCluster
from controller.state import JobFacts
from protocol import environment as names
from protocol import labels

POLICY = {
    "rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75]}},
        {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0, 75]}},
    ]
}


def manifest(script: str, *, name: str = "job", task: str = "t1", grace: int = 30, **more: Any) -> dict[str, Any]:
    """A Job as ours are; `script` is Python."""
    container: dict[str, Any] = {
        "name": "task",
        "command": [sys.executable, "-c", textwrap.dedent(script)],
        "terminationMessagePath": "/dev/termination-log",
        "env": [],
    }
    container |= more.pop("container", {})
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": grace, "containers": [container]}
    pod |= more.pop("pod", {})
    found = {labels.TASK: task, labels.ADDED: "1000", labels.ATTEMPT: "1", labels.MANAGED_BY: labels.MANAGED_BY_VALUE}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "tasks", "labels": found},
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": POLICY,
            "template": {"metadata": {"labels": {**found, "colour": "red"}}, "spec": pod},
            **more,
        },
    }


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    one = LocalCluster(tmp_path / "state", {"ACCESS": "s3cret-value"})
    yield one
    for job in one.snapshot().jobs:
        one.delete(job)
    until(one, lambda: not one.snapshot().jobs)


def until(cluster: LocalCluster, what: Any, seconds: float = 20.0) -> Any:
    """Asked again whenever the cluster says that something changed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := what():
            return answer
        cluster.wait(0.02)
    raise AssertionError(f"did not happen: {cluster.snapshot()}")


def only(cluster: LocalCluster) -> JobFacts:
    (job,) = cluster.snapshot().jobs
    return job


def over(cluster: LocalCluster) -> JobFacts:
    return until(cluster, lambda: only(cluster).over and only(cluster))


def waits_for(file: Path) -> str:
    return f"import pathlib, time\nwhile not pathlib.Path({str(file)!r}).exists(): time.sleep(0.01)\n"


def touched(file: Path) -> bool:
    return file.exists()


def test_job_completes_when_its_pod_exits_0(cluster: LocalCluster, tmp_path: Path) -> None:
    assert cluster.create(manifest("print('hello'); print('there')")) is True
    job = over(cluster)
    assert job.end and job.end.succeeded
    assert [(pod.phase, pod.exit_code, pod.signal) for pod in job.pods] == [("Succeeded", 0, None)]
    assert job.task == "t1" and job.added == 1000
    assert cluster.tail("tasks", job.pods[0].name, 1) == "there"


def test_wait_returns_as_soon_as_a_pod_ends(cluster: LocalCluster, tmp_path: Path) -> None:
    cluster.create(manifest(waits_for(tmp_path / "go")))
    until(cluster, lambda: only(cluster).running)
    assert cluster.wait(0.05) is False
    (tmp_path / "go").touch()
    assert cluster.wait(20) is True
    assert only(cluster).over


def test_other_exit_codes_fail_the_job(cluster: LocalCluster) -> None:
    cluster.create(manifest("raise SystemExit(3)"))
    job = over(cluster)
    assert job.end and (job.end.succeeded, job.end.reason) == (False, "PodFailurePolicy")
    assert job.pods[0].exit_code == 3 and job.pods[0].reason == "Error"


def test_exit_75_makes_another_pod_when_the_first_is_gone(cluster: LocalCluster, tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    script = f"import os, sys; os.path.exists({mark!r}) or (open({mark!r}, 'w'), os._exit(75)); print('again')"
    cluster.create(manifest(script))
    job = over(cluster)
    assert job.end and job.end.succeeded
    first, second = job.pods
    assert (first.exit_code, second.exit_code) == (75, 0)
    assert first.finished and second.created and first.finished <= second.created


def test_signal_is_told_by_code_and_number(cluster: LocalCluster) -> None:
    cluster.create(manifest("import os; os.kill(os.getpid(), 9)"))
    pod = over(cluster).pods[0]
    assert (pod.exit_code, pod.signal, pod.reason) == (137, 9, "Error")


ANSWERS_TERM = """
import pathlib, signal, sys, time
def leave(*_):
    sys.exit(75)
signal.signal(signal.SIGTERM, leave)
pathlib.Path({ready!r}).touch()
while not pathlib.Path({go!r}).exists():
    time.sleep(0.01)
"""


def test_evicted_pod_gets_sigterm_and_its_job_makes_another(cluster: LocalCluster, tmp_path: Path) -> None:
    ready, go = tmp_path / "ready", tmp_path / "go"
    cluster.create(manifest(ANSWERS_TERM.format(ready=str(ready), go=str(go))))
    until(cluster, lambda: touched(ready))
    cluster.evict(only(cluster).pods[0].uid)
    until(cluster, lambda: len(only(cluster).pods) == 2)
    go.touch()
    first, second = over(cluster).pods
    assert (first.exit_code, first.disruption, first.deleting) == (75, "EvictionByEvictionAPI", True)
    assert second.exit_code == 0


def test_pod_that_ignores_sigterm_is_killed_after_its_grace(cluster: LocalCluster, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"""
    import pathlib, signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pathlib.Path({str(ready)!r}).touch()
    while True: signal.pause()
    """
    cluster.create(manifest(script, grace=0))
    until(cluster, lambda: touched(ready))
    cluster.stop(only(cluster))
    job = over(cluster)
    assert job.pods[0].signal == 9 and job.stopped


def test_stopped_job_stays_as_a_record_and_makes_no_pod(cluster: LocalCluster, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    cluster.create(manifest(ANSWERS_TERM.format(ready=str(ready), go=str(tmp_path / "never"))))
    until(cluster, lambda: touched(ready))
    cluster.stop(only(cluster))
    job = over(cluster)
    assert (job.stopped, job.end, len(job.pods), job.pods[0].exit_code) == (True, None, 1, 75)
    cluster.delete(job)
    assert cluster.snapshot().jobs == ()


def test_deleted_job_shows_as_deleting_until_its_pods_are_gone(cluster: LocalCluster, tmp_path: Path) -> None:
    ready, go = tmp_path / "ready", tmp_path / "go"
    script = f"""
    import pathlib, signal, time
    signal.signal(signal.SIGTERM, lambda *_: None)
    pathlib.Path({str(ready)!r}).touch()
    while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)
    """
    cluster.create(manifest(script))
    until(cluster, lambda: touched(ready))
    cluster.delete(only(cluster))
    job = only(cluster)
    assert job.deleting and not job.over and job.pods[0].deleting
    go.touch()
    until(cluster, lambda: not cluster.snapshot().jobs)
    assert list((tmp_path / "state" / "pods").iterdir()) == []


def test_whole_tree_is_killed_even_behind_double_fork_setsid_and_a_cleared_environment(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    child = tmp_path / "child"
    inner = f"import os, time; open({str(child)!r} + '.new', 'w').write(str(os.getpid())); "
    inner += f"os.rename({str(child)!r} + '.new', {str(child)!r}); time.sleep(1000)"
    script = f"""
    import os, sys, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve({sys.executable!r}, [{sys.executable!r}, "-c", {inner!r}], {{}})
        os._exit(0)
    while not os.path.exists({str(child)!r}): time.sleep(0.01)
    """
    cluster.create(manifest(script))
    assert over(cluster).pods[0].exit_code == 0
    assert not psutil.pid_exists(int(child.read_text()))


def test_killed_shim_is_a_lost_node_and_nothing_of_the_pod_survives(cluster: LocalCluster, tmp_path: Path) -> None:
    child = tmp_path / "child"
    inner = f"import os, time; open({str(child)!r} + '.new', 'w').write(str(os.getpid())); "
    inner += f"os.rename({str(child)!r} + '.new', {str(child)!r}); time.sleep(1000)"
    script = f"""
    import os, subprocess, sys, time
    if os.path.exists({str(child)!r}): sys.exit(0)
    subprocess.Popen([sys.executable, "-c", {inner!r}], start_new_session=True)
    time.sleep(1000)
    """
    cluster.create(manifest(script))
    until(cluster, lambda: touched(child))
    pod = only(cluster).pods[0]
    shim, _, _ = (tmp_path / "state" / "pods" / pod.uid / "started").read_text().split()
    os.kill(int(shim), signal.SIGKILL)
    job = over(cluster)
    assert job.end and job.end.succeeded
    assert (job.pods[0].reason, job.pods[0].disruption) == ("NodeLost", "DeletionByPodGC")
    assert not _alive(int(child.read_text()))


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_restarted_controller_goes_on_with_the_pods_of_a_killed_one(tmp_path: Path) -> None:
    state, go = tmp_path / "state", tmp_path / "go"
    code = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from controller.cluster.local import LocalCluster
        from tests.controller.test_local_cluster import manifest, waits_for
        LocalCluster(Path({str(state)!r})).create(manifest(waits_for(Path({str(go)!r})) + "raise SystemExit(4)"))
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    assert done.returncode == -signal.SIGKILL
    second = LocalCluster(state)
    until(second, lambda: only(second).running)
    go.touch()
    assert over(second).pods[0].exit_code == 4


def test_pod_whose_controller_died_before_it_started_is_started_once(tmp_path: Path) -> None:
    """The pod's folder is there, no shim ever was: what kill -9 between the two leaves."""
    from controller.cluster import local

    first = LocalCluster(tmp_path / "state")
    started = tmp_path / "started"
    script = f"open({str(started)!r}, 'a').write('x')"
    held = local.LocalCluster._start
    try:
        local.LocalCluster._start = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            first.create(manifest(script))
    finally:
        local.LocalCluster._start = held  # type: ignore[method-assign]
    two = [LocalCluster(tmp_path / "state"), LocalCluster(tmp_path / "state")]
    for one in two:
        one.snapshot()
    assert over(two[0]).end
    assert started.read_text() == "x"


def test_deadline_ends_pod_and_job(tmp_path: Path) -> None:
    now = time.time()
    clock = [now]
    timed = LocalCluster(tmp_path / "timed", clock=lambda: clock[0])
    timed.create(manifest(waits_for(tmp_path / "never"), activeDeadlineSeconds=60, grace=1))
    until(timed, lambda: only(timed).running)
    assert not only(timed).over
    clock[0] = now + 61
    job = over(timed)
    assert job.end and (job.end.succeeded, job.end.reason) == (False, "DeadlineExceeded")
    assert "activeDeadlineSeconds 60" in job.end.message and len(job.pods) == 1


def test_finished_job_and_its_pods_go_after_their_time_to_live(tmp_path: Path) -> None:
    clock = [time.time()]
    timed = LocalCluster(tmp_path / "timed", clock=lambda: clock[0])
    timed.create(manifest("pass", ttlSecondsAfterFinished=100))
    over(timed)
    clock[0] += 50
    assert len(timed.snapshot().jobs) == 1
    clock[0] += 100
    assert timed.snapshot().jobs == ()
    assert list((tmp_path / "timed" / "pods").iterdir()) == []


def test_folder_left_half_made_or_half_removed_is_cleared_away(tmp_path: Path) -> None:
    LocalCluster(tmp_path / "state")
    half = tmp_path / "state" / "pods" / ".some-uid"
    half.mkdir()
    assert LocalCluster(tmp_path / "state").snapshot().jobs == ()
    assert not half.exists()


def test_same_job_twice_is_done_another_of_its_name_is_an_error(cluster: LocalCluster) -> None:
    assert cluster.create(manifest("pass")) is True
    assert cluster.create(manifest("pass")) is False
    with pytest.raises(NameTaken, match="another task"):
        cluster.create(manifest("pass", task="t2"))
    assert len(only(cluster).pods) == 1


@pytest.mark.parametrize("broken", [{}, {"kind": "Pod"}, {"kind": "Job", "metadata": {"name": "x"}, "spec": {}}])
def test_manifest_that_is_no_job_is_refused(cluster: LocalCluster, broken: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        cluster.create(broken)
    with pytest.raises(Refused, match="lower-case"):
        cluster.create(manifest("pass", name="../../etc"))


ENVIRONMENT = [
    {"name": "PLAIN", "value": "word"},
    {"name": "AFTER", "value": "$(PLAIN)-$(UNKNOWN)-$$(PLAIN)"},
    {"name": "WORK", "value": "/work/checkout"},
    {"name": "CACHE", "value": "/cache"},
    {"name": "OTHER", "value": "/cachet"},
    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    {"name": "JOB", "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{labels.JOB_UID}']"}}},
    {"name": "COLOUR", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['colour']"}}},
    {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
    {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "clearml", "key": "ACCESS"}}},
    {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "clearml", "key": "no", "optional": True}}},
    {"name": "LOG", "value": "/dev/termination-log"},
]


def test_container_sees_the_manifests_environment_and_nothing_of_the_users(tmp_path: Path) -> None:
    outer = {
        "PATH": os.environ["PATH"],
        "HOME": "/root",
        "AWS_SECRET": "x",
        "https_proxy": "http://p",
        "UV_CACHE_DIR": "/",
    }
    cluster = LocalCluster(tmp_path / "state", {"ACCESS": "s3cret-value"}, environ=outer)
    script = "import json, os; json.dump(dict(os.environ), open(os.environ['TERMINATION'], 'w'))"
    script = script.replace("TERMINATION", names.TERMINATION_LOG)
    container = {
        "env": ENVIRONMENT,
        "resources": {"limits": {"memory": "1Gi"}},
        "volumeMounts": [{"name": "work", "mountPath": "/work"}, {"name": "cache", "mountPath": "/cache/"}],
    }
    volumes = [{"name": "work", "emptyDir": {}}, {"name": "cache", "hostPath": {"path": str(tmp_path / "cache")}}]
    cluster.create(manifest(script, container=container, pod={"volumes": volumes}))
    job = over(cluster)
    import json

    seen = json.loads(job.pods[0].termination)
    pod = job.pods[0]
    folder = tmp_path / "state" / "pods" / pod.uid
    expected = {
        "PLAIN": "word", "AFTER": "word-$(UNKNOWN)-$(PLAIN)", "WORK": str(folder / "volumes" / "work" / "checkout"),
        "CACHE": str(tmp_path / "cache"), "OTHER": "/cachet", "POD": pod.name, "JOB": job.uid, "COLOUR": "red",
        "NODE": "localhost", "LIMIT": "1Gi", "SECRET": "s3cret-value", "LOG": str(folder / "termination"),
        "HOME": str(folder / "home"), "https_proxy": "http://p", "PATH": outer["PATH"],
        names.POD_UID: pod.uid, names.TERMINATION_LOG: str(folder / "termination"),
    }  # fmt: skip
    extra = {"LC_CTYPE"}  # CPython's own (PEP 538)
    assert {name: value for name, value in seen.items() if name not in extra} == expected
    assert pod.memory_limit == "1Gi"
    written = [file for file in (tmp_path / "state").rglob("*") if file.is_file() and file.name != "termination"]
    assert not [file for file in written if "s3cret-value" in file.read_text(errors="replace")]


def test_missing_secret_fails_the_pod_with_its_name(cluster: LocalCluster) -> None:
    env = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "clearml", "key": "nowhere"}}}]
    cluster.create(manifest("pass", container={"env": env}))
    pod = over(cluster).pods[0]
    assert pod.reason == "CreateContainerConfigError" and "'nowhere'" in pod.message


def test_command_that_does_not_exist_is_a_start_error(cluster: LocalCluster) -> None:
    cluster.create(manifest("", container={"command": ["/no/such/program"]}))
    pod = over(cluster).pods[0]
    assert (pod.exit_code, pod.reason) == (127, "StartError") and "/no/such/program" in pod.message


def test_folder_that_cannot_be_used_is_a_cluster_error(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path / "state")
    (tmp_path / "state" / "jobs" / "tasks").mkdir()
    (tmp_path / "state" / "jobs" / "tasks" / "torn").write_text("{")
    with pytest.raises(ClusterError, match="cannot be used"):
        cluster.snapshot()


def test_shim_is_small(cluster: LocalCluster, tmp_path: Path) -> None:
    cluster.create(manifest(waits_for(tmp_path / "go")))
    until(cluster, lambda: only(cluster).running)
    folder = tmp_path / "state" / "pods" / only(cluster).pods[0].uid
    shim = psutil.Process(int((folder / "started").read_text().split()[0]))
    assert shim.memory_full_info().uss < 12 * 2**20
    (tmp_path / "go").touch()
    over(cluster)
