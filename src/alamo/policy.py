"""What a task needs of the machine while it runs, and where it may run."""

from __future__ import annotations

import enum
import operator
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, SupportsFloat, SupportsIndex

from alamo.core.terms import GPU_PARTS, ONE_CORE, Need
from alamo.errors import UsageError
from alamo.sizes import parse_size

__all__ = ["Policy"]

#: What is above cannot be meant, and numbers beyond 64 bits could not travel.
_COUNT_MAX = 1 << 20
_BYTES_MAX = 1 << 60
_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a task needs while it runs: of every kind of task, given as ``policy=``.

    A policy never changes and may serve any number of tasks.  What it asks for is reserved: at no
    time do running tasks hold more than the machine has.  What the machine can never give is
    refused when the task is submitted.

    Args:
        cores: slots that the task takes, of the ``num_workers`` of the Batch.  Libraries in it
            (OpenMP, MKL, OpenBLAS and the like) use that many threads, unless their variables
            are set in the client's environment.  With ``cpu_affinity`` it is the number of
            those CPUs.
        gpus: GPUs of its own, or a share of one: ``0.5`` lets two tasks use the same.  It finds
            them in ``CUDA_VISIBLE_DEVICES``; a GPU's memory is not divided among its users.
            0 reserves none and hides none.  Counted in thousandths.
        memory: bytes, or a text such as ``"4GiB"`` or ``"500 MB"``.  They are reserved, and a
            task that takes more, with all that it starts, is stopped with
            ``MemoryLimitExceeded``.
        host_name: the host to run on.  A Batch of one machine has its own only, also called
            ``localhost``.
        cpu_affinity: numbers of the CPUs that the task is pinned to and that no other pinned task
            gets meanwhile.
        gpu_affinity: indices of the GPUs that will do, as CUDA counts them in the order of the
            PCI bus; ``gpus`` of them are given, all when ``gpus`` is 0.
        placement: on which host; see ``Policy.Placement``.
        distribution: how the ranks of a job lie over hosts; see ``Policy.Distribution``.
        oversubscribe: a job may have more ranks than there are slots.
        pin: the task is pinned to ``cores`` CPUs that no other pinned task gets meanwhile.
            Otherwise the system moves it as it likes, which is better on a machine that others
            use too.
        launcher: the MPI launcher of a job: its name or path.

    Attributes are named as the arguments and hold what was made of them: ``memory`` bytes or
    ``None``, affinities tuples or ``None``, ``pin`` whether the task is pinned.

    Raises:
        UsageError: a value is none that a task could ever run with.

    >>> Policy(cores=4, memory="4GiB").memory
    4294967296
    >>> Policy(gpu_affinity=[0, 1]).gpus
    2
    >>> Policy(cpu_affinity=[3, 2]).cores
    2
    """

    class Placement(enum.Enum):
        """On which host a task runs.  On one machine all of them mean that machine.

        Attributes:
            DEFAULT: ``HOST_NAME`` where the policy names a host, else ``ANYWHERE``.
            ANYWHERE: on any host of the Batch.
            LOCAL: on the host of the client.
            HOST_NAME: on the host that ``Policy(host_name=)`` names.
        """

        DEFAULT = "default"
        ANYWHERE = "anywhere"
        LOCAL = "local"
        HOST_NAME = "host_name"

    class Distribution(enum.Enum):
        """How the ranks of a job lie over hosts.  On one machine both mean the same.

        Attributes:
            DEFAULT: ``ROUNDROBIN``.
            ROUNDROBIN: each on the next host.
            BLOCK: a host is filled before the next one.
        """

        DEFAULT = "default"
        ROUNDROBIN = "roundrobin"
        BLOCK = "block"

    cores: int = 1
    gpus: float = 0
    memory: int | str | None = None
    host_name: str | None = None
    cpu_affinity: Iterable[int] | None = None
    gpu_affinity: Iterable[int] | None = None
    placement: Placement = Placement.DEFAULT
    distribution: Distribution = Distribution.DEFAULT
    oversubscribe: bool = False
    pin: bool = False
    launcher: str | None = None

    def __post_init__(self) -> None:
        cpus = _indices("cpu_affinity", self.cpu_affinity)
        cores = _count("cores", self.cores)
        if cpus:
            if cores not in (1, len(cpus)):
                _refuse(
                    "cores",
                    cores,
                    f"cpu_affinity names {len(cpus)} CPUs, and the task gets all; leave cores out",
                )
            cores = len(cpus)
        gpu_choice = _indices("gpu_affinity", self.gpu_affinity)
        gpus = _gpus(self.gpus)
        if gpu_choice and gpus > len(gpu_choice):
            _refuse("gpus", self.gpus, f"gpu_affinity allows only {len(gpu_choice)}")
        for name in ("oversubscribe", "pin"):
            if not isinstance(getattr(self, name), bool):
                _refuse(name, getattr(self, name), "it is True or False")
        for name in ("host_name", "launcher"):
            _check_text(name, getattr(self, name))
        self._check_placement()
        normal: dict[str, Any] = {
            "cores": cores,
            "gpus": gpus or len(gpu_choice),
            "memory": _memory(self.memory),
            "host_name": self.host_name or None,
            "cpu_affinity": cpus or None,
            "gpu_affinity": gpu_choice or None,
            "pin": self.pin or bool(cpus),
            "launcher": self.launcher or None,
        }
        for name, value in normal.items():
            object.__setattr__(self, name, value)

    def _check_placement(self) -> None:
        placement = self.placement
        for name, kind in (("placement", Policy.Placement), ("distribution", Policy.Distribution)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                known = ", ".join(f"Policy.{member}" for member in kind)
                _refuse(name, value, f"it is one of {known}")
        if placement is Policy.Placement.HOST_NAME and not self.host_name:
            _refuse("placement", placement, "host_name= must say which host")
        if self.host_name and placement in (Policy.Placement.ANYWHERE, Policy.Placement.LOCAL):
            _refuse(
                "placement",
                placement,
                f"host_name={self.host_name!r} says another place; leave one of them out",
            )

    @property
    def memory_bytes(self) -> int:
        """Bytes reserved, which are also the limit; 0: none and no limit."""
        assert not isinstance(self.memory, str)  # see __post_init__
        return self.memory or 0

    def need(self, *, own_process: bool = False) -> Need:
        """The policy in the scheduler's terms.

        Args:
            own_process: the task is a process of its own, an executable or a job: what it is
                bound to is said to that one, so any worker can start it.  A function needs a
                worker that was started for it, unless it gets what every worker has.
        """
        need = Need(
            cores=self.cores,
            gpu_parts=round(self.gpus * GPU_PARTS),
            gpu_choice=tuple(self.gpu_affinity or ()),
            memory_bytes=self.memory_bytes,
            cpus=tuple(self.cpu_affinity or ()),
            pinned=self.pin,
            bound=not own_process and bool(self.cores > 1 or self.gpus or self.pin),
        )
        return ONE_CORE if need == ONE_CORE else need

    def check_host(self, task: str) -> None:
        """Refuse a host on which a Batch of this machine has no workers.

        Args:
            task: what the task is called in the error.

        Raises:
            UsageError: ``host_name`` is another host.
        """
        here = socket.gethostname()
        if self.host_name is None or _is_same_host(self.host_name.lower(), here.lower()):
            return
        raise UsageError(
            f"{task} asks for host {self.host_name!r}, but this Batch has workers on {here!r} "
            "only: leave host_name out of its Policy"
        )


def _is_same_host(name: str, here: str) -> bool:
    """Also when one of the two is without its domain."""
    if name in _HERE or name == here:
        return True
    return ("." in name) != ("." in here) and name.partition(".")[0] == here.partition(".")[0]


def _refuse(name: str, value: object, why: str) -> NoReturn:
    raise UsageError(f"Policy({name}={value!r}) cannot be: {why}")


def _whole(value: object) -> int | None:
    """The integer that a value is; ``None``: it is none.  Those of numpy are some too."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return None
    return operator.index(value)


