"""Callbacks: a thread of their own calls them, one after the other, in completion order."""

from __future__ import annotations

import logging
import queue
import threading
import traceback
from collections.abc import Iterable

from alamo.batch.outcomes import Program

log = logging.getLogger("alamo")


class CallbackRunner:
    """The callback thread of one client.

    Attributes:
        thread: waits called on it do not wait for callbacks, which would be for ever.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Program, int] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        """A callback may have to be called later: have a thread for it.

        For the thread of the user, who is told when there can be none; from the receiver's
        none can be started while the interpreter ends.
        """
        if self.thread is None:
            with self._lock:
                if self.thread is None:
                    thread = threading.Thread(target=self._run, name="alamo-callbacks", daemon=True)
                    thread.start()
                    self.thread = thread

    def queue(self, program: Program, elements: Iterable[int]) -> None:
        """Have the callbacks of these elements called; -1 is that of the whole program."""
        for element in elements:
            self._calls.put((program, element))

    def stop(self) -> None:
        """End the thread behind the callbacks queued so far."""
        self._calls.put(None)

    def _run(self) -> None:
        while True:
            queued = self._calls.get()
            if queued is None:
                return
            program, element = queued
            program.callback_done(element, call(program, element))
            del program, queued


def call(program: Program, element: int) -> BaseException | None:
    """Call one; its error is logged and returned."""
    callback = program.end_callback if element < 0 else program.callbacks.get(element)
    assert callback is not None
    try:
        if element < 0:
            callback.function(*callback.args)
        else:
            callback.function(program.value(element), *callback.args)
    except BaseException as error:
        what = "a compiled task" if element < 0 else program.title(element)
        log.exception("the callback of %s raised %s", what, type(error).__name__)
        # It is kept; the frames would keep what they hold, also tasks, which no collector sees.
        traceback.clear_frames(error.__traceback__)
        trace = error.__traceback__
        return error.with_traceback(trace.tb_next if trace is not None else None)
    return None
