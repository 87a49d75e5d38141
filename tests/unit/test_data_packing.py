"""The stored form of values: what stands in the head and what apart from it."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from alamo.data.packing import APART_MIN_BYTES, lend, pack, type_name, unpack
from alamo.errors import SerializationError


def through_a_store(value: Any) -> Any:
    """As a store copies it: a head of bytes, and buffers that may be written to."""
    head, buffers = pack(value)
    assert type(head) is bytes
    assert all(len(buffer) == memoryview(buffer).nbytes for buffer in buffers)
    return unpack(head, [bytearray(buffer) for buffer in buffers])


@pytest.mark.parametrize("size", [0, 1, APART_MIN_BYTES - 1, APART_MIN_BYTES, 300_000])
def test_heads_are_small_and_nothing_large_is_copied(size: int) -> None:
    data = b"x" * size
    for value in (data, "x" * size, [data, data], np.zeros(size, np.uint8), [1] * size):
        head, buffers = pack(value)
        assert len(head) <= APART_MIN_BYTES
        got = through_a_store(value)
        assert type(got) is type(value)
        assert np.array_equal(got, value) if isinstance(value, np.ndarray) else got == value
        if isinstance(value, bytes) and size >= APART_MIN_BYTES:
            assert buffers[0] is value


def test_arrays_of_any_layout() -> None:
    array = np.arange(240_000, dtype=np.float64).reshape(400, 600)
    for value in (array, array.T, array[::2], np.asfortranarray(array), array.astype(">i2")):
        got = through_a_store(value)
        assert np.array_equal(got, value)
        got[0, 0] = 5
        assert got[0, 0] == 5


def test_a_large_pickle_with_buffers_of_its_own() -> None:
    value = {"many": list(range(100_000)), "array": np.arange(100_000)}
    head, buffers = pack(value)
    assert head == b"\x03"
    assert len(buffers) == 2
    got = through_a_store(value)
    assert got["many"] == value["many"]
    assert np.array_equal(got["array"], value["array"])
    assert type_name(*pack([[0]] * 100_000)) == "an unknown type"


def test_what_is_lent_is_not_copied() -> None:
    large = b"x" * 400_000
    view = lend(*pack(large))
    assert view.readonly
    assert view.obj is large
    array = np.arange(100_000)
    head, buffers = pack(array)
    assert np.shares_memory(lend(head, buffers), array)
    assert lend(*pack(5)) == 5
    assert lend(*pack("x" * 100_000)) == "x" * 100_000


def test_the_names_of_types() -> None:
    assert type_name(*pack(b"a")) == "bytes"
    assert type_name(*pack("a")) == "str"
    assert type_name(*pack("a" * 100_000)) == "str"
    assert type_name(*pack(b"a" * 100_000)) == "bytes"
    assert type_name(*pack(SerializationError("a"))) == "alamo.errors.SerializationError"
    assert type_name(pickle.dumps(SerializationError("a"), 2)) == "alamo.errors.SerializationError"
    assert type_name(b"\x80\x05damaged") == "an unknown type"


def test_what_cannot_be_pickled() -> None:
    with pytest.raises(SerializationError, match="generator"):
        pack(iter(i for i in ()))
