"""What the NVIDIA driver reports as it happens: Xid errors and uncorrectable memory errors, by NVML's event API.

An Xid is why a task "just died" on a GPU. The driver queues events for whoever registered; they are taken without
waiting, at each sample and once more at the end. Events come from whole devices, so those of a MIG instance name it.
Where the driver offers no events (an old library, a platform without them) there are none to tell.
"""

from __future__ import annotations

from typing import Any

_MOST_AT_ONCE = 50
"""A device that fails may report without end."""
_NO_INSTANCE = 0xFFFFFFFF
_MEANING = {
    13: "an exception in a kernel, usually an illegal access of the program's own",
    31: "a memory page fault, usually an illegal address of the program's own",
    43: "the GPU stopped processing the program after an error of the program's own",
    45: "the program's work on the GPU was cleaned up, usually after another error",
    48: "an uncorrectable memory (ECC) error: the device needs a reset",
    61: "an error of the device's firmware: the device needs a reset",
    62: "an error of the device's firmware: the device needs a reset",
    63: "a memory row is being remapped or retired",
    64: "a memory row could not be remapped or retired: the device needs service",
    74: "an error on an NVLink",
    79: "the GPU fell off the bus: hardware, power or heat; the node needs a look",
    92: "many corrected memory errors",
    94: "an uncorrectable memory error that was contained: this program alone has to be started again",
    95: "an uncorrectable memory error that was not contained: the device needs a reset",
    119: "the device's GSP firmware does not answer: the device needs a reset",
    120: "an error of the device's GSP firmware",
}
"""The common ones of NVIDIA's catalogue (https://docs.nvidia.com/deploy/xid-errors/)."""


class XidEvents:
    """The driver's event queue of this container's devices."""

    def __init__(self, nvml: Any, queue: Any) -> None:
        self._nvml = nvml
        self._queue = queue

    @classmethod
    def open(cls, nvml: Any, devices: list[Any]) -> XidEvents | None:
        """Register for each device; None where not one of them offers such events."""
        wanted = nvml.nvmlEventTypeXidCriticalError | nvml.nvmlEventTypeDoubleBitEccError
        try:
            queue = nvml.nvmlEventSetCreate()
        except nvml.NVMLError:
            return None
        registered = 0
        for device in devices:
            try:
                if kinds := nvml.nvmlDeviceGetSupportedEventTypes(device) & wanted:
                    nvml.nvmlDeviceRegisterEvents(device, kinds, queue)
                    registered += 1
            except nvml.NVMLError:
                continue
        return cls(nvml, queue) if registered else None

    def take(self) -> list[str]:
        """What came since the last call, in words; does not wait and raises nothing."""
        found: list[str] = []
        while len(found) < _MOST_AT_ONCE:
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._queue, 0)
            except self._nvml.NVMLError:  # none left (a timeout), or the device that would tell is gone
                break
            found.append(self._words(event))
        return found

    def _words(self, event: Any) -> str:
        nvml = self._nvml
        try:
            where = f"GPU {nvml.nvmlDeviceGetIndex(event.device)}"
        except nvml.NVMLError:
            where = "a GPU"
        if event.gpuInstanceId != _NO_INSTANCE:
            where += f" (MIG instance {event.gpuInstanceId})"
        if event.eventType == nvml.nvmlEventTypeDoubleBitEccError:
            return f"{where}: an uncorrectable memory (ECC) error"
        number = int(event.eventData)
        meaning = _MEANING.get(number)
        return f"{where}: the driver reports Xid {number}" + (f", {meaning}" if meaning else "")
