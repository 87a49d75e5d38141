"""What the machine says: CPU time and memory of a process tree, load, versions."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path

import psutil

MANAGER = "alamo.manager"  # stands in the command line of the manager
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SCHED_CLOCK = 2  # the kind of CPU clock that counts in nanoseconds, see clock_getcpuclockid(3)


def tree() -> dict[str, list[int]]:
    """Process ids by role. Without a manager all descendants are workers: those of a rival."""
    own = psutil.Process()
    roles: dict[str, list[int]] = {"client": [own.pid], "manager": [], "workers": []}
    for child in own.children():
        try:
            is_manager = MANAGER in " ".join(child.cmdline())
            below = [process.pid for process in child.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        roles["manager" if is_manager else "workers"].append(child.pid)
        roles["workers"] += below
    return roles


def cpu_s(pid: int) -> float:
    """CPU time of all threads of a process, also of those that ended. Without resolution loss:
    /proc/PID/stat counts in steps of 10 ms, and /proc/PID/schedstat only the first thread."""
    try:
        return time.clock_gettime((~pid << 3) | SCHED_CLOCK)
    except OSError:
        return 0.0


def tree_cpu_s() -> dict[str, dict[int, float]]:
    return {role: {pid: cpu_s(pid) for pid in pids} for role, pids in tree().items()}


def cpu_between_s(
    before: dict[str, dict[int, float]], after: dict[str, dict[int, float]]
) -> dict[str, float]:
    """CPU seconds by role. What ended in between is missing."""
    old = {pid: spent for pids in before.values() for pid, spent in pids.items()}
    return {
        role: sum(spent - old.get(pid, 0.0) for pid, spent in pids.items())
        for role, pids in after.items()
    }


def machine_busy_s() -> float:
    """CPU seconds that all processes of this machine have used since it started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


def busy_cores(window_s: float = 0.2) -> float:
    """How many cores are busy now. Sleeps through the window."""
    before, start = machine_busy_s(), time.perf_counter()
    time.sleep(window_s)
    return (machine_busy_s() - before) / (time.perf_counter() - start)


def tree_memory_bytes() -> dict[str, int]:
    """Memory by role. A page shared by k processes counts 1/k in each of them (PSS); shared blocks
    without a name (memfd) that nobody has mapped at the moment count under `unmapped`."""
    sizes: dict[str, int] = {}
    shared = 0
    blocks: dict[int, int] = {}
    for role, pids in tree().items():
        sizes[role] = 0
        for pid in pids:
            rollup = memory_of(pid)
            sizes[role] += rollup.get("Pss", 0)
            shared += rollup.get("Pss_Shmem", 0)
            blocks.update(memfd_blocks(pid))
    sizes["unmapped"] = max(0, sum(blocks.values()) - shared)
    return sizes


def memory_of(pid: int) -> dict[str, int]:
    """The fields of smaps_rollup, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def memfd_blocks(pid: int) -> dict[int, int]:
    """Bytes in use of each open memfd, by inode."""
    found = {}
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                if os.readlink(entry.path).startswith("/memfd:"):
                    status = os.stat(entry.path)
                    found[status.st_ino] = status.st_blocks * 512
            except OSError:
                continue
    except OSError:
        pass
    return found


def description() -> str:
    """Machine, versions and date, as one paragraph."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = " ".join(line.split(":", 1)[1].split())
            break
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    cores = len(os.sched_getaffinity(0))
    versions = ", ".join(f"{name} {version(name)}" for name in ("msgspec", "cloudpickle", "numpy"))
    now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    return (
        f"{now}; {cores} cores of {model}, {memory_gb:.0f} GB; Linux {platform.release()}; "
        f"Python {platform.python_version()}; alamo {version('alamo')} {commit()}; {versions}; "
        f"{busy_cores():.2f} cores busy with other work at the start"
    )


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    here = Path(__file__).parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=here, check=False)
    return done.stdout.strip() or "(no commit)"
