"""The states of an element and the legal moves between them.

    PENDING ──► DEALT ──► DONE | FAILED
       │  ▲       │
       │  └───────┘  taken back, or its worker died before it began
       └──► SKIPPED  a task whose output it needed had failed
       └──► DONE     a join: it has nothing to run

"Ready" is no state of its own: it is PENDING, started, and no predecessor left.
"""

from __future__ import annotations

PENDING = 0
DEALT = 1
DONE = 2
FAILED = 3
SKIPPED = 4

#: from -> the states that may follow; the simulator holds every move against it.
LEGAL_MOVES: dict[int, frozenset[int]] = {
    PENDING: frozenset({DEALT, DONE, SKIPPED}),
    DEALT: frozenset({PENDING, DONE, FAILED}),
    DONE: frozenset(),
    FAILED: frozenset(),
    SKIPPED: frozenset(),
}

NAMES = {PENDING: "pending", DEALT: "dealt", DONE: "done", FAILED: "failed", SKIPPED: "skipped"}
