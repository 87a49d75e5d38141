"""Handles as arguments: they become values, and order tasks."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import _work as work
import alamo
from alamo import Batch


def test_handles_become_values(batch: Batch) -> None:
    source = batch.function(work.say, "out", "err")
    number = batch.function(work.same, 7)
    deep = batch.function(
        work.same,
        {
            "list": [number.result, [source.stdout]],
            "tuple": (source.stderr, {"k": number.result}),
            "bag": work.Bag(number.result, [source.result]),
        },
    )
    several = batch.function(work.everything, number.result, number.result, 1, source.stdout)
    batch.compile([source, number, deep, several]).run()
    assert deep.result.get() == {
        "list": [7, ["out"]],
        "tuple": ("err", {"k": 7}),
        "bag": work.Bag(7, [None]),
    }
    assert several.result.get() == (7, 7, 1, "out")


def test_handles_in_closures_partials_and_local_classes(batch: Batch) -> None:
    class Holder:
        def __init__(self, value: Any) -> None:
            self.value = value

    @dataclass
    class Local:
        value: Any

    source = batch.function(work.same, 7)
    handle = source.result
    tasks = [
        batch.function(work.call, lambda: handle),
        batch.function(work.call, functools.partial(work.add, handle), 1),
        batch.function(operator.attrgetter("value"), Holder(handle)),
        batch.function(operator.attrgetter("value"), Local([handle])),
        batch.function(operator.attrgetter("value.value"), Holder(Local(handle))),
    ]
    batch.compile([source, *tasks]).run()
    assert [t.result.get() for t in tasks] == [7, 8, 7, [7], 7]


@pytest.mark.needs("parallel")
def test_handles_order_tasks(batch: Batch, tmp_path: Path) -> None:
    """The source ends only when all others that do not need it have run."""
    gate = tmp_path / "gate"
    source = batch.function(work.wait_for_file, str(gate))
    needs = [batch.function(work.everything, i, [source.result]) for i in range(20)]
    free = [batch.function(work.same, i) for i in range(20)]
    opener = batch.function(work.write_text, gate, "")
    batch.compile([source, *needs, *free, opener]).run(timeout=work.PATIENCE_S)
    assert [t.result.get() for t in needs] == [(i, [str(gate)]) for i in range(20)]


def test_handles_of_large_values(batch: Batch) -> None:
    """In blocks, within one chunk and across, several times, in lists and by different workers."""
    for _ in range(3):
        source = batch.function(np.arange, 50_000)
        text = batch.function(operator.mul, "ab", 100_000)
        both = batch.function(work.everything, source.result, [text.result, source.result])
        chain = [batch.function(work.add, source.result, 1)]
        for _ in range(20):
            chain.append(batch.function(work.add, chain[-1].result, 1))
        fan = [batch.function(np.sum, source.result) for _ in range(20)]
        again = batch.function(np.sum, chain[-1].result)
        batch.compile([source, text, both, *chain, *fan, again]).run(timeout=work.PATIENCE_S)
        a, (b, c) = both.result.get()
        assert (a == np.arange(50_000)).all()
        assert b == "ab" * 100_000
        assert (c == a).all()
        assert (chain[-1].result.get() == np.arange(50_000) + 21).all()
        total = sum(range(50_000))
        assert {t.result.get() for t in fan} == {total}
        assert again.result.get() == total + 21 * 50_000
        assert (source.result.get() == np.arange(50_000)).all()


def test_handles_of_failed_printing_tasks(batch: Batch) -> None:
    source = batch.function(work.fail_loudly, "help")
    needs = batch.function(work.same, source.stdout)
    with pytest.warns(RuntimeWarning):
        batch.compile([source, needs]).run()
    with pytest.raises(alamo.UpstreamFailed):
        needs.result.get()
    assert source.stdout.get() == "help\n"


def test_every_task_gets_its_own_copy_of_an_output(batch: Batch) -> None:
    source = batch.function(work.same, [0])
    changers = [batch.function(work.change, source.result, i) for i in range(10)]
    big = batch.function(work.same, list(range(30_000)))
    big_changers = [batch.function(work.change, big.result, i) for i in range(5)]
    batch.compile([source, *changers, big, *big_changers]).run()
    assert [t.result.get() for t in changers] == [[0, i] for i in range(10)]
    assert [t.result.get()[-2:] for t in big_changers] == [[29_999, i] for i in range(5)]
    assert source.result.get() == [0]


def test_handles_of_output_pass_it_on(batch: Batch) -> None:
    source = batch.function(work.say, "out", "err")
    silent = batch.function(work.nothing)
    both = batch.function(
        work.everything, source.stdout, source.stderr, silent.stdout, source.result
    )
    batch.compile([source, silent, both]).run()
    assert both.result.get() == ("out", "err", "", None)
