"""Terms of random elements, and the machine whose parts they use."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alamo.core.terms import GPU_PARTS, PLAIN, Binding, Grant, Need, Terms

if TYPE_CHECKING:
    from sim_programs import Spec


@dataclass(frozen=True)
class Machine:
    """What a world has besides slots, which come and go; needs ask for ``cores`` at most."""

    cores: int = 1
    gpus: int = 0
    memory_bytes: int = 0
    cpus: tuple[int, ...] = ()

    @staticmethod
    def drawn(rng: random.Random, slots: int) -> Machine:
        return Machine(
            cores=rng.choice((1, slots, slots)),
            gpus=rng.choice((0, 1, 3)),
            memory_bytes=rng.choice((0, 1000)),
            cpus=rng.choice(((), tuple(range(0, 2 * slots, 2)))),
        )


def make_need(rng: random.Random, machine: Machine, cores_only: bool) -> Need:
    """Something that the machine has."""
    cores = rng.choice((1, 1, rng.randint(1, machine.cores), machine.cores))
    parts, choice, memory, pinned = 0, (), 0, False
    cpus: tuple[int, ...] = ()
    if not cores_only:
        if machine.gpus and rng.random() < 0.5:
            wanted = (1, 250, 500, 600, 1000, 1000 * rng.randint(1, machine.gpus))
            parts = rng.choice(wanted)
            if parts <= GPU_PARTS and rng.random() < 0.2:
                choice = (rng.randrange(machine.gpus),)
        if machine.memory_bytes and rng.random() < 0.4:
            memory = rng.choice((1, 300, 600, 1000))
        if len(machine.cpus) >= cores and rng.random() < 0.2:
            pinned = True
            cpus = tuple(rng.sample(machine.cpus, cores)) if rng.random() < 0.3 else ()
    return Need(cores, parts, choice, memory, cpus, pinned, rng.random() < 0.5)


def make_terms(
    rng: random.Random, spec: Spec, machine: Machine, need_share: float, retry_share: float
) -> None:
    """Give the elements of a program terms; those that retry may come to succeed by that.

    A task that waits for its own tasks holds what they must not need.
    """
    count = rng.choice((1, 1, 2, 5))
    for _ in range(count):
        cores_only = bool(spec.children or spec.depth)
        need = make_need(rng, machine, cores_only) if rng.random() < need_share else Need()
        retries = rng.choice((1, 2, 5)) if rng.random() < retry_share else 0
        backoff_s = rng.choice((0.0, 1e-5, 1e-2))
        terms = Terms(need, retries, backoff_s, rng.choice((1.0, 2.0)), rng.choice((0.0, 0.5)))
        spec.terms.append(terms)
    if rng.random() < 0.3:
        spec.term_of = [rng.randint(1, count)] * spec.count
    else:
        spec.term_of = [rng.choice((0, *range(1, count + 1))) for _ in range(spec.count)]
    for element, number in enumerate(spec.term_of):
        if element in spec.joins or element in spec.gates:
            spec.term_of[element] = 0
        elif number and spec.terms[number].retries and rng.random() < 0.2:
            spec.flaky[element] = rng.randint(1, spec.terms[number].retries + 1)


def column_of(spec: Spec, first: int, count: int) -> int | bytes:
    """The terms of a page."""
    numbers = spec.term_of[first : first + count]
    if not spec.term_of or (len(set(numbers)) < 2 and first % 2 == 0):
        return numbers[0] if numbers else 0
    return array("I", numbers).tobytes()


def check_in_use(machine: Machine, grants: Iterable[Grant | None]) -> None:
    """No more is in use than there is."""
    gpus = [0] * machine.gpus
    memory, cpus = 0, list[int]()
    for grant in grants:
        if grant is not None:
            for index, parts in grant.gpus:
                gpus[index] += parts
            memory += grant.memory_bytes
            cpus += grant.cpus
    assert all(parts <= GPU_PARTS for parts in gpus), f"GPUs in use: {gpus}"
    assert memory <= machine.memory_bytes, f"memory in use: {memory}"
    assert len(cpus) == len(set(cpus)), f"CPUs in use: {cpus}"


def check_grant(need: Need, grant: Grant | None, binding: Binding) -> None:
    """An element gets what it needs, in a worker that was started for it if it asks for that."""
    if grant is None:
        assert need == Need(), f"{need} was given nothing"
        assert binding == PLAIN
        return
    assert grant.cores == need.cores
    assert grant.memory_bytes == need.memory_bytes
    assert sum(parts for _, parts in grant.gpus) == need.gpu_parts
    assert need.gpu_parts < GPU_PARTS or all(parts == GPU_PARTS for _, parts in grant.gpus)
    assert not need.gpu_choice or {i for i, _ in grant.gpus} <= set(need.gpu_choice)
    if need.cpus:
        assert set(grant.cpus) == set(need.cpus)
    else:
        assert len(grant.cpus) == (need.cores if need.pinned else 0)
    if need.bound:
        assert binding == Binding(grant.cores, tuple(i for i, _ in grant.gpus), grant.cpus)
    else:
        assert binding == PLAIN
