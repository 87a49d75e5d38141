"""What is one, also with others at work: methods, counters, swaps, transactions; and freezing."""

from __future__ import annotations

import pickle
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from _stores import MakeDDict, fill_from

import _work as work
from alamo import DDict, DDictConflictError, DDictError, DDictFrozenError, UsageError

THREADS = 4
ROUNDS = 100


def together(function: Callable[[int], Any], count: int = THREADS) -> list[Any]:
    """Call it in threads at the same time; returns what each gave."""
    results: list[Any] = [None] * count
    errors: list[BaseException] = []
    start = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            start.wait(work.PATIENCE_S)
            results[number] = function(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(work.PATIENCE_S)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
    return results


def as_one(d: DDict[Any, Any], function: Callable[[], Any]) -> Any:
    """Call it in a transaction, again when another was faster: some stores make nobody wait."""
    while True:
        try:
            with d.transaction():
                result = function()
        except DDictConflictError:
            continue
        return result


def test_fetch_add_begins_at_zero(make_ddict: MakeDDict) -> None:
    d = make_ddict({"text": "a"})
    assert [d.fetch_add("n"), d.fetch_add("n", 5), d.fetch_add("n", -0.5), d["n"]] == [0, 1, 6, 5.5]
    with pytest.raises(TypeError, match="key 'text'"):
        d.fetch_add("text")
    assert d["text"] == "a"


def test_no_addition_is_lost(make_ddict: MakeDDict) -> None:
    d = make_ddict()
    given = together(lambda _: [d.fetch_add("n") for _ in range(ROUNDS)])
    assert sorted(n for some in given for n in some) == list(range(THREADS * ROUNDS))
    assert d["n"] == THREADS * ROUNDS


def test_compare_and_swap(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": [1], "none": None})
    assert d.compare_and_swap("a", [1], [2])
    assert not d.compare_and_swap("a", [1], [3])
    assert d["a"] == [2]
    assert not d.compare_and_swap("a", DDict.ABSENT, 5)
    assert d.compare_and_swap("none", None, 1)
    assert not d.compare_and_swap("b", None, 1)
    assert d.compare_and_swap("b", DDict.ABSENT, DDict.ABSENT)
    assert "b" not in d
    assert d.compare_and_swap("b", DDict.ABSENT, 1)
    assert d.compare_and_swap("b", 1, DDict.ABSENT)
    assert d == {"a": [2], "none": 1}
    assert pickle.loads(pickle.dumps(DDict.ABSENT)) is DDict.ABSENT


def test_one_of_many_swaps_wins(make_ddict: MakeDDict) -> None:
    d = make_ddict()
    won = together(
        lambda number: [d.compare_and_swap(i, DDict.ABSENT, number) for i in range(ROUNDS)]
    )
    assert all(sum(row) == 1 for row in zip(*won))
    assert all(won[d[i]][i] for i in range(ROUNDS))


def test_one_of_many_gets_what_is_popped_or_set_first(make_ddict: MakeDDict) -> None:
    d = make_ddict({i: i for i in range(ROUNDS)})
    popped = together(lambda _: [d.pop(i, None) for i in range(ROUNDS)])
    assert all(sum(one is not None for one in row) == 1 for row in zip(*popped))
    there = together(lambda number: [d.setdefault(i, number) for i in range(ROUNDS)])
    assert all(len(set(row)) == 1 for row in zip(*there))
    taken = together(lambda _: [d.popitem()[0] for _ in range(ROUNDS // THREADS)])
    assert sorted(key for some in taken for key in some) == list(range(ROUNDS))


@pytest.mark.needs("one shard")
def test_nobody_sees_a_part_of_an_update(make_ddict: MakeDDict) -> None:
    d = make_ddict(dict.fromkeys(range(10), 0))

    def work_on(number: int) -> Any:
        if number == 0:
            for value in range(1, ROUNDS):
                d.update(dict.fromkeys(range(10), value))
            return None
        return [as_one(d, lambda: {d[i] for i in range(10)}) for _ in range(ROUNDS)]

    _, seen = together(work_on, 2)
    assert {len(values) for values in seen} == {1}


@pytest.mark.needs("one shard")
def test_a_transaction_is_one(make_ddict: MakeDDict) -> None:
    d = make_ddict(dict.fromkeys(range(4), 100))

    def move(number: int) -> list[int]:
        def move_some(i: int) -> int:
            d[number] = d[number] - i
            d[(number + 1) % 4] = d[(number + 1) % 4] + i
            return sum(d.values())

        return [as_one(d, partial(move_some, i)) for i in range(ROUNDS)]

    assert {n for some in together(move) for n in some} == {400}


def change_all(d: DDict[Any, Any]) -> None:
    """Changes all in a transaction, sees that it has, and fails."""
    with d.transaction():
        d["a"] = 2
        d["b"] = b"y" * 200_000
        del d["c"]
        d["d"] = b"z" * 100_000
        d.update(e=5)
        assert d.fetch_add("n") == 0
        assert d.compare_and_swap("a", 2, 3)
        assert d["a"] == 3
        assert len(d) == 5
        assert set(d) == {"a", "b", "d", "e", "n"}
        assert d.setdefault("c", 9) == 9
        assert d.popitem()
        with d.transaction():
            d.clear()
        assert len(d) == 0
        1 / 0  # noqa: B018


@pytest.mark.needs("one shard")
def test_an_exception_undoes_a_transaction(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": 1, "b": b"x" * 100_000, "c": 3})
    before = dict(d)
    with pytest.raises(ZeroDivisionError):
        change_all(d)
    assert d == before
    with d.transaction():
        d["a"] = 2
        with d.transaction():
            d["b"] = 2
    assert d == {"a": 2, "b": 2, "c": 3}


def test_waiting_in_a_transaction_is_refused(make_ddict: MakeDDict) -> None:
    d = make_ddict(wait_for_keys=True, timeout=work.PATIENCE_S)
    with pytest.raises(UsageError, match="transaction"), d.transaction():
        d["a"]
    with d.transaction():
        d["a"] = 1
        assert d["a"] == 1


def test_frozen_means_for_all(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": 1})
    other = pickle.loads(pickle.dumps(d))
    assert not d.is_frozen()
    d.freeze()
    assert d.is_frozen()
    assert other.is_frozen()
    changes = [
        lambda: other.__setitem__("b", 1),
        lambda: other.__delitem__("a"),
        lambda: other.update(b=1),
        lambda: other.pop("a"),
        other.popitem,
        lambda: other.setdefault("b", 1),
        other.clear,
        lambda: other.fetch_add("a"),
        lambda: other.compare_and_swap("a", 1, 2),
        lambda: other.put("a", 1, ttl=5),
    ]
    for change in changes:
        with pytest.raises(DDictFrozenError, match="unfreeze"):
            change()
    assert other == {"a": 1}
    assert other["a"] == 1
    assert "a" in other
    other.unfreeze()
    d["b"] = 2
    assert other == {"a": 1, "b": 2}


def test_a_time_to_live(make_ddict: MakeDDict) -> None:
    d = make_ddict({"a": 1})
    d.put("b", 2, ttl=0.2)
    d.put("long", b"x" * 100_000, ttl=0.2)
    d.put("later", 3, ttl=1000)
    d.put("ever", 4, ttl=float("inf"))
    work.wait_until(lambda: "b" not in d and "long" not in d)
    assert set(d) == {"a", "later", "ever"}
    assert len(d) == 3
    assert d.get("b") is None
    assert d.pop("b", None) is None
    assert d.setdefault("b", 5) == 5
    d.put("c", 1, ttl=0.2)
    d["c"] = 2
    d.put("e", 1, ttl=0.2)
    d.put("e", 2)
    d.put("gone", 1, ttl=0.2)
    work.wait_until(lambda: "gone" not in d)
    assert d == {"a": 1, "b": 5, "later": 3, "ever": 4, "c": 2, "e": 2}
    for ttl in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="ttl"):
            d.put("a", 1, ttl=ttl)


def test_a_counter_keeps_its_time_to_live(make_ddict: MakeDDict) -> None:
    d = make_ddict()

    def count_in_time() -> bool:
        d.put("n", 1, ttl=0.3)
        return bool(d.fetch_add("n") == 1)

    work.wait_until(count_in_time)
    work.wait_until(lambda: "n" not in d)
    assert d.fetch_add("n") == 0


def test_a_checkpoint_is_restored(make_ddict: MakeDDict, tmp_path: Path) -> None:
    values: dict[Any, Any] = {True: 1, "b": b"x" * 100_000, (1, None): ["é"] * 50_000}
    d = make_ddict(values)
    path = tmp_path / "checkpoint"
    d.checkpoint(path)
    d["after"] = 1
    new = make_ddict()
    fill_from(new, path)
    assert new == values
    assert {type(key) for key in new} == {bool, str, tuple}
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.needs("handles")
def test_restore_makes_a_dictionary(make_ddict: MakeDDict, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    make_ddict({"a": 1}).checkpoint(path)
    with DDict.restore(path, wait_for_keys=True, timeout=5) as d:
        assert d == {"a": 1}
        assert d.wait_for_keys
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DDictError, match="checkpoint"):
        DDict.restore(path)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DDictError, match="text"):
        DDict.restore(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        DDict.restore(tmp_path / "missing")


def test_restore_under_a_name(make_ddict: MakeDDict, tmp_path: Path) -> None:
    """What any store has written, into one on this machine."""
    path = tmp_path / "checkpoint"
    make_ddict({i: i for i in range(3000)}).checkpoint(path)
    whole = path.read_bytes()
    with DDict({"a": 1}, name="restored") as named:
        with pytest.raises(UsageError, match="'restored' holds something"):
            DDict.restore(path, name="restored")
        assert named == {"a": 1}
        named.clear()
        path.write_bytes(whole[:-100])
        with pytest.raises(DDictError, match="checkpoint"):
            DDict.restore(path, name="restored")
        assert named == {}
        path.write_bytes(whole)
        with DDict.restore(path, name="restored") as other:
            assert len(other) == len(named) == 3000
        named.destroy()


def test_where_keys_lie(make_ddict: MakeDDict) -> None:
    d = make_ddict({i: str(i) for i in range(100)})
    shards = d.stats()["shards"]
    assert Counter(d.which_shard(i) for i in range(100)).keys() <= set(range(shards))
    assert d.which_shard(1) == d.which_shard(True)
    assert sorted(d.local_keys()) == list(range(100))
    assert dict(d.local_items()) == dict(d)
    assert d.local_len() == 100
    assert d.stats()["items"] == 100
    assert d.stats()["bytes_used"] > 0
