"""What an element asks for: what it needs while it runs, and what happens when it fails."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["DEFAULT_TERMS", "ONE_CORE", "PLAIN", "Binding", "Grant", "Need", "Terms"]

#: A whole GPU; shares of one are counted in these.
GPU_PARTS: Final = 1000


class Need(msgspec.Struct, frozen=True, gc=False):
    """What an element takes from the machine while it runs.

    Attributes:
        cores: slots.
        gpu_parts: thousandths of GPUs: below 1000 a share of one, else whole ones only.
        gpu_choice: indices of the GPUs that will do; empty: any.
        memory_bytes: memory reserved for it.
        cpus: the CPUs that it wants for itself; empty with ``pinned``: any ``cores`` of them.
        pinned: it gets CPUs of its own.
        bound: it must run in a worker that was started for what it gets, as what a library
            reads while it loads cannot be changed later; otherwise any worker can start it.
    """

    cores: int = 1
    gpu_parts: int = 0
    gpu_choice: tuple[int, ...] = ()
    memory_bytes: int = 0
    cpus: tuple[int, ...] = ()
    pinned: bool = False
    bound: bool = False


#: What an element needs unless it says otherwise.
ONE_CORE: Final = Need()


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What elements that were submitted alike have in common.

    Attributes:
        need: what each takes while it runs.
        retries: how often one that failed may run again.
        backoff_s: how long before the first retry; each further one waits ``factor`` times as long.
        jitter: up to this share of the wait is added or taken off.
    """

    need: Need = ONE_CORE
    retries: int = 0
    backoff_s: float = 0.0
    factor: float = 2.0
    jitter: float = 0.0


DEFAULT_TERMS: Final = Terms()


class Binding(msgspec.Struct, frozen=True, gc=False):
    """What a worker process was started for and keeps for its life.

    Attributes:
        cores: how many threads libraries in it may use.
        gpus: indices of the GPUs that it sees; empty: nothing was said about GPUs.
        cpus: the CPUs that it is pinned to; empty: none.
    """

    cores: int = 1
    gpus: tuple[int, ...] = ()
    cpus: tuple[int, ...] = ()


#: A worker for elements without needs of their own, and for those that are not bound.
PLAIN: Final = Binding()


class Grant(msgspec.Struct, frozen=True, gc=False):
    """What a chunk has been given of the machine while its elements run.

    Attributes:
        gpus: pairs (index, thousandths of it).
    """

    cores: int = 1
    gpus: tuple[tuple[int, int], ...] = ()
    memory_bytes: int = 0
    cpus: tuple[int, ...] = ()
