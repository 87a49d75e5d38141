"""Runs every test that asks for ``engine``, ``make_batch`` or ``batch`` over every engine, and
every test that asks for ``store``, ``make_ddict`` or ``make_queue`` over every store.

``@pytest.mark.needs("kills", ...)`` says what a test needs that not every engine or store can do;
it is skipped, with the reason, where that cannot. What may be needed: ``_engines.CAPABILITIES`` and
``_stores.STORE_CAPABILITIES``.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from _engines import CAPABILITIES, ENGINES, Engine, MakeBatch, check_capabilities
from _stores import STORE_CAPABILITIES, STORES, MakeDDict, MakeQueue, Store

from alamo import Batch, DataStoreError, DDict, Queue, UsageError


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = metafunc.definition.iter_markers("needs")
    needed = frozenset(name for mark in marks for name in mark.args)
    check_capabilities(needed)
    if "engine" in metafunc.fixturenames:
        params = [for_one(engine, needed, CAPABILITIES) for engine in ENGINES]
        metafunc.parametrize("engine", params, indirect=True, scope="session")
    if "store" in metafunc.fixturenames:
        params = [for_one(store, needed, STORE_CAPABILITIES) for store in STORES]
        metafunc.parametrize("store", params, indirect=True, scope="session")


def for_one(one: Engine | Store, needed: frozenset[str], known: Mapping[str, str]) -> Any:
    """The parameter for one engine or store, skipped where that lacks something."""
    lacking = [known[name] for name in sorted((needed & known.keys()) - one.capabilities)]
    reason = f"not on {one.name}: {'; '.join(lacking)}"
    marks = [pytest.mark.skip(reason=reason)] if lacking else []
    return pytest.param(one, id=one.name, marks=marks)


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


@pytest.fixture(scope="session")
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    one: Store = request.param
    with one.around():
        yield one


@pytest.fixture
def make_ddict(store: Store) -> Iterator[MakeDDict]:
    """Makes a DDict of a test's own; takes the options of ``DDict``.  All are destroyed after it:
    what has a name or was pickled would stay until this process ends."""
    made: list[DDict[Any, Any]] = []

    def make(*data: Any, **options: Any) -> DDict[Any, Any]:
        made.append(store.make(*data, **options))
        return made[-1]

    yield make
    for one in made:
        try:
            one.destroy()
        except (UsageError, DataStoreError):
            pass  # the test has closed or destroyed it


@pytest.fixture
def make_queue(store: Store) -> Iterator[MakeQueue]:
    """Makes a Queue of a test's own, destroyed after it; takes the options of ``Queue``."""
    made: list[Queue[Any]] = []

    def make(**options: Any) -> Queue[Any]:
        made.append(store.make_queue(**options))
        return made[-1]

    yield make
    for one in made:
        one.destroy()
