"""Each GPU's use through NVML (nvidia-ml-py). No driver, no GPU: `open` says so once and nothing is sampled.

NVML shows the host's process ids, which mean nothing in a container, so use is told per device only. A driver that
dies in the middle ends the samples with one line; the run goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GpuSample:
    """One device at one moment: percent, MiB, Celsius, watts."""

    index: int
    utilization: float | None
    memory_used_mb: float | None
    memory_free_mb: float | None
    temperature: float | None
    power_watts: float | None


class Gpus:
    """The devices that this container sees."""

    def __init__(self, nvml: Any, handles: list[Any]) -> None:
        self._nvml = nvml
        self._handles = handles
        self.peak_memory_mb = 0.0

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
            handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError:
            return None
        return cls(pynvml, handles) if handles else None

    def sample(self) -> list[GpuSample]:
        """All devices. Raises nothing: a figure that the driver does not give is None."""
        found = []
        for index, handle in enumerate(self._handles):
            memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
            rates = self._ask("nvmlDeviceGetUtilizationRates", handle)
            power = self._ask("nvmlDeviceGetPowerUsage", handle)
            temperature = self._ask("nvmlDeviceGetTemperature", handle, self._nvml.NVML_TEMPERATURE_GPU)
            used = None if memory is None else memory.used / 2**20
            self.peak_memory_mb = max(self.peak_memory_mb, used or 0.0)
            found.append(
                GpuSample(
                    index=index,
                    utilization=None if rates is None else float(rates.gpu),
                    memory_used_mb=used,
                    memory_free_mb=None if memory is None else memory.free / 2**20,
                    temperature=None if temperature is None else float(temperature),
                    power_watts=None if power is None else power / 1000,
                )
            )
        return found

    def _ask(self, function: str, *arguments: Any) -> Any:
        try:
            return getattr(self._nvml, function)(*arguments)
        except self._nvml.NVMLError:
            return None
