"""Who may hand out the messages at the front of a line: decisions without locks.

A consumer that is alone takes messages in one transaction and leases those behind them for
``LENGTH_NS``: it hands them out one by one without a transaction, which is what makes a message
cheap.  They stay in the line.  There is one lease at a time, and while it lasts nobody else
takes, so that messages come out in the order in which they were put, whoever gets them.

    in the line     the lease: generation, slot of its owner, size, end
    shared memory   a word for each slot: how many of which generation its owner has handed out
    in the line     for each slot the word that was seen when its lease was taken back

To hand out a message the owner stores its word, *then* reads the clock.  Before the end of the
lease the message is its own.  Afterwards it asks, in a transaction.  Another consumer takes the
lease back in a transaction, ``GRACE_NS`` after its end, when any store that came before a clock
read before the end has long been visible, and writes down the word that it saw: what the word
counts belongs to the old owner, who learns so when it asks, and the rest to the line.  It need
not wait for the end when all is handed out, since no store can follow.

So a consumer that idles and one that is dead are one case, a clock that all processes of a
machine share (CLOCK_MONOTONIC) is all that is asked for, and of what a killed consumer had
leased the line loses at most the message whose word it had stored.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["GRACE_NS", "LENGTH_NS", "MOST", "Lease", "may_take_back", "next_size", "settle", "word"]

#: How long a lease lasts.  Nobody waits longer for messages that an idle consumer holds.
LENGTH_NS: Final = 2_000_000
#: Longer than any store stays invisible to other processors, many times.
GRACE_NS: Final = 1_000_000
#: Messages in a lease; more make each of them hardly cheaper.
MOST: Final = 64

_COUNT_BITS: Final = 8
_COUNT_MASK: Final = (1 << _COUNT_BITS) - 1


class Lease(NamedTuple):
    """The first ``size`` messages of the line, on lease.

    Attributes:
        generation: grows by one from lease to lease.
        slot: where its owner counts what it has handed out.
        size: how many messages, at most ``MOST``.
        end_ns: when it ends, on the clock of all.
    """

    generation: int
    slot: int
    size: int
    end_ns: int

    def handed_out(self, seen: int) -> int:
        """How many messages its owner has handed out, by the word of its slot."""
        return seen & _COUNT_MASK if seen >> _COUNT_BITS == self.generation else 0


def word(generation: int, handed_out: int) -> int:
    """What an owner stores before it hands out the message with which that many are handed out."""
    return generation << _COUNT_BITS | handed_out


def may_take_back(lease: Lease, seen: int, now_ns: int) -> bool:
    """Whether another than its owner may end the lease.

    Args:
        seen: the word of its slot, read after the clock.
    """
    return lease.handed_out(seen) >= lease.size or now_ns >= lease.end_ns + GRACE_NS


def settle(lease: Lease | None, taken_back: int | None, stored: int) -> bool:
    """Whether what an owner has stored counts, when it asks in a transaction.

    Args:
        lease: the one in the line, if any.
        taken_back: the word that was seen when the owner's lease was taken back, if it was.
        stored: the owner's word.
    """
    if lease is not None and lease.generation == stored >> _COUNT_BITS:
        return True
    return taken_back == stored


def next_size(handed_out: int, elapsed_ns: int) -> int:
    """How many messages to take next: what a consumer deals with in half a lease, at its pace.

    Args:
        handed_out: how many it got last time.
        elapsed_ns: since then.
    """
    return max(1, min(handed_out * LENGTH_NS // (2 * max(elapsed_ns, 1)), MOST))
