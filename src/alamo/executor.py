"""A Batch as an executor of ``concurrent.futures``, for libraries that take one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from functools import partial
from itertools import chain, islice
from typing import Any

from alamo.batch.batch import Batch
from alamo.batch.call_future import CallFuture
from alamo.batch.dispatcher import Dispatcher, ExecutorBroken
from alamo.errors import UsageError
from alamo.worker.calls import apply_to_each

__all__ = ["AlamoExecutor", "ExecutorBroken"]


class AlamoExecutor(Executor):
    """An executor whose calls run in the workers of a Batch.

    It does what ``ProcessPoolExecutor`` does, and more: functions need not be importable, a
    worker that dies fails the call that it ran (``WorkerLost``) and no other, and what a call
    prints is printed here when it has ended.

    Args:
        max_workers: how many calls run at once; the cores granted to this process by default.
        batch: a Batch to run them in, which stays open; else the executor makes one.
        num_workers: another name of ``max_workers``.

    Raises:
        ValueError: there are to be less than one worker.
        UsageError: an ``initializer`` is given: workers serve every client of a Batch, and come
            and go; let the function itself set up what it needs, once a process.

    Cost: 5 us a call.

    Example:
        >>> from alamo import AlamoExecutor
        >>> with AlamoExecutor(max_workers=2) as executor:
        ...     futures = [executor.submit(pow, 2, n) for n in range(4)]
        ...     [future.result() for future in futures]
        [1, 2, 4, 8]
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        batch: Batch | None = None,
        num_workers: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        if initializer is not None or initargs:
            raise UsageError(
                "an AlamoExecutor takes no initializer: the workers serve every client of the "
                "Batch; let the function set up what it needs, once a process"
            )
        workers = max_workers if max_workers is not None else num_workers
        if isinstance(workers, int) and workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if batch is not None and workers is not None:
            raise UsageError("the Batch has its workers; give batch or max_workers, not both")
        own = Batch(num_workers=workers) if batch is None else batch
        self._dispatcher = Dispatcher(own, is_owner=batch is None)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> CallFuture:
        """Have ``fn(*args, **kwargs)`` called in a worker.

        The arguments are pickled a little later, when the call is about to run; until then the
        Future can be cancelled.  An argument that cannot travel is an error of the Future.

        Raises:
            RuntimeError: the executor was shut down.
            SubmitAfterClose: (a ``RuntimeError``) its Batch was closed.
            ExecutorBroken: (a ``BrokenExecutor``) the Batch is gone.
        """
        dispatcher = self._dispatcher
        if dispatcher.client.closed and dispatcher.refusal is None:
            dispatcher.client.check_open()
        future = CallFuture(dispatcher.client)
        if not dispatcher.put((future, fn, args, kwargs)):
            if dispatcher.error is not None:
                raise ExecutorBroken(f"this executor is broken: {dispatcher.error}")
            raise RuntimeError(dispatcher.refusal)
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **more: Any,
    ) -> Iterator[Any]:
        """What ``map(fn, *iterables)`` gives, called in the workers; results in order.

        Args:
            timeout: seconds for all of them, from now on.
            chunksize: how many calls travel as one; alamo needs it less than others do.
            more: what else ``Executor.map`` of this Python takes.

        Raises:
            TimeoutError: (while iterating) the next has not ended in time.
            ValueError: ``chunksize`` is less than 1.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout, **more)
        rows = _chunks(zip(*iterables), chunksize)
        each = partial(apply_to_each, fn)
        return chain.from_iterable(super().map(each, rows, timeout=timeout, **more))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.  A Batch that the executor made ends behind the last call.

        Args:
            wait: return when all calls have ended and the executor's own Batch too.
            cancel_futures: cancel those that wait.
        """
        self._dispatcher.stop("cannot schedule new futures after shutdown", cancel_futures)
        if wait:
            self._dispatcher.join()

    def __del__(self) -> None:
        if "_dispatcher" in self.__dict__:
            self._dispatcher.stop("this executor is gone")


def _chunks(rows: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    rows = iter(rows)
    while chunk := list(islice(rows, size)):
        yield chunk
