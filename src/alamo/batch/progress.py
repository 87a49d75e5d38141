"""Progress of a wait: a bar in a terminal or a notebook, lines now and then elsewhere.

The waiting thread draws, between slices of its wait; tqdm does the drawing.  Everything goes
to ``sys.stderr``.  Where that is neither a terminal nor a notebook's (a file, a pipe, a task's
own stderr, a stream that a test runner captures) a wait of less than ``FIRST_LINE_S`` is silent,
and a longer one leaves a line at times that grow apart, and one at its end.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from alamo.batch.counts import Counts, Unfinished, of_element, of_program
from alamo.batch.waiting import TICK_S
from alamo.errors import UsageError

if TYPE_CHECKING:
    from alamo.batch.client import Client
    from alamo.batch.task import Task

#: Seconds until the first line; the time between two lines doubles up to the second one.
FIRST_LINE_S = 5.0
LINES_APART_MAX_S = 60.0

#: Held by who draws.
_lock = threading.RLock()


def check_installed() -> None:
    """Say what is missing, before anything is started.

    Raises:
        UsageError: tqdm is not installed.
    """
    _bars()


def _bars() -> Any:
    """The class of the bars: tqdm's for where we are."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without ipywidgets it draws with characters
            from tqdm.auto import tqdm
    except ImportError as error:
        raise UsageError(
            f"progress=True needs tqdm ({error}): pip install alamo[progress]"
        ) from error
    # No thread that looks after bars: we draw in time.
    bars = type("Bar", (tqdm,), {"monitor_interval": 0})
    if not hasattr(tqdm, "_lock"):  # nor the semaphore of multiprocessing that tqdm would make
        bars.set_lock(_lock)  # type: ignore[attr-defined]
    return bars


@contextmanager
def of_task(task: Task) -> Iterator[Callable[[], None]]:
    """Show how far a task is that has been started; gives what a wait calls as it goes on."""
    program, index = task.program, task.index
    assert program is not None
    began_s = program.times(index)[0]
    count = functools.partial(of_program, program)
    if index >= 0:
        count = functools.partial(of_element, program, index)
    with _shown(count, task.title(), began_s) as tick:
        yield tick


@contextmanager
def of_client(client: Client) -> Iterator[Callable[[], None]]:
    """Show how far the unfinished tasks of a client are."""
    with _shown(Unfinished(client), "join", None) as tick:
        yield tick


@contextmanager
def _shown(
    count: Callable[[], Counts], title: str, began_s: float | None
) -> Iterator[Callable[[], None]]:
    progress = _Progress(count, title, began_s)
    try:
        yield progress.tick
    finally:
        progress.close()


class _Progress:
    """What is shown of one wait.  Where it cannot be drawn any more, the wait goes on unseen.

    Args:
        began_s: monotonic time since when the rate counts; ``None``: what has ended by now
            does not count.
    """

    def __init__(self, count: Callable[[], Counts], title: str, began_s: float | None) -> None:
        bars = _bars()
        self._count = count
        self._next_s = 0.0
        self._canvas: _Bar | _Lines | None = None
        counts = count()
        initial = counts.ended if began_s is None else 0
        age_s = 0.0 if began_s is None else time.monotonic() - began_s
        title = " ".join(title.split())
        try:
            if _can_redraw():
                self._canvas = _Bar(bars, title, counts, initial, age_s)
            elif sys.stderr is not None:
                self._canvas = _Lines(bars, title, initial, age_s)
        except (OSError, ValueError):
            pass

    def tick(self) -> None:
        """Draw, unless that has just been done."""
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + TICK_S
            self._draw()

    def close(self) -> None:
        """Leave the last state behind, and the cursor below it."""
        self._draw()
        if self._canvas is not None:
            try:
                self._canvas.close()
            except (OSError, ValueError):
                pass

    def _draw(self) -> None:
        if self._canvas is not None:
            try:
                self._canvas.draw(self._count())
            except (OSError, ValueError):  # the terminal has gone, the stream was closed
                self._canvas = None


class _Bar:
    """A bar that is drawn again and again in its place."""

    def __init__(self, bars: Any, title: str, counts: Counts, initial: int, age_s: float) -> None:
        self._bar = bars(
            desc=title,
            total=counts.total,
            initial=initial,
            unit="task",
            dynamic_ncols=True,
            smoothing=0,  # the mean rate: that of a moment says little where chunks end at once
            file=sys.stderr,
        )
        if not self._bar.disable:  # as the user may, by TQDM_DISABLE
            self._bar.start_t -= age_s

    def draw(self, counts: Counts) -> None:
        """Draw."""
        bar = self._bar
        if bar.total != counts.total:
            if hasattr(bar, "container"):  # a notebook's widget is told by this alone
                start = bar.start_t
                bar.reset(counts.total)
                bar.start_t = start
            bar.total = counts.total
        bar.n = counts.ended
        bar.set_postfix_str(str(counts), refresh=False)
        bar.refresh()

    def close(self) -> None:
        """Leave it as it is."""
        self._bar.close()


class _Lines:
    """Lines, for what cannot be drawn over."""

    def __init__(self, bars: Any, title: str, initial: int, age_s: float) -> None:
        self._bars = bars
        self._title = title
        self._initial = initial
        self._out = sys.stderr
        now_s = time.monotonic()
        self._began_s = now_s - age_s
        self._apart_s = FIRST_LINE_S
        self._has_written = False
        self._next_s = now_s + FIRST_LINE_S
        self._line = ""

    def draw(self, counts: Counts) -> None:
        """Write a line if it is time to."""
        now_s = time.monotonic()
        self._line = self._bars.format_meter(
            counts.ended,
            counts.total,
            now_s - self._began_s,
            ncols=0,
            prefix=self._title,
            unit="task",
            initial=self._initial,
            postfix=str(counts),
        )
        if now_s >= self._next_s:
            self._apart_s = min(2 * self._apart_s, LINES_APART_MAX_S)
            self._next_s = now_s + self._apart_s
            self._write()

    def close(self) -> None:
        """Write the last line, if there was one before."""
        if self._has_written:
            self._write()

    def _write(self) -> None:
        self._has_written = True
        print(self._line, file=self._out, flush=True)


def _can_redraw() -> bool:
    """Whether stderr is a terminal or a notebook."""
    if sys.stderr is None:
        return False
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None or sys.stderr.isatty()
