"""The form in which entries of an embedded DDict lie in its table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alamo.data.lmdb.records import KEY_MAX_BYTES, MARK, Record, Reference, parse, table_key

references = st.builds(
    Reference,
    st.integers(0, 7),
    st.binary(min_size=16, max_size=16),
    st.lists(st.integers(0, 2**40), min_size=1, max_size=5).map(tuple),
)
heads = st.builds(lambda form, rest: form + rest, st.sampled_from([b"\x80", b"\x00"]), st.binary())
records = st.one_of(
    st.builds(
        Record,
        heads,
        st.none(),
        st.just(False),
        st.binary(),
        st.binary(),
        st.floats(0, 1e12, allow_nan=False),
    ),
    st.builds(Record, heads, references, st.booleans(), st.binary(), st.binary()),
)


@given(records)
def test_what_is_written_is_read(record: Record) -> None:
    assert parse(record.encode()) == record


@given(heads)
def test_a_value_alone_is_its_own_record(head: bytes) -> None:
    assert Record(head).encode() == head
    assert head[0] < MARK


@given(st.binary(min_size=1, max_size=1200), st.binary(min_size=1, max_size=1200))
def test_keys_in_the_table(one: bytes, other: bytes) -> None:
    one, other = b"b" + one, b"b" + other
    assert (table_key(one) == table_key(other)) == (one == other)
    assert len(table_key(one)) <= KEY_MAX_BYTES
    assert table_key(b"b" * 600 + one) != table_key(b"b" * 600 + other) or one == other


def test_the_key_that_stands_for_a_long_one_is_no_short_key() -> None:
    long = table_key(b"s" * 1000)
    assert table_key(long) == long  # a key of these very bytes
    assert long[:1] < b"D"  # which no encoding begins with
