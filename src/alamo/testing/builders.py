"""Programs of well-known shapes, for tests of what is built on a Batch."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from alamo.batch.batch import Batch
from alamo.batch.task import Task


class Store:
    """A communication object; its channels are whatever the builder says."""


def chain(batch: Batch, func: Callable[[int], Any], length: int) -> list[Task]:
    """Tasks ``func(0)``, ``func(1)``, ... of which each reads what the one before has written.

    Example:
        >>> from alamo.testing import InlineBatch, chain
        >>> with InlineBatch() as batch:
        ...     tasks = chain(batch, str, 3)
        ...     _ = batch.compile(tasks).run()
        ...     [task.result.get() for task in tasks]
        ['0', '1', '2']
    """
    store = Store()
    return [
        batch.function(func, i, reads=batch.read(store, i), writes=batch.write(store, i + 1))
        for i in range(length)
    ]


def fan(batch: Batch, func: Callable[[int], Any], width: int) -> list[Task]:
    """One task, ``width`` that read what it wrote, and one that reads what they wrote."""
    store = Store()
    first = batch.function(func, 0, writes=batch.write(store, 0))
    middle = [
        batch.function(func, i, reads=batch.read(store, 0), writes=batch.write(store, i))
        for i in range(1, width + 1)
    ]
    reads = [batch.read(store, i) for i in range(1, width + 1)]
    return [first, *middle, batch.function(func, width + 1, reads=reads)]


def stencil(batch: Batch, func: Callable[[int, int], Any], steps: int, width: int) -> list[Task]:
    """Tasks ``func(t, i)``, each after its neighbours and itself at ``t - 1``, in a ring."""
    store = Store()
    return [
        batch.function(
            func,
            t,
            i,
            reads=[batch.read(store, (t - 1, (i + k) % width)) for k in (-1, 0, 1)],
            writes=batch.write(store, (t, i)),
        )
        for t in range(steps)
        for i in range(width)
    ]


def layers(
    batch: Batch, func: Callable[[int], Any], depth: int, width: int, fan_in: int = 2, seed: int = 0
) -> list[Task]:
    """A random DAG in layers: each task reads ``fan_in`` of the layer before."""
    store, choose = Store(), random.Random(seed)
    tasks = []
    for i in range(depth * width):
        above = range((i // width - 1) * width, i // width * width)
        reads = [batch.read(store, k) for k in choose.sample(above, min(fan_in, width))]
        reads = reads if i >= width else []
        tasks.append(batch.function(func, i, reads=reads, writes=batch.write(store, i)))
    return tasks
