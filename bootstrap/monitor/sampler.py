"""Machine use at an interval: scalars on the task's page, a status report on ClearML's Workers page.

The names are those that the SDK's own resource monitor gives (`:monitor:machine`, `:monitor:gpu`), so that the web
page shows them where its users look. The iteration axis is seconds since the start. Figures are the pod's where its
control group tells them, the machine's otherwise. psutil is imported here, on this thread, never before the task
has started.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap.children import descendants
from bootstrap.monitor import cgroup
from bootstrap.monitor.gpu import Gpus
from clearml_api import events, workers
from clearml_api.session import ONCE, Session
from protocol.errors import PodstrapError

_LOOK_SECONDS = 1.0
_MIB = 2.0**20
_GIB = 2.0**30


@dataclass(frozen=True)
class Sample:
    """One reading: scalar series by plot, and the worker's machine statistics."""

    machine: Mapping[str, float]
    gpu: Mapping[str, float]
    stats: Mapping[str, Any]
    tree_bytes: int
    """Resident memory of bootstrap's descendants: the task and whatever it started."""


class Sampler:
    """Samples until stopped, on a thread of its own."""

    def __init__(
        self,
        session: Session,
        *,
        task: str,
        queue: str,
        worker: str,
        seconds: float,
        work: Path,
        tell: Callable[[str], None],
    ) -> None:
        self._session = session
        self._task, self._queue, self._worker = task, queue, worker
        self._seconds = seconds
        self._work = work
        self._tell = tell
        self._stop = threading.Event()
        self._failed = False
        self._gpus: Gpus | None = None
        self.peak_memory_bytes = 0
        self.on_peak: Callable[[int], None] | None = None
        self._thread = threading.Thread(target=self._main, name="monitor", daemon=True)

    def start(self) -> None:
        """Begin; the first sample comes at once."""
        self._thread.start()

    def stop(self) -> None:
        """End; takes no longer than a request under way."""
        self._stop.set()
        self._thread.join(2)

    @property
    def peak_gpu_memory_mb(self) -> float:
        """The most that any one GPU held; 0 without a GPU."""
        return self._gpus.peak_memory_mb if self._gpus else 0.0

    @property
    def gpu_errors(self) -> list[str]:
        """What the GPUs' driver reported during the run."""
        return self._gpus.errors if self._gpus else []

    def _main(self) -> None:
        try:
            self._gpus = Gpus.open()
            reader = _Reader(self._work)
            began = time.monotonic()
            while True:
                sample = reader.sample(self._gpus)
                self._tell_lost_gpus()
                self._tell_killed(reader)
                self._note_peak(sample.tree_bytes)
                self._send(sample, int(time.monotonic() - began))
                if self._wait(reader):
                    self._tell_lost_gpus()  # what ended the task may be a moment old
                    self._tell_killed(reader)
                    return
        except Exception as error:  # whatever a machine's /proc, psutil or driver does: the task is worth more
            self._tell(f"machine use is not sampled any more: {type(error).__name__}: {error}")

    def _tell_lost_gpus(self) -> None:
        if self._gpus and (trouble := self._gpus.take_trouble()):
            self._tell(trouble)

    def _tell_killed(self, reader: _Reader) -> None:
        """A worker of the task's that the kernel killed may be all that is ever seen of a lack of memory."""
        if killed := reader.out_of_memory(self.peak_memory_bytes):
            self._tell(f"out of memory: the kernel killed a process of this pod ({killed})")

    def _wait(self, reader: _Reader) -> bool:
        """Until the next sample is due; True: stopped. Meanwhile a pod that comes near its limit is looked at every
        second, so that the peak is known when the kernel takes it whole."""
        end = time.monotonic() + self._seconds
        while not self._stop.wait(min(_LOOK_SECONDS, max(0.0, end - time.monotonic()))):
            if time.monotonic() >= end:
                return False
            if cgroup.near_limit():
                self._note_peak(reader.tree().resident_bytes)
        return True

    def _note_peak(self, tree_bytes: int) -> None:
        if tree_bytes > self.peak_memory_bytes:
            self.peak_memory_bytes = tree_bytes
            if self.on_peak:
                self.on_peak(tree_bytes)

    def _send(self, sample: Sample, second: int) -> None:
        millis = int(time.time() * 1000)
        batch = [
            events.scalar_event(self._task, self._worker, millis, plot, name, value, second)
            for plot, series in ((":monitor:machine", sample.machine), (":monitor:gpu", sample.gpu))
            for name, value in series.items()
        ]
        try:
            events.add_batch(self._session, batch, bounds=ONCE)
            workers.status_report(
                self._session,
                self._worker,
                task=self._task,
                queue=self._queue,
                millis=millis,
                machine_stats=sample.stats,
                bounds=ONCE,
            )
            self._failed = False
        except PodstrapError as error:
            if not self._failed:  # one line an outage
                self._failed = True
                self._tell(f"a sample of machine use was not taken by the server: {str(error).splitlines()[0]}")


@dataclass(frozen=True)
class _Tree:
    """Bootstrap's descendants: the task and whatever it started."""

    resident_bytes: int
    cpu_seconds: float


