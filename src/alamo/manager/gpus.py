"""The GPUs that tasks may be given, as the driver knows them and CUDA would number them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

from alamo.errors import UsageError

__all__ = ["GPU", "find_gpus"]

#: As ``strtol`` reads it, which CUDA does: what stands behind the digits does not count.
_INDEX = re.compile(r"\s*\+?(\d+)", re.ASCII)
#: What the driver makes for each GPU.
_DEVICES = "/dev/nvidia[0-9]*"
_MIG_ENABLED = 1


class GPU(NamedTuple):
    """One GPU, or an instance of one that is divided (MIG).

    Attributes:
        name: what stands for it in ``CUDA_VISIBLE_DEVICES``.
        uuid: its name for ever.
        model: what it is.
        memory_bytes: its memory; 0 where it has none of its own.
    """

    name: str
    uuid: str
    model: str
    memory_bytes: int


class _Device(NamedTuple):
    """A whole GPU: it, or its instances where it is divided."""

    gpu: GPU
    instances: tuple[GPU, ...] | None
    #: Older names of its instances: ``MIG-<GPU's uuid>/<gi>/<ci>``.
    old_names: dict[str, GPU]

    @property
    def usable(self) -> tuple[GPU, ...]:
        return (self.gpu,) if self.instances is None else self.instances


def find_gpus() -> tuple[GPU, ...]:
    """The GPUs that ``CUDA_VISIBLE_DEVICES`` of this process leaves, in its order.

    Without that variable: all, in the order of the PCI bus, which tasks are told to keep to by
    ``CUDA_DEVICE_ORDER``.  The numbers in it are taken in that order too.  A GPU that is divided
    stands for its instances.  None without a driver.

    Raises:
        UsageError: the driver has GPUs, and nvidia-ml-py is not installed.
    """
    try:
        import pynvml
    except ImportError:
        if not glob.glob(_DEVICES):
            return ()
        raise UsageError(
            "this machine has GPUs, but what finds them is not installed: pip install alamo[gpu]"
        ) from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no library, no driver, no right to use it: CUDA finds none either
        return ()
    try:
        devices = _devices(pynvml)
    finally:
        pynvml.nvmlShutdown()
    return tuple(_visible(devices, os.environ.get("CUDA_VISIBLE_DEVICES")))


def _devices(nvml: ModuleType) -> list[_Device]:
    """All that can be used, by PCI address."""
    found: list[tuple[tuple[int, int, int], _Device]] = []
    complete = True
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            pci = nvml.nvmlDeviceGetPciInfo(handle)
            device = _device(nvml, handle)
        except nvml.NVMLError:  # fallen off the bus, or another's
            complete = False
            continue
        found.append(((pci.domain, pci.bus, pci.device), device))
    found.sort(key=lambda entry: entry[0])
    devices = [device for _, device in found]
    if not complete:  # whether CUDA counts that one is not known: names are clearer than numbers
        return devices
    return [
        device._replace(gpu=device.gpu._replace(name=str(index)))
        for index, device in enumerate(devices)
    ]


def _device(nvml: ModuleType, handle: Any) -> _Device:
    gpu = _gpu(nvml, handle)
    try:
        divided = nvml.nvmlDeviceGetMigMode(handle)[0] == _MIG_ENABLED
    except nvml.NVMLError:  # it cannot be divided
        divided = False
    if not divided:
        return _Device(gpu, None, {})
    instances, old_names = [], {}
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError:  # this place is empty
            continue
        instance = _gpu(nvml, part)
        instances.append(instance)
        numbers = (nvml.nvmlDeviceGetGpuInstanceId(part), nvml.nvmlDeviceGetComputeInstanceId(part))
        old_names[f"MIG-{gpu.uuid}/{numbers[0]}/{numbers[1]}"] = instance
    return _Device(gpu, tuple(instances), old_names)


def _gpu(nvml: ModuleType, handle: Any) -> GPU:
    uuid = str(nvml.nvmlDeviceGetUUID(handle))
    try:
        memory_bytes = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError:  # it shares the machine's
        memory_bytes = 0
    return GPU(uuid, uuid, str(nvml.nvmlDeviceGetName(handle)), memory_bytes)


def _visible(devices: list[_Device], variable: str | None) -> list[GPU]:
    """What CUDA makes of its variable: the list ends at what it does not know.

    One that is named twice leaves none at all.
    """
    if variable is None:
        return [gpu for device in devices for gpu in device.usable]
    found: list[GPU] = []
    for entry in variable.split(","):
        named = list(_named(devices, entry.strip()))
        if not named:
            break
        if any(gpu in found for gpu in named):
            return []
        found += named
    return found


def _named(devices: list[_Device], entry: str) -> Iterator[GPU]:
    """What one entry stands for: an index, the beginning of a UUID, or an instance."""
    number = _INDEX.match(entry)
    if number:
        index = int(number[1])
        if index < len(devices):
            yield from devices[index].usable
        return
    if entry.startswith("GPU-"):
        like = [device for device in devices if device.gpu.uuid.startswith(entry)]
        if len(like) == 1:  # a beginning that fits several names none
            yield from (gpu._replace(name=gpu.uuid) for gpu in like[0].usable)
        return
    for device in devices:
        for instance in device.instances or ():
            if entry == instance.uuid:
                yield instance
        if entry in device.old_names:
            yield device.old_names[entry]._replace(name=entry)
