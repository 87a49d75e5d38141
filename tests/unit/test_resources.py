"""What is given of GPUs, memory and CPUs, and what is kept for one that waits."""

from __future__ import annotations

import pytest

from alamo.core.resources import Kept, Resources, binding_of
from alamo.core.terms import Binding, Grant, Need


def machine(gpus: int = 2, memory_bytes: int = 100, cpus: tuple[int, ...] = (0, 2, 4)) -> Resources:
    resources = Resources()
    resources.found(gpus, memory_bytes, cpus)
    return resources


def test_what_is_granted_comes_back() -> None:
    r = machine()
    need = Need(2, 2000, (), 60, (), True)
    grant = r.grant(need, 2)
    assert grant == Grant(2, ((0, 1000), (1, 1000)), 60, (0, 2))
    r.check([grant])
    assert r.grant(need, 2) is None
    r.release(grant)
    r.check([])
    assert r.grant(need, 2) == grant


def test_shares_lie_on_one_gpu_the_one_that_they_fill_best() -> None:
    r = machine()
    first = r.grant(Need(gpu_parts=600), 1)
    second = r.grant(Need(gpu_parts=500), 1)
    third = r.grant(Need(gpu_parts=400), 1)
    assert first is not None
    assert second is not None
    assert third is not None
    assert [g.gpus for g in (first, second, third)] == [((0, 600),), ((1, 500),), ((0, 400),)]
    assert r.grant(Need(gpu_parts=1000), 1) is None
    assert r.lacking(Need(gpu_parts=1000), 1) == [("GPUs", 1000, 0)]
    assert r.lacking(Need(gpu_parts=600), 1) == [("GPUs", 600, 500)]


def test_only_chosen_gpus_and_cpus_are_given() -> None:
    r = machine(3)
    grant = r.grant(Need(gpu_parts=1000, gpu_choice=(2, 9), cpus=(4,)), 1)
    assert grant == Grant(1, ((2, 1000),), 0, (4,))
    assert r.grant(Need(gpu_parts=10, gpu_choice=(2,)), 1) is None
    assert r.lacking(Need(cpus=(4,), gpu_parts=10, gpu_choice=(2,)), 0) == [
        ("cores", 1, 0),
        ("GPUs", 10, 0),
        ("CPUs", 1, 0),
    ]


@pytest.mark.parametrize(
    ("need", "ever"),
    [
        (Need(4), True),
        (Need(5), False),
        (Need(memory_bytes=100), True),
        (Need(memory_bytes=101), False),
        (Need(gpu_parts=2000), True),
        (Need(gpu_parts=2001), False),
        (Need(gpu_parts=500, gpu_choice=(7,)), False),
        (Need(gpu_parts=2000, gpu_choice=(1,)), False),
        (Need(cpus=(0, 4)), True),
        (Need(cpus=(1,)), False),
        (Need(3, pinned=True), True),
        (Need(4, pinned=True), False),
    ],
)
def test_what_the_machine_could_ever_give(need: Need, ever: bool) -> None:
    assert machine().can_ever(need, slots=4) == ever


def test_a_warm_worker_gets_what_it_was_started_for_or_nothing() -> None:
    r = machine()
    need = Need(1, 500, bound=True)
    grant = r.grant(need, 1, binding=Binding(1, (1,)))
    assert grant is not None
    assert binding_of(grant) == Binding(1, (1,))
    assert r.grant(need, 1, binding=Binding(2, (1,))) is None
    assert r.grant(need, 1, binding=Binding(1, (0, 1))) is None
    assert r.grant(need, 1, binding=Binding(1)) is None
    assert r.grant(Need(), 1, binding=Binding(1, (0,))) is None
    assert r.grant(Need(pinned=True), 1, binding=Binding(1, (), (2,))) is not None
    assert r.grant(Need(pinned=True), 1, binding=Binding(1, (), (2,))) is None


def test_what_is_kept_nobody_gets_and_of_other_kinds_everybody() -> None:
    r, kept = machine(), Kept()
    held = r.grant(Need(gpu_parts=1000), 1)
    assert r.keep(Need(gpu_parts=2000), 4, kept) == ["GPUs"]
    assert r.grant(Need(gpu_parts=1), 4, kept) is None
    assert not kept.blocks_cores, "cores are not kept while a GPU is lacking"
    assert r.grant(Need(4), 4, kept) is not None
    assert held is not None
    r.release(held)
    kept = Kept()
    assert r.keep(Need(2, gpu_parts=2000), 1, kept) == ["cores"]
    assert kept.blocks_cores
    assert r.grant(Need(), 1, kept) is None


def test_of_a_lacked_kind_the_older_leaves_what_it_cannot_use() -> None:
    r, kept = machine(), Kept()
    r.grant(Need(gpu_parts=1000, gpu_choice=(0,)), 1)
    r.keep(Need(gpu_parts=500, gpu_choice=(0,), memory_bytes=70), 1, kept)
    other = r.grant(Need(gpu_parts=500, memory_bytes=30), 1, kept)
    assert other == Grant(1, ((1, 500),), 30)
    assert r.grant(Need(memory_bytes=1), 1, kept) is None
    assert kept.touches(Need(memory_bytes=1))
    assert not kept.touches(Need(3))
