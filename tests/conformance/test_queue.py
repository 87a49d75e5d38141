"""What a Queue owes to the threads of one process, over every store."""

from __future__ import annotations

import fractions
import math
import pickle
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from _stores import MakeQueue

from alamo import Batch, DataStoreError, SerializationError, UpstreamFailed, UsageError, WaitTimeout

PATIENCE_S = 60.0


class Unloadable:
    """Pickles, and does not unpickle."""

    def __reduce__(self) -> Any:
        return _refuse, ("me",)


def _refuse(what: str) -> None:
    raise RuntimeError(f"no {what} here")


def in_thread(function: Callable[..., Any], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def ended(thread: threading.Thread) -> bool:
    thread.join(PATIENCE_S)
    return not thread.is_alive()


# -- messages ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        -(2**70),
        1.5,
        True,
        1j,
        "",
        "text",
        "\ud800",
        "ä" * 100_000,
        b"",
        b"bytes",
        b"\x00\xff" * 100_000,
        bytearray(b"array"),
        (1, "two", [3.0, {4: None}]),
        {"set": {1, 2}, "frozen": frozenset("a")},  # one, as its repr has no order
        list(range(50_000)),
        fractions.Fraction(1, 3),
        Exception("as a value"),
        print,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_values_come_as_they_went(make_queue: MakeQueue, value: Any) -> None:
    q = make_queue()
    q.put(value)
    got = q.get()
    assert got.__class__ is value.__class__
    assert repr(got) == repr(value)


def test_functions_travel_by_value(make_queue: MakeQueue) -> None:
    q = make_queue()
    offset = 3
    q.put(lambda x: x + offset)
    assert q.get()(4) == 7


@pytest.mark.parametrize("shape", [(10,), (300, 400), (2, 500_000)])
def test_arrays_are_the_readers_own(make_queue: MakeQueue, shape: tuple[int, ...]) -> None:
    q = make_queue()
    sent = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    q.put(sent)
    sent += 1
    got = q.get()
    assert (got == sent - 1).all()
    got += 1
    assert (got == sent).all()


def test_arrays_that_are_no_block(make_queue: MakeQueue) -> None:
    q = make_queue()
    square = np.arange(90_000.0).reshape(300, 300)
    q.put((square[::2], square.T, np.asfortranarray(square), square[:0]))
    for got, sent in zip(q.get(), (square[::2], square.T, square, square[:0]), strict=True):
        assert (got == sent).all()


def test_what_is_put_is_a_copy(make_queue: MakeQueue) -> None:
    q = make_queue()
    message = [1]
    q.put(message)
    message.append(2)
    assert q.get() == [1]


def test_first_in_first_out(make_queue: MakeQueue) -> None:
    q = make_queue()
    for i in range(300):
        q.put(i)
    assert [q.get() for _ in range(150)] == list(range(150))
    for i in range(300, 400):
        q.put(i)
    assert [q.get() for _ in range(250)] == list(range(150, 400))
    assert q.empty()


def test_large_and_small_in_turn(make_queue: MakeQueue) -> None:
    q = make_queue()
    sent = [np.full(size, size) for size in (1, 100_000, 3, 3, 200_000, 50_000, 2)]
    for array in sent:
        q.put(array)
    for array in sent:
        assert (q.get() == array).all()


# -- many at once --------------------------------------------------------------------------


def test_many_at_once(make_queue: MakeQueue) -> None:
    q = make_queue()
    q.put_many(range(5))
    q.put(5)
    q.put_many(iter("ab"))
    assert q.qsize() == 8
    assert q.get() == 0
    assert q.get_many(3) == [1, 2, 3]
    assert q.get_many(100) == [4, 5, "a", "b"]
    with pytest.raises(queue.Empty):
        q.get_many(2, timeout=0.01)
    with pytest.raises(queue.Empty):
        q.get_many(2, block=False)


def test_many_of_none(make_queue: MakeQueue) -> None:
    q = make_queue(maxsize=1)
    q.put(1)
    q.put_many([])
    with pytest.raises(ValueError, match="at least one"):
        q.get_many(0)
    assert q.get_many(9) == [1]


def test_very_many_at_once(make_queue: MakeQueue) -> None:
    q = make_queue()
    q.put_many(range(20_000))
    got: list[int] = []
    while not q.empty():
        got += q.get_many(7_000)
    assert got == list(range(20_000))


def test_many_with_large_ones_among_them(make_queue: MakeQueue) -> None:
    q = make_queue()
    sent = [np.full(size, size) for size in (1, 100_000, 3, 20_000, 2)]
    q.put_many(sent)
    got = q.get_many(9)
    assert [array.sum() for array in got] == [array.sum() for array in sent]


# -- sizes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("maxsize", [0, -1])
def test_unbounded_unless_asked(make_queue: MakeQueue, maxsize: int) -> None:
    q = make_queue(maxsize=maxsize)
    for i in range(2_000):
        q.put_nowait(i)
    assert q.maxsize == 0
    assert not q.full()
    assert q.qsize() == 2_000


def test_a_bound_is_kept(make_queue: MakeQueue) -> None:
    q = make_queue(maxsize=2)
    q.put(1)
    assert not q.full()
    q.put(2)
    assert q.full()
    for put in (q.put_nowait, lambda m: q.put(m, False), lambda m: q.put(m, True, 0.01)):
        with pytest.raises(queue.Full):
            put(3)
    assert q.get() == 1
    q.put_nowait(3)
    assert q.qsize() == 2
    assert [q.get(), q.get()] == [2, 3]


def test_some_of_many_find_room(make_queue: MakeQueue) -> None:
    q = make_queue(maxsize=4)
    q.put("first")
    with pytest.raises(queue.Full, match="3 of 5 messages were put") as caught:
        q.put_many(range(5), block=False)
    assert caught.value.count == 3  # type: ignore[attr-defined]
    assert q.get_many(9) == ["first", 0, 1, 2]


def test_many_wait_for_room(make_queue: MakeQueue) -> None:
    q = make_queue(maxsize=3)
    thread = in_thread(q.put_many, range(50))
    assert [q.get(timeout=PATIENCE_S) for _ in range(50)] == list(range(50))
    assert ended(thread)


def test_a_put_waits_for_room(make_queue: MakeQueue) -> None:
    q = make_queue(maxsize=1)
    q.put(1)
    thread = in_thread(q.put, 2)
    thread.join(0.05)
    assert thread.is_alive()
    assert q.get() == 1
    assert q.get(timeout=PATIENCE_S) == 2
    assert ended(thread)


def test_sizes_as_it_is_used(make_queue: MakeQueue) -> None:
    q = make_queue()
    for i in range(100):
        q.put(i)
    for left in range(99, -1, -1):
        assert not q.empty()
        q.get()
        assert q.qsize() == left
    assert q.empty()


# -- waiting -------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, -1, -math.inf, 0.01, fractions.Fraction(1, 100)])
def test_an_empty_queue_is_waited_for(make_queue: MakeQueue, timeout: Any) -> None:
    q = make_queue()
    begin_s = time.monotonic()
    with pytest.raises(queue.Empty, match="no message came"):
        q.get(timeout=timeout)
    assert time.monotonic() - begin_s >= min(max(float(timeout), 0), 0.01)
    with pytest.raises(queue.Empty):
        q.get(False, timeout)
    with pytest.raises(queue.Empty):
        q.get_nowait()


@pytest.mark.parametrize("timeout", [None, 1e9, math.inf, 10**30])
def test_long_waits_end_with_a_message(make_queue: MakeQueue, timeout: Any) -> None:
    q = make_queue()
    got: list[Any] = []
    thread = in_thread(lambda: got.append(q.get(timeout=timeout)))
    thread.join(0.05)
    assert not got
    q.put("late")
    assert ended(thread)
    assert got == ["late"]


@pytest.mark.parametrize("timeout", [math.nan, "1", True, []])
def test_what_is_no_timeout(make_queue: MakeQueue, timeout: Any) -> None:
    q = make_queue(maxsize=1)
    with pytest.raises(UsageError, match="a timeout is a number of seconds"):
        q.get(timeout=timeout)
    q.put(1)
    with pytest.raises(UsageError, match="a timeout is a number of seconds"):
        q.put(2, timeout=timeout)


def test_many_threads_wait(make_queue: MakeQueue) -> None:
    q, results = make_queue(), make_queue()
    threads = [in_thread(lambda: results.put(q.get())) for _ in range(8)]
    threads[0].join(0.05)
    for i in range(8):
        q.put(i)
    assert all(ended(thread) for thread in threads)
    assert sorted(results.get() for _ in range(8)) == list(range(8))


def test_threads_share_a_queue(make_queue: MakeQueue) -> None:
    """All messages, each once; in the order of their producer for each consumer."""
    q = make_queue()
    count, producers = 1_000, 3
    got: list[list[Any]] = [[], []]

    def produce(producer: int) -> None:
        for number in range(count):
            q.put((producer, number))

    def consume(mine: list[Any]) -> None:
        while (message := q.get()) is not None:
            mine.append(message)

    consumers = [in_thread(consume, mine) for mine in got]
    for thread in [in_thread(produce, producer) for producer in range(producers)]:
        assert ended(thread)
    for _ in consumers:
        q.put(None)
    assert all(ended(thread) for thread in consumers)
    assert sorted(got[0] + got[1]) == [(p, n) for p in range(producers) for n in range(count)]
    for mine in got:
        for producer in range(producers):
            numbers = [n for p, n in mine if p == producer]
            assert numbers == sorted(numbers)


# -- unfinished messages -------------------------------------------------------------------


def test_join_waits_for_all(make_queue: MakeQueue) -> None:
    q = make_queue(joinable=True)
    q.join()
    q.put(1)
    q.put_many([2, 3])
    assert q.get() == 1
    with pytest.raises(WaitTimeout, match="3 messages of"):
        q.join(timeout=0.01)
    thread = in_thread(q.join)
    q.task_done()
    q.task_done()
    thread.join(0.05)
    assert thread.is_alive()
    q.task_done()
    assert ended(thread)
    q.join(timeout=0)


def test_done_too_often(make_queue: MakeQueue) -> None:
    q = make_queue(joinable=True)
    with pytest.raises(ValueError, match=r"task_done\(\) called too often"):
        q.task_done()
    q.put(1)
    q.task_done()
    with pytest.raises(ValueError, match="too often"):
        q.task_done()
    assert q.get() == 1


def test_not_joinable(make_queue: MakeQueue) -> None:
    q = make_queue()
    assert not q.joinable
    for method in (q.task_done, q.join):
        with pytest.raises(UsageError, match="joinable=True"):
            method()


# -- closing -------------------------------------------------------------------------------


def test_a_closed_handle_drains(make_queue: MakeQueue) -> None:
    q = make_queue()
    other = pickle.loads(pickle.dumps(q))
    q.put_many(range(4))
    q.close()
    q.close()
    q.join_thread()
    for put in (q.put, q.put_nowait, lambda m: q.put_many([m])):
        with pytest.raises(ValueError, match=rf"Queue {q.__alamo_datum__()} .*is closed"):
            put(9)
    assert q.get() == 0
    assert q.get_nowait() == 1
    assert q.get_many(9) == [2, 3]
    for get in (q.get, q.get_nowait, lambda: q.get(timeout=5), lambda: q.get_many(2)):
        with pytest.raises(ValueError, match="is closed"):
            get()
    other.put("others go on")
    assert q.get() == "others go on"


def test_with_closes(make_queue: MakeQueue) -> None:
    with make_queue() as q:
        q.put(1)
    assert "closed" in repr(q)
    q.cancel_join_thread()
    assert q.get() == 1


def test_destroyed_for_all(make_queue: MakeQueue) -> None:
    q = make_queue()
    other = pickle.loads(pickle.dumps(q))
    q.put(1)
    q.destroy()
    q.destroy()
    for use in (other.get, lambda: other.put(1), other.qsize):
        with pytest.raises(DataStoreError, match=str(q.__alamo_datum__())):
            use()


# -- handles -------------------------------------------------------------------------------


def test_a_handle_is_the_same_queue(make_queue: MakeQueue) -> None:
    q = make_queue(maxsize=3, joinable=True)
    other = pickle.loads(pickle.dumps(q))
    assert other.maxsize == 3
    assert other.joinable
    q.put(1)
    assert other.get() == 1
    other.task_done()
    q.join(timeout=0)


def test_a_handle_as_a_message(make_queue: MakeQueue) -> None:
    q, inner = make_queue(), make_queue()
    q.put(inner)
    got = q.get()
    got.put("through both")
    assert inner.get() == "through both"


def test_reprs(make_queue: MakeQueue) -> None:
    assert repr(make_queue()).startswith("<Queue ")
    shown = repr(make_queue(maxsize=7, joinable=True))
    assert "maxsize=7" in shown
    assert "joinable" in shown


def test_no_iteration(make_queue: MakeQueue) -> None:
    with pytest.raises(TypeError, match="not iterable"):
        iter(make_queue())  # type: ignore[call-overload]


def test_a_communication_object(make_queue: MakeQueue) -> None:
    """Handles of one queue are one datum; two queues are two."""
    q, other = make_queue(), make_queue()
    again = pickle.loads(pickle.dumps(q))
    assert again.__alamo_datum__() == q.__alamo_datum__() != other.__alamo_datum__()


# -- errors --------------------------------------------------------------------------------


def test_what_cannot_be_pickled(make_queue: MakeQueue) -> None:
    q = make_queue()
    with pytest.raises(SerializationError):
        q.put(threading.Lock())
    with pytest.raises(SerializationError):
        q.put_many([1, threading.Lock()])
    assert q.empty()


def test_what_cannot_be_unpickled(make_queue: MakeQueue) -> None:
    q = make_queue()
    q.put(Unloadable())
    q.put("behind it")
    with pytest.raises(SerializationError, match=r"_refuse .* no me here") as caught:
        q.get()
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert q.get() == "behind it"
    q.put_many(["before", Unloadable(), "behind"])
    with pytest.raises(SerializationError) as caught:
        q.get_many(5)
    assert caught.value.messages == ["before", "behind"]  # type: ignore[attr-defined]


def test_figures(make_queue: MakeQueue) -> None:
    q = make_queue()
    q.put_many([b"x" * 1_000] * 10)
    stats = q.stats()
    assert stats["messages"] == 10
    assert stats["bytes_used"] >= 10_000


def test_accesses_order_tasks(make_queue: MakeQueue, batch: Batch) -> None:
    """A task that reads a queue needs the one that writes it, whichever handle each has."""
    q = make_queue()
    again = pickle.loads(pickle.dumps(q))
    first = batch.function(_refuse, "first", writes=batch.write(q))
    second = batch.function(len, "second", reads=batch.read(again))
    batch.compile([first, second]).start()
    with pytest.raises(UpstreamFailed):
        second.result.get()
