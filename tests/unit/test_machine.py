"""What the machine has: limits of control groups, memory, GPUs by a driver made up here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from alamo import cgroups
from alamo.core import terms
from alamo.errors import UsageError
from alamo.manager import gpus
from alamo.manager.machine import Machine, granted_cores, granted_memory_bytes
from alamo.protocol.bindings import Binding

# -- control groups --------------------------------------------------------------------------------

Groups = Callable[[str, dict[str, str]], None]


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Groups:
    """Make control groups: what the process says it is in, and the files."""
    monkeypatch.setattr(cgroups, "_ROOT", str(tmp_path / "cgroup"))
    monkeypatch.setattr(cgroups, "_OWN", str(tmp_path / "own"))

    def make(own: str, files: dict[str, str]) -> None:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    return make


def test_no_control_groups(groups: Groups) -> None:
    assert cgroups.cpu_quota() is None
    assert cgroups.memory_limit_bytes() is None
    groups("0::/\n", {})
    assert cgroups.cpu_quota() is None
    assert cgroups.memory_limit_bytes() is None


def test_least_limit_on_the_way_up(groups: Groups) -> None:
    """As systemd nests them, version 2."""
    groups(
        "0::/system.slice/job/step\n",
        {
            "system.slice/memory.max": "max",
            "system.slice/job/memory.max": "3000",
            "system.slice/job/step/memory.max": "5000",
            "system.slice/job/cpu.max": "150000 100000",
            "system.slice/job/step/cpu.max": "max 100000",
            "other.slice/memory.max": "7",
        },
    )
    assert cgroups.memory_limit_bytes() == 3000
    assert cgroups.cpu_quota() == 1.5


def test_group_mounted_as_root(groups: Groups) -> None:
    """A container sees the name that its group has outside, and its files at the root."""
    groups("0::/docker/abc\n", {"memory.max": "4000", "cpu.max": "200000 100000"})
    assert cgroups.memory_limit_bytes() == 4000
    assert cgroups.cpu_quota() == 2


def test_version_1_and_both(groups: Groups) -> None:
    own = "4:memory:/a/b\n1:cpu,cpuacct:/a\n0::/\n"
    files = {
        "memory/a/memory.limit_in_bytes": "6000",
        "memory/a/b/memory.limit_in_bytes": "9223372036854771712",
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
        "cpu/a/cpu.cfs_quota_us": "50000",
        "cpu/a/cpu.cfs_period_us": "100000",
    }
    groups(own, files)
    assert cgroups.memory_limit_bytes() == 6000
    assert cgroups.cpu_quota() == 0.5
    groups(own, {"unified/memory.max": "5000"})
    assert cgroups.memory_limit_bytes() == 5000


def test_nonsense_is_no_limit(groups: Groups) -> None:
    groups("0::/a:b\n", {"a:b/memory.max": "", "a:b/cpu.max": "often", "cpu.max": "7"})
    assert cgroups.memory_limit_bytes() is None
    assert cgroups.cpu_quota() == 7


# -- what is granted -------------------------------------------------------------------------------


def test_cores_by_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for quota, cores in ((None, 8), (0.5, 1), (3.9, 3), (100.0, 8)):
        monkeypatch.setattr(cgroups, "cpu_quota", lambda quota=quota: quota)
        assert granted_cores() == cores


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    total = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal:")
    )
    assert 0 < granted_memory_bytes() <= total
    monkeypatch.setattr(cgroups, "memory_limit_bytes", lambda: None)
    assert granted_memory_bytes() == total
    monkeypatch.setattr(cgroups, "memory_limit_bytes", lambda: 64 << 20)
    assert granted_memory_bytes() == 64 << 20
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "8")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "4")
    assert granted_memory_bytes() == 32 << 20
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "16")
    assert granted_memory_bytes() == 16 << 20


def test_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Machine()
    assert set(found.cpus) == os.sched_getaffinity(0)
    assert found.memory_bytes > 0
    looks: list[None] = []

    def find() -> tuple[gpus.GPU, ...]:
        looks.append(None)
        return tuple(gpus.GPU(f"GPU-{n}", f"GPU-{n}", "one", 1) for n in "abc")

    monkeypatch.setattr(gpus, "find_gpus", find)
    assert found.binding(terms.PLAIN) == Binding()
    assert found.binding(terms.Binding(cores=4, cpus=(1, 2))) == Binding(4, None, (1, 2))
    assert not looks
    assert found.binding(terms.Binding(gpus=(0, 2))) == Binding(1, ("GPU-a", "GPU-c"))
    assert found.binding(terms.Binding(gpus=(1,))) == Binding(1, ("GPU-b",))
    assert len(looks) == 1


# -- GPUs ------------------------------------------------------------------------------------------


class Driver(ModuleType):
    """The part of pynvml that is used, over a list of devices.

    A device is a dict: ``uuid``, ``bus`` (its PCI address), ``parts`` (instances, ``None`` an
    empty place) where it is divided, ``lost`` where it cannot be used.
    """

    class NVMLError(Exception):
        pass

    def __init__(self, devices: list[dict[str, Any]], works: bool = True) -> None:
        super().__init__("pynvml")
        self._devices = devices
        self._works = works
        self.open = 0

    def nvmlInit(self) -> None:
        if not self._works:
            raise self.NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        assert self.open
        return len(self._devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        return self._devices[index]

    def nvmlDeviceGetPciInfo(self, handle: dict[str, Any]) -> Any:
        if handle.get("lost"):
            raise self.NVMLError("GPU is lost")
        return SimpleNamespace(domain=0, bus=handle["bus"], device=0)

    def nvmlDeviceGetUUID(self, handle: dict[str, Any]) -> str:
        return str(handle["uuid"])

    def nvmlDeviceGetName(self, handle: dict[str, Any]) -> str:
        return "Accelerator"

    def nvmlDeviceGetMemoryInfo(self, handle: dict[str, Any]) -> Any:
        if "memory" not in handle:
            raise self.NVMLError("Not Supported")
        return SimpleNamespace(total=handle["memory"])

    def nvmlDeviceGetMigMode(self, handle: dict[str, Any]) -> list[int]:
        if "parts" not in handle:
            raise self.NVMLError("Not Supported")
        return [int(handle["parts"] is not None), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: dict[str, Any]) -> int:
        return len(handle["parts"])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: dict[str, Any], index: int) -> Any:
        if handle["parts"][index] is None:
            raise self.NVMLError("Not Found")
        return {"uuid": handle["parts"][index], "memory": 5, "numbers": (index + 1, 0)}

    def nvmlDeviceGetGpuInstanceId(self, handle: dict[str, Any]) -> int:
        return int(handle["numbers"][0])

    def nvmlDeviceGetComputeInstanceId(self, handle: dict[str, Any]) -> int:
        return int(handle["numbers"][1])


#: Not in the order of the bus: the second is CUDA's 0.
DEVICES: list[dict[str, Any]] = [
    {"uuid": "GPU-aaa1", "bus": 9, "memory": 80},
    {"uuid": "GPU-abb2", "bus": 3, "memory": 40, "parts": None},
    {"uuid": "GPU-ccc3", "bus": 12, "memory": 80, "parts": ["MIG-x", None, "MIG-z"]},
]


def names(monkeypatch: pytest.MonkeyPatch, devices: list[dict[str, Any]], visible: Any) -> str:
    driver = Driver(devices)
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = gpus.find_gpus()
    assert driver.open == 0
    assert len(set(found)) == len(found)
    return " ".join(gpu.name for gpu in found)


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, "0 1 MIG-x MIG-z"),
        ("", ""),
        ("0", "0"),
        ("1,0", "1 0"),
        (" 1 , 0 ", "1 0"),
        ("0,-1,1", "0"),
        ("0,7,1", "0"),
        ("0,0", ""),
        ("1x,0", "1 0"),
        ("NoDevFiles", ""),
        ("2", "MIG-x MIG-z"),
        ("GPU-abb2,GPU-aaa1", "GPU-abb2 GPU-aaa1"),
        ("GPU-aa", "GPU-aaa1"),
        ("GPU-a", ""),  # which of two?
        ("GPU-zzz,GPU-aaa1", ""),
        ("MIG-z", "MIG-z"),
        ("MIG-GPU-ccc3/3/0", "MIG-GPU-ccc3/3/0"),
        ("MIG-GPU-ccc3/2/0", ""),
        ("GPU-ccc3", "MIG-x MIG-z"),
    ],
)
def test_visible_gpus(monkeypatch: pytest.MonkeyPatch, visible: str | None, found: str) -> None:
    assert names(monkeypatch, DEVICES, visible) == found


def test_lost_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows how CUDA counts then."""
    assert names(monkeypatch, [{"lost": True}, *DEVICES[:2]], None) == "GPU-abb2 GPU-aaa1"


