"""The end of the interpreter: what becomes of Batches that nobody has joined."""

from __future__ import annotations

import atexit
import logging
import sys
import weakref
from typing import TYPE_CHECKING

from alamo import leaving  # noqa: F401  registered before, so that it is called after

if TYPE_CHECKING:
    from alamo.batch.batch import Batch

_batches: weakref.WeakSet[Batch] = weakref.WeakSet()


def watch(batch: Batch) -> None:
    """See to this one at the end."""
    _batches.add(batch)


def _at_exit() -> None:
    """A clean exit closes and joins; a crash terminates."""
    crashed = getattr(sys, "last_type", None) is not None and not hasattr(sys, "ps1")
    interrupt: BaseException | None = None
    for batch in list(_batches):
        try:
            if batch._joined:
                continue
            if not batch._client.is_primary or crashed:
                if not crashed:
                    batch._client.finish_feeding(only_at_hand=False)
                batch._leave()
            else:
                with batch:
                    pass
        except Exception as error:
            logging.getLogger("alamo").warning("at exit: %s", error)
        except BaseException as error:  # Ctrl-C: the others are not waited for either
            crashed, interrupt = True, error
    if interrupt is not None:
        raise interrupt


atexit.register(_at_exit)
