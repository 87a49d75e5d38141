"""The states of an element and the legal moves between them.

    PENDING ──► DEALT ──► DONE | FAILED
       │  ▲       │
       │  └───────┘  taken back, or its worker died before it began, or it is tried again
       └──► SKIPPED    a task whose output it needed had failed or was cancelled
       └──► CANCELLED  it was asked not to run before it had begun
       └──► DONE       a join: it has nothing to run

"Ready" is no state of its own: it is PENDING, started, no predecessor left, and not resting
before another attempt.
"""

from __future__ import annotations

PENDING = 0
DEALT = 1
DONE = 2
FAILED = 3
SKIPPED = 4
CANCELLED = 5

#: from -> the states that may follow; the simulator holds every move against it.
LEGAL_MOVES: dict[int, frozenset[int]] = {
    PENDING: frozenset({DEALT, DONE, SKIPPED, CANCELLED}),
    DEALT: frozenset({PENDING, DONE, FAILED}),
    DONE: frozenset(),
    FAILED: frozenset(),
    SKIPPED: frozenset(),
    CANCELLED: frozenset(),
}

NAMES = {
    PENDING: "pending",
    DEALT: "dealt",
    DONE: "done",
    FAILED: "failed",
    SKIPPED: "skipped",
    CANCELLED: "cancelled",
}