def test_what_is_known_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", Driver([{"uuid": "GPU-a", "bus": 1, "memory": 80}]))
    assert gpus.find_gpus() == (gpus.GPU("0", "GPU-a", "Accelerator", 80),)
    monkeypatch.setitem(sys.modules, "pynvml", Driver([{"uuid": "GPU-a", "bus": 1}]))
    assert gpus.find_gpus()[0].memory_bytes == 0


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Driver(DEVICES, works=False))
    assert gpus.find_gpus() == ()


def test_extra_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(gpus, "_DEVICES", str(tmp_path / "nvidia[0-9]*"))
    (tmp_path / "nvidiactl").touch()
    assert gpus.find_gpus() == ()
    (tmp_path / "nvidia0").touch()
    with pytest.raises(UsageError, match=r"alamo\[gpu\]"):
        gpus.find_gpus()


def test_the_real_library_has_what_is_used() -> None:
    """The driver above is made up: its names are those of the library."""
    nvml = pytest.importorskip("pynvml", reason="the extra alamo[gpu] is not installed")
    used = [name for name in dir(Driver) if name.startswith(("nvml", "NVML"))]
    assert used
    assert not [name for name in used if not hasattr(nvml, name)]
    assert isinstance(gpus.find_gpus(), tuple)  # with a driver or without