def _count(name: str, value: object) -> int:
    number = _whole(value)
    if number is None or not 1 <= number <= _COUNT_MAX:
        _refuse(name, value, f"it is a whole number from 1 to {_COUNT_MAX}")
    return number


def _gpus(value: object) -> float:
    """An ``int`` for whole ones, a ``float`` below 1 for a share."""
    number = _whole(value)
    if number is None and isinstance(value, SupportsFloat) and not isinstance(value, bool):
        share = float(value)
        number = _whole_of_float(share)
        if 0 < share < 1 and round(share * GPU_PARTS):
            return min(1, round(share * GPU_PARTS) / GPU_PARTS)
    if number is None or not 0 <= number <= _COUNT_MAX:
        _refuse("gpus", value, "it is a whole number, or a share of one GPU from 0.001 to 1")
    return number


def _whole_of_float(value: float) -> int | None:
    return int(value) if value.is_integer() else None


def _memory(value: object) -> int | None:
    if value is None:
        return None
    number = _whole(value)
    if isinstance(value, str):
        try:
            number = parse_size(value)
        except ValueError as error:
            raise UsageError(f"Policy(memory={value!r}) cannot be: {error}") from None
    elif isinstance(value, float):
        number = _whole_of_float(value)
    if number is None or not 1 <= number <= _BYTES_MAX:
        _refuse("memory", value, "it is a number of bytes above 0, or a text such as '4GiB'")
    return number


def _indices(name: str, value: object) -> tuple[int, ...]:
    """Sorted; empty where nothing was said."""
    if value is None:
        return ()
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        _refuse(name, value, "it is a list of numbers from 0 on")
    given = list(value)
    found = [_whole(each) for each in given]
    numbers = sorted(each for each in found if each is not None and 0 <= each < _COUNT_MAX)
    if len(numbers) < len(given):
        _refuse(name, given, "it is a list of numbers from 0 on")
    if len(set(numbers)) < len(numbers):
        _refuse(name, given, "it names one twice")
    return tuple(numbers)


def _check_text(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        _refuse(name, value, "it is a text")
