"""Runs every test that asks for ``engine``, ``make_batch`` or ``batch`` over every engine.

``@pytest.mark.needs("kills", ...)`` says what a test needs that not every engine can do; it is
skipped, with the reason, where the engine cannot. What may be needed: ``_engines.CAPABILITIES``.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from _engines import CAPABILITIES, ENGINES, Engine, MakeBatch, check_capabilities
from _queues import STORES as QUEUE_STORES
from _queues import Store as QueueStore

from alamo import Batch, Queue


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = metafunc.definition.iter_markers("needs")
    needed = frozenset(name for mark in marks for name in mark.args)
    check_capabilities(needed)
    if "engine" in metafunc.fixturenames:
        params = [for_engine(engine, needed) for engine in ENGINES]
        metafunc.parametrize("engine", params, indirect=True, scope="session")


def for_engine(engine: Engine, needed: frozenset[str]) -> Any:
    """The parameter for one engine, skipped where the engine lacks something."""
    lacking = [CAPABILITIES[name] for name in sorted(needed - engine.capabilities)]
    reason = f"not on the engine {engine.name}: {'; '.join(lacking)}"
    marks = [pytest.mark.skip(reason=reason)] if lacking else []
    return pytest.param(engine, id=engine.name, marks=marks)


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    one: Engine = request.param
    with one.around():
        yield one


@pytest.fixture
def make_batch(engine: Engine) -> Iterator[MakeBatch]:
    """Makes a Batch of a test's own; takes the options of ``Batch``.

    What the test leaves behind unjoined is terminated. Only weak references are held, so that
    a test may drop its Batch.
    """
    made: weakref.WeakSet[Batch] = weakref.WeakSet()

    def make(**options: Any) -> Batch:
        one = engine.make(**options)
        made.add(one)
        return one

    yield make
    for one in list(made):
        one.terminate()


@pytest.fixture(scope="module")
def batch(engine: Engine, request: pytest.FixtureRequest) -> Iterator[Batch]:
    """A Batch that the tests of a module share, of two workers or the module's NUM_WORKERS.

    For tests that leave it as they found it: open, and with nothing running.
    """
    with engine.make(num_workers=getattr(request.module, "NUM_WORKERS", 2)) as one:
        yield one


# -- queues --------------------------------------------------------------------------------


@pytest.fixture(scope="session", params=QUEUE_STORES, ids=lambda store: store.name)
def queue_store(request: pytest.FixtureRequest) -> Iterator[QueueStore]:
    one: QueueStore = request.param
    with one.around():
        yield one


@pytest.fixture
def make_queue(queue_store: QueueStore) -> Iterator[Callable[..., Queue[Any]]]:
    """Makes a queue of a test's own, removed after it; takes ``maxsize`` and ``joinable``."""
    made: list[Queue[Any]] = []

    def make(**options: Any) -> Queue[Any]:
        made.append(queue_store.make(**options))
        return made[-1]

    yield make
    for one in made:
        one.destroy()


@pytest.fixture
def make_shared_queue(
    queue_store: QueueStore, make_queue: Callable[..., Queue[Any]]
) -> Callable[..., Queue[Any]]:
    """The same, of stores that processes share."""
    if not queue_store.processes:
        pytest.skip(f"the store {queue_store.name} is for one process")
    return make_queue
