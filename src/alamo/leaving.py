"""What is let go of at the very end of the interpreter, when all that may need it has ended.

``atexit`` calls last what was registered first, and a program imports and makes things in any
order.  So whatever has work to finish at the end, as a Batch that is closed and joined then,
imports this module before it registers itself; what that work needs is let go of here.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from contextlib import suppress

__all__ = ["at_last"]

_calls: list[Callable[[], None]] = []


def at_last(let_go: Callable[[], None]) -> None:
    """Have this called at the end, after Batches were joined and child processes have ended."""
    _calls.append(let_go)


def _end() -> None:
    try:
        if "multiprocessing.process" in sys.modules:  # waits for them too, but perhaps after this
            from multiprocessing import active_children

            for child in active_children():
                if not child.daemon:
                    with suppress(AssertionError):  # it is a child of the one that forked us
                        child.join()
    finally:
        for let_go in _calls:
            let_go()


atexit.register(_end)
