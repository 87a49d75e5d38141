"""A client that was let in and sends nonsense: it alone is sent away, the service goes on."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import _faults as f
import pytest
from test_security import Stranger, address_of, healthy, secret_of

from alamo import Batch
from alamo.protocol import messages as msg
from alamo.protocol import pickling
from alamo.protocol.framing import encode

ORDER = 0x8000_0000
NONE = 0xFFFF_FFFF


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with f.ended(Batch(num_workers=1, log_level="CRITICAL")) as batch:
        yield batch


def column(*values: int) -> bytes:
    return struct.pack(f"{len(values)}I", *values)


def page(count: int = 1, functions: int | bytes = 0, **columns: object) -> msg.Page:
    return msg.Page(0, count, functions, bytes(4 * count), b"", **columns)  # type: ignore[arg-type]


def edges(*rows: tuple[int, ...]) -> dict[str, object]:
    ends = [sum(map(len, rows[: k + 1])) for k in range(len(rows))]
    return {"pred_ends": column(*ends), "preds": column(*[p for row in rows for p in row])}


#: Refused when they come; what was before them stays as it was.
REFUSED: dict[str, list[msg.Message]] = {
    "a predecessor that is not there": [page(**edges((99,)))],
    "one that is far away": [page(**edges((ORDER - 1,)))],
    "its own predecessor": [page(**edges((0,)))],
    "a later one": [page(2, **edges((1,), ()))],
    "a later one by order": [page(2, **edges((1 | ORDER,), ()))],
    "a later one in a second page": [page(3), page(2, **edges((4,), (0,)))],
    "ends that go back": [page(3, pred_ends=column(2, 1, 1), preds=column(0))],
    "ends that go back and beyond": [page(2, pred_ends=column(2**31, 1), preds=column(0))],
    "predecessors without ends": [page(preds=column(0))],
    "a join that is not there": [page(joins=(7,))],
    "a join of no element": [page(2, column(0, NONE), joins=(-1,))],
    "a join with work": [page(2, column(0, NONE), joins=(0,))],
    "nothing to run": [page(2, column(0, NONE))],
    "nothing to run at all": [page(2, NONE)],
    "inputs of no element": [page(inputs=((5, (0,)),))],
    "inputs of the past": [page(), page(inputs=((0, ()),))],
    "inputs from itself": [page(inputs=((0, (0,)),))],
    "inputs from nowhere": [page(2, inputs=((1, (-1,)),))],
    "objects that were not defined": [page(objects=((0, (5,)),))],
    "objects of no element": [msg.ObjectDefined(0, 5, b""), page(objects=((3, (5,)),))],
    "odd ranks": [page(2, **edges((), (0,))), msg.Started(0, b"abc")],
    "too few ranks": [page(2, **edges((), (0,))), msg.Started(0, column(1))],
    "dependencies after the start": [page(), msg.Started(0), page(**edges((0,)))],
    "a join after the start": [page(), msg.Started(0), page(1, column(NONE), joins=(1,))],
    "a page after dependencies": [page(2, **edges((), (0,))), msg.Started(0), page()],
    "a program twice": [msg.Opened(0, b"/")],
}


@pytest.mark.parametrize("name", REFUSED)
def test_nonsense_is_refused_and_hurts_nobody_else(batch: Batch, name: str) -> None:
    with Stranger(address_of(batch)) as stranger:
        stranger.sock.sendall(encode(stranger.hello(secret_of(batch))))
        assert isinstance(stranger.next(), msg.Welcome)
        blob = pickling.dump_function(f.pid_of_worker)
        opened = [msg.Opened(0, b"/", growing=True), msg.FunctionDefined(0, blob)]
        stranger.sock.sendall(b"".join(map(encode, [*opened, *REFUSED[name]])))
        while isinstance(message := stranger.next(), msg.Results):
            pass
        assert message is None, "it is sent away"
    assert healthy(batch)


#: Noticed only when the task is about to run, or runs: it fails.
FAILING: dict[str, list[msg.Message]] = {
    "an input that nobody waits for": [page(2, inputs=((1, (0,)),), **edges((), (0 | ORDER,)))],
    "the output of a join": [
        page(2, column(NONE, 0), joins=(0,), inputs=((1, (0,)),), **edges((), (0,)))
    ],
    "arguments that are not there": [msg.Page(0, 2, 0, column(0, NONE), b"")],
}


@pytest.mark.parametrize("name", FAILING)
def test_what_cannot_run_fails(batch: Batch, name: str) -> None:
    with Stranger(address_of(batch)) as stranger:
        stranger.sock.sendall(encode(stranger.hello(secret_of(batch))))
        assert isinstance(stranger.next(), msg.Welcome)
        blob = pickling.dump_function(f.die)  # the other element's task ends its worker
        opened = [msg.Opened(0, b"/"), msg.FunctionDefined(0, blob)]
        stranger.sock.sendall(b"".join(map(encode, [*opened, *FAILING[name], msg.Started(0)])))
        while not isinstance(message := stranger.next(), msg.Results | None):
            pass
        assert message is not None
        assert message.failed
    assert healthy(batch)


def test_a_directory_that_cannot_be_one(batch: Batch) -> None:
    with Stranger(address_of(batch)) as stranger:
        stranger.sock.sendall(encode(stranger.hello(secret_of(batch))))
        assert isinstance(stranger.next(), msg.Welcome)
        args = pickling.dump(((),))[0]
        messages = [
            msg.Opened(0, b"/\0"),
            msg.FunctionDefined(0, pickling.dump_function(f.pid_of_worker)),
            msg.Page(0, 1, 0, column(len(args)), args),
            msg.Started(0),
        ]
        stranger.sock.sendall(b"".join(map(encode, messages)))
        message = stranger.next()
        assert isinstance(message, msg.Results)
        assert not message.failed
    assert healthy(batch)
