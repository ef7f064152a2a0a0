"""Machine use: control groups of both versions, NVML through the real pynvml, and what reaches the server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootstrap.monitor import cgroup
from bootstrap.monitor.gpu import Gpus
from bootstrap.monitor.sampler import Sampler
from tests import support


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_version_2_as_the_kernel_documents_it(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "cgroup.controllers": "cpu io memory pids\n",
            "memory.current": "1073741824\n",
            "memory.max": "2147483648\n",
            "memory.peak": "1610612736\n",
            "memory.events": "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n",
            "cpu.max": "150000 100000\n",
            "cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n",
            "io.stat": (
                "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n"
                "8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021\n"
            ),
        },
    )
    io = (1459200 + 90430464, 314773504 + 299008000)
    assert cgroup.read(root) == cgroup.Usage(1 << 30, 2 << 30, 3 << 29, 2.5, 1.5, 1, *io)
    assert not cgroup.near_limit(root)
    (root / "memory.current").write_text("1073741825\n")
    assert cgroup.near_limit(root)


def test_version_2_without_limits_and_on_an_older_kernel(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "cgroup.controllers": "cpu memory\n",
            "memory.current": "5\n",
            "memory.max": "max\n",
            "cpu.max": "max 100000\n",
            "cpu.stat": "usage_usec 1\n",
        },
    )
    assert cgroup.read(root) == cgroup.Usage(memory_bytes=5, cpu_seconds=1e-06)


def test_version_1_as_the_kernel_documents_it(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "memory/memory.usage_in_bytes": "1073741824\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/memory.max_usage_in_bytes": "1610612736\n",
            "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "cpu,cpuacct/cpuacct.usage": "2500000000\n",
            "blkio/blkio.throttle.io_service_bytes": (
                "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 0\n8:0 Async 12288\n8:0 Discard 0\n8:0 Total 12288\n"
                "8:16 Read 1\n8:16 Write 2\n8:16 Sync 0\n8:16 Async 3\n8:16 Discard 0\n8:16 Total 3\nTotal 12291\n"
            ),
        },
    )
    assert cgroup.read(root) == cgroup.Usage(1 << 30, None, 3 << 29, 2.5, None, 2, 4097, 8194)
    assert not cgroup.near_limit(root), "without a limit nothing is near it"


def test_version_1_with_cpu_and_cpuacct_in_folders_of_their_own(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "memory/memory.usage_in_bytes": "1\n",
            "cpu/cpu.cfs_quota_us": "50000\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "cpuacct/cpuacct.usage": "2500000000\n",
        },
    )
    found = cgroup.read(root)
    assert (found.cpu_seconds, found.cpu_limit) == (2.5, 0.5)


def test_no_control_groups_is_no_error(tmp_path: Path) -> None:
    assert cgroup.read(tmp_path / "nothing") == cgroup.Usage()


def test_this_machines_own_control_groups_are_read() -> None:
    if not (Path("/sys/fs/cgroup/memory").is_dir() or Path("/sys/fs/cgroup/memory.current").exists()):
        pytest.skip("this machine mounts no memory control group here")
    found = cgroup.read()
    assert found.memory_bytes is not None and found.memory_bytes > 1 << 20
    assert found.cpu_seconds is not None and found.cpu_seconds > 0


def built(folder: Path, *more: str) -> Path:
    source = Path(__file__).with_name("fake_nvml.c")
    words = ["cc", "-shared", "-fPIC", "-Wall", "-Werror", *more, "-o", str(folder / "libnvidia-ml.so.1"), str(source)]
    subprocess.run(words, check=True)
    return folder


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small libnvidia-ml.so.1."""
    return built(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without the functions that an old library lacks."""
    return built(tmp_path_factory.mktemp("nvml"), "-DOLD")


def sampled(nvml: Path, rounds: int = 1, **variables: str) -> list[dict]:
    """What `Gpus` says in a process of its own, for each round: its rows and its trouble."""
    script = (
        "import json, sys\n"
        "from dataclasses import asdict\n"
        "from bootstrap.monitor.gpu import Gpus\n"
        "gpus = Gpus.open()\n"
        "found = [{'rows': [asdict(row) for row in gpus.sample()], 'trouble': gpus.take_trouble()}\n"
        "         for _ in range(int(sys.argv[1]))] if gpus else []\n"
        "print(json.dumps(found))\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(support.REPOSITORY_ROOT), "LD_LIBRARY_PATH": str(nvml), **variables}
    done = subprocess.run(
        [sys.executable, "-c", script, str(rounds)], env=environ, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_gpu_tells_what_it_can(nvml: Path) -> None:
    (only,) = sampled(nvml, FAKE_GPUS="2")
    assert only["trouble"] == ""
    assert only["rows"][1] == {
        "index": 1,
        "utilization": 51.0,
        "memory_used_mb": 21 * 1024.0,
        "memory_free_mb": 59 * 1024.0,
        "memory_percent": 26.25,
        "temperature": 61.0,
        "power_watts": 350.0,
        "clock_mhz": 1980.0,
        "memory_clock_mhz": 2619.0,
        "ecc_corrected": 7.0,
        "ecc_uncorrected": 0.0,
    }


def test_an_old_library_tells_what_it_has(old_nvml: Path) -> None:
    (only,) = sampled(old_nvml, FAKE_GPUS="1", FAKE_XIDS="79")
    assert only["trouble"] == ""
    assert only["rows"][0]["utilization"] == 50.0
    assert only["rows"][0]["ecc_corrected"] is only["rows"][0]["ecc_uncorrected"] is None


def test_xid_errors_are_told_once_with_what_they_mean(nvml: Path) -> None:
    first, second = sampled(nvml, 2, FAKE_GPUS="2", FAKE_XIDS="79 31 999")
    assert first["trouble"].split("; ")[0].startswith("GPU 0: the driver reports Xid 79, the GPU fell off the bus")
    assert "Xid 31, a memory page fault" in first["trouble"]
    assert first["trouble"].endswith("GPU 0: the driver reports Xid 999")
    assert second["trouble"] == ""


def test_the_xid_of_a_mig_instance_names_it(nvml: Path) -> None:
    (only,) = sampled(nvml, FAKE_GPUS="1", FAKE_MIG="1", FAKE_XIDS="94")
    assert only["trouble"].startswith("GPU 0 (MIG instance 3): the driver reports Xid 94")


def test_a_device_without_events_is_sampled_all_the_same(nvml: Path) -> None:
    (only,) = sampled(nvml, FAKE_GPUS="1", FAKE_NO_EVENTS="1", FAKE_XIDS="79")
    assert (len(only["rows"]), only["trouble"]) == (1, "")


def test_mig_instances_tell_their_memory_and_nothing_is_guessed(nvml: Path) -> None:
    (only,) = sampled(nvml, FAKE_GPUS="2", FAKE_MIG="1")
    first, second, whole = only["rows"]
    assert first["memory_used_mb"] == second["memory_used_mb"] == 1024.0
    assert first["utilization"] is first["power_watts"] is first["temperature"] is None
    assert whole["utilization"] == 51.0


def test_a_gpu_that_falls_off_the_bus_is_told_once_and_the_rest_goes_on(nvml: Path) -> None:
    rounds = sampled(nvml, 3, FAKE_GPUS="2", FAKE_LOST_AFTER="2")
    assert [len(one["rows"]) for one in rounds] == [2, 1, 1]
    assert [bool(one["trouble"]) for one in rounds] == [False, True, False]
    assert "GPU 1" in rounds[1]["trouble"] and "lost" in rounds[1]["trouble"]


@pytest.mark.parametrize("variables", [{"FAKE_GPUS": "1", "FAKE_NO_DRIVER": "1"}, {"FAKE_GPUS": "0"}])
def test_without_driver_or_device_there_is_nothing_to_sample(nvml: Path, variables) -> None:
    assert sampled(nvml, **variables) == []


def test_what_the_gpus_driver_reported_is_a_part_of_the_failures_reason(api, queued, start, nvml: Path) -> None:
    task = queued("import sys, time\ntime.sleep(1.5)\nsys.exit('CUDA error')")
    pod = start(task, LD_LIBRARY_PATH=str(nvml), FAKE_GPUS="1", FAKE_XIDS="79", PODSTRAP_SAMPLE_SECONDS="1")
    assert pod.wait(30) == 1
    found = support.task(api, task)
    assert "CUDA error" in found.status_message
    assert "GPU 0: the driver reports Xid 79, the GPU fell off the bus" in found.status_message
    last = support.console(api, task).splitlines()[-1]
    assert "peak GPU memory 20480 MiB, 1 GPU error" in last
    series = api.call("events.scalar_metrics_iter_histogram", {"task": task})[":monitor:gpu"]
    assert {"gpu_0_utilization", "gpu_0_ecc_corrected", "gpu_0_power_draw", "gpu_0_sm_clock_mhz"} <= set(series)


def begin(api, task: str, folder: Path, told: list[str]) -> Sampler:
    return Sampler(api, task=task, queue="", worker=f"podstrap:{task}", seconds=0.2, work=folder, tell=told.append)


def test_samples_are_scalars_of_the_task_and_the_pod_is_a_worker(api, tmp_path: Path) -> None:
    task = support.create_task(api, "monitor test", "pass")
    told: list[str] = []
    sampler = begin(api, task, tmp_path, told)
    child = subprocess.Popen([sys.executable, "-c", "x = bytearray(50 << 20); import time; time.sleep(60)"])

    def series() -> dict:
        answer = api.call("events.scalar_metrics_iter_histogram", {"task": task})
        return answer.get(":monitor:machine", {})

    try:
        sampler.start()
        wanted = {
            "cpu_usage", "memory_used_gb", "memory_free_gb", "disk_free_percent", "io_read_mbs", "io_write_mbs",
            "network_rx_mbs", "network_tx_mbs", "task_cpu_percent_of_core", "task_memory_gb",
        }  # fmt: skip
        support.until(lambda: wanted <= set(series()), 20, lambda: f"{series().keys()} {told}")
        support.until(lambda: sampler.peak_memory_bytes > 50 << 20, 20)
        workers = api.call("workers.get_all", {"last_seen": 60})["workers"]
        assert f"podstrap:{task}" in [one["id"] for one in workers]
    finally:
        child.kill()
        child.wait()
        sampler.stop()
    assert told == []


def test_a_monitor_that_breaks_says_so_once_and_nothing_else_happens(api, tmp_path: Path, monkeypatch) -> None:
    import psutil

    def broken() -> None:
        raise psutil.AccessDenied(1, "hidepid")

    monkeypatch.setattr(psutil, "virtual_memory", broken)
    told: list[str] = []
    sampler = begin(api, support.create_task(api, "monitor test", "pass"), tmp_path, told)
    sampler.start()
    sampler._thread.join(20)
    assert not sampler._thread.is_alive()
    assert len(told) == 1 and "AccessDenied" in told[0]


def test_the_real_driver_where_there_is_one() -> None:
    gpus = Gpus.open()
    if gpus is None:
        pytest.skip("no GPU on this machine")
    began = time.monotonic()
    rows = gpus.sample()
    assert rows and all(row.memory_used_mb is not None for row in rows)
    assert time.monotonic() - began < 1