class _Reader:
    """Reads counters and turns them into rates since the last reading."""

    def __init__(self, work: Path) -> None:
        import psutil

        self._psutil = psutil
        self._work = str(work)
        self._at = time.monotonic()
        self._before = cgroup.read()
        self._cpu = self._before.cpu_seconds
        self._tree_cpu = self.tree().cpu_seconds
        read, written = self._before.read_bytes, self._before.written_bytes
        self._disk = (read, written) if read is not None else _machine_io(psutil)
        self._network = psutil.net_io_counters()
        psutil.cpu_percent()

    def sample(self, gpus: Gpus | None) -> Sample:
        psutil = self._psutil
        now = time.monotonic()
        passed = max(now - self._at, 0.001)
        pod = cgroup.read()
        memory = psutil.virtual_memory()
        limit = min(pod.memory_limit_bytes or memory.total, memory.total)
        used = pod.memory_bytes if pod.memory_bytes is not None else memory.total - memory.available
        cores = pod.cpu_limit or psutil.cpu_count() or 1
        if pod.cpu_seconds is not None and self._cpu is not None and passed > 0.5:
            cpu = min(100.0, max(0.0, (pod.cpu_seconds - self._cpu) / passed / cores * 100))
        else:
            cpu = psutil.cpu_percent()
        network, tree = psutil.net_io_counters(), self.tree()
        disk = (pod.read_bytes, pod.written_bytes) if pod.read_bytes is not None else _machine_io(psutil)
        space = psutil.disk_usage(self._work)
        rates = {
            "io_read_mbs": _rate(self._disk[0], disk[0], passed),
            "io_write_mbs": _rate(self._disk[1], disk[1], passed),
            "network_rx_mbs": _rate(self._network.bytes_recv, network.bytes_recv, passed),
            "network_tx_mbs": _rate(self._network.bytes_sent, network.bytes_sent, passed),
        }
        task_cpu = max(0.0, tree.cpu_seconds - self._tree_cpu) / passed * 100
        self._at, self._cpu, self._disk, self._network = now, pod.cpu_seconds, disk, network
        self._tree_cpu = tree.cpu_seconds
        machine = {
            "cpu_usage": cpu,
            "memory_used_gb": used / _GIB,
            "memory_free_gb": max(0, limit - used) / _GIB,
            "disk_free_percent": 100.0 - space.percent,
            "disk_free_gb": space.free / _GIB,
            "task_cpu_percent_of_core": task_cpu,
            "task_memory_gb": tree.resident_bytes / _GIB,
            **rates,
        }
        stats: dict[str, Any] = {
            "cpu_usage": [cpu],
            "memory_used": used / _MIB,
            "memory_free": max(0, limit - used) / _MIB,
            "disk_free_home": space.free / _MIB,
            "disk_read": rates["io_read_mbs"],
            "disk_write": rates["io_write_mbs"],
            "network_rx": rates["network_rx_mbs"],
            "network_tx": rates["network_tx_mbs"],
        }
        return Sample(machine, *_gpu_figures(gpus, stats), tree.resident_bytes)

    def out_of_memory(self, seen_bytes: int) -> str:
        """What the kernel killed for memory since the last call, with limit and peak; empty: nothing."""
        now = cgroup.read()
        before, self._before = self._before, now
        return cgroup.out_of_memory(before, now, seen_bytes)

    def tree(self) -> _Tree:
        """The task's processes, those that are alive."""
        resident, cpu = 0, 0.0
        for one in descendants():
            with contextlib.suppress(self._psutil.Error):
                process = self._psutil.Process(one.pid)
                times = process.cpu_times()
                resident += process.memory_info().rss
                cpu += times.user + times.system
        return _Tree(resident, cpu)


def _gpu_figures(gpus: Gpus | None, stats: dict[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    series: dict[str, float] = {}
    rows = gpus.sample() if gpus else ()
    for row in rows:
        figures = {
            "utilization": row.utilization,
            "mem_used_gb": None if row.memory_used_mb is None else row.memory_used_mb / 1024,
            "mem_free_gb": None if row.memory_free_mb is None else row.memory_free_mb / 1024,
            "mem_usage": row.memory_percent,
            "temperature": row.temperature,
            "power_draw": row.power_watts,
            "sm_clock_mhz": row.clock_mhz,
            "memory_clock_mhz": row.memory_clock_mhz,
            "ecc_corrected": row.ecc_corrected,
            "ecc_uncorrected": row.ecc_uncorrected,
        }
        series.update({f"gpu_{row.index}_{name}": value for name, value in figures.items() if value is not None})
    if rows:
        stats["gpu_usage"] = [row.utilization or 0.0 for row in rows]
        stats["gpu_temperature"] = [row.temperature or 0.0 for row in rows]
        stats["gpu_memory_used"] = [row.memory_used_mb or 0.0 for row in rows]
        stats["gpu_memory_free"] = [row.memory_free_mb or 0.0 for row in rows]
    return series, stats


def _machine_io(psutil: Any) -> tuple[int | None, int | None]:
    """Bytes read and written by the whole machine: where the control group does not tell the pod's own."""
    found = psutil.disk_io_counters()
    return (found.read_bytes, found.write_bytes) if found else (None, None)


def _rate(before: int | None, after: int | None, seconds: float) -> float:
    """MiB a second between two counters; 0 where there are none."""
    if before is None or after is None:
        return 0.0
    return max(0, after - before) / _MIB / seconds
