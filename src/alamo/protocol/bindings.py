"""What a worker, or an executable that one starts, is bound to."""

from __future__ import annotations

import msgspec


class Binding(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Threads, GPUs and CPUs of a process.

    Attributes:
        threads: how many threads its libraries may use.
        gpus: the GPUs that it sees, as CUDA_VISIBLE_DEVICES names them; ``None``: left alone.
        cpus: CPUs that it is pinned to; empty: left alone.
    """

    threads: int = 1
    gpus: tuple[str, ...] | None = None
    cpus: tuple[int, ...] = ()
