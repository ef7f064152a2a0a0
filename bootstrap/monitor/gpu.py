"""Each GPU's use through NVML (nvidia-ml-py). No driver, no GPU: `open` says so and nothing is sampled.

A device that is cut into MIG instances is told by instance: memory is the instance's own; utilisation, power and
temperature exist for the whole device only (NVML answers "not supported" for an instance), so they are left out there
rather than guessed. NVML shows the host's process ids, which mean nothing in a container: use is told per device, never
per process. A device that is lost in the middle (Xid 79: it fell off the bus) is told once and sampled no more. AMD's
GPUs (ROCm) have another library and are not sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bootstrap.monitor.xid import XidEvents


@dataclass(frozen=True)
class GpuSample:
    """One device (or MIG instance) at one moment: percent, MiB, Celsius, watts; None where the driver does not tell."""

    index: int
    utilization: float | None
    memory_used_mb: float | None
    memory_free_mb: float | None
    memory_percent: float | None
    temperature: float | None
    power_watts: float | None
    clock_mhz: float | None
    memory_clock_mhz: float | None
    ecc_corrected: float | None
    """Since the driver was loaded; only where the device counts them."""
    ecc_uncorrected: float | None


class Gpus:
    """The devices that this container sees."""

    def __init__(self, nvml: Any, handles: list[Any], events: XidEvents | None = None) -> None:
        self._nvml = nvml
        self._events = events
        self._handles = dict(enumerate(handles))
        self._trouble: list[str] = []
        self.peak_memory_mb = 0.0
        self.errors: list[str] = []
        """Every error that the driver reported (Xid) since `open`."""

    @classmethod
    def open(cls) -> Gpus | None:
        """None where there is no NVML library, no driver or no device."""
        import ctypes

        try:
            ctypes.CDLL("libnvidia-ml.so.1")  # a cheap look before pynvml is imported (28 ms)
        except OSError:
            return None
        import pynvml

        try:
            pynvml.nvmlInit()
            devices = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError:
            return None
        handles = [handle for device in devices for handle in _instances(pynvml, device) or [device]]
        return cls(pynvml, handles, XidEvents.open(pynvml, devices)) if handles else None

    def sample(self) -> list[GpuSample]:
        """All devices. Raises nothing: a figure that the driver does not give is None."""
        return [row for index in list(self._handles) if (row := self._one(index)) is not None]

    def take_trouble(self) -> str:
        """What went wrong since the last call, for one line in the console; errors that the driver reported too."""
        found = self._events.take() if self._events else []
        self.errors += found
        told, self._trouble = "; ".join(self._trouble + found), []
        return told

    def _one(self, index: int) -> GpuSample | None:
        nvml = self._nvml
        memory = self._ask(index, "nvmlDeviceGetMemoryInfo")
        rates = self._ask(index, "nvmlDeviceGetUtilizationRates")
        power = self._ask(index, "nvmlDeviceGetPowerUsage")
        temperature = self._ask(index, "nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU)
        clock = self._ask(index, "nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM)
        memory_clock = self._ask(index, "nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM)
        corrected, uncorrected = (
            self._ask(index, "nvmlDeviceGetTotalEccErrors", kind, nvml.NVML_VOLATILE_ECC)
            for kind in (nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)
        )
        if index not in self._handles:
            return None
        used = None if memory is None else memory.used / 2**20
        self.peak_memory_mb = max(self.peak_memory_mb, used or 0.0)
        return GpuSample(
            index=index,
            utilization=None if rates is None else float(rates.gpu),
            memory_used_mb=used,
            memory_free_mb=None if memory is None else memory.free / 2**20,
            memory_percent=None if memory is None or not memory.total else 100.0 * memory.used / memory.total,
            temperature=None if temperature is None else float(temperature),
            power_watts=None if power is None else power / 1000,
            clock_mhz=None if clock is None else float(clock),
            memory_clock_mhz=None if memory_clock is None else float(memory_clock),
            ecc_corrected=None if corrected is None else float(corrected),
            ecc_uncorrected=None if uncorrected is None else float(uncorrected),
        )

    def _ask(self, index: int, function: str, *arguments: Any) -> Any:
        handle = self._handles.get(index)
        if handle is None:
            return None
        nvml = self._nvml
        try:
            return getattr(nvml, function)(handle, *arguments)
        except nvml.NVMLError as error:
            if error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_UNINITIALIZED):
                del self._handles[index]
                self._trouble.append(f"GPU {index} is not sampled any more, its driver says: {error}")
            return None


def _instances(nvml: Any, device: Any) -> list[Any]:
    """The MIG instances of a device that is cut into some; none otherwise."""
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(device)
        if current != nvml.NVML_DEVICE_MIG_ENABLE:
            return []
        most = nvml.nvmlDeviceGetMaxMigDeviceCount(device)
    except nvml.NVMLError:
        return []
    found = []
    for number in range(most):
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, number))
        except nvml.NVMLError:
            continue  # not every number has an instance, and not every instance is this container's
    return found
