"""Where a DDict and a Queue get their stores: on this machine, or over many nodes by a URL.

The modules are imported when the first store of their kind is made or opened.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from alamo import lingering
from alamo.data.store import DictStore, QueueStore
from alamo.errors import DataStoreError, UsageError
from alamo.sizes import parse_size

__all__ = ["make_dict_store", "make_queue_store", "open_dict_store", "open_queue_store"]

#: Kind of a store, the first of its handle -> the class of its DictStore, which has
#: ``make(**where)`` and ``open(*rest of the handle)``.
_DICT_STORES = {
    "embedded": ("alamo.data.lmdb.dict_store", "EmbeddedDictStore"),
    "valkey": ("alamo.data.valkey.dict_store", "ValkeyDictStore"),
    "memory": ("alamo.testing.stores", "MemoryDictStore"),
}
#: The same for queues.
_QUEUE_STORES = {
    "embedded": ("alamo.data.lmdb.queue_store", "EmbeddedQueueStore"),
    "valkey": ("alamo.data.valkey.queue_store", "ValkeyQueueStore"),
    "memory": ("alamo.testing.queue_stores", "MemoryQueueStore"),
}


def make_dict_store(
    *,
    name: str | None = None,
    directory: Any = None,
    url: str | None = None,
    total_mem: int | str | None = None,
) -> DictStore:
    """Make a dictionary, or open the one of that name.

    Args:
        name: by which others of this user (over many nodes: of this server) find it.
        directory: where it lies on this machine: a directory in memory, as a rule.
        url: of a server; then nothing lies on this machine.
        total_mem: what it may take, in bytes or as "4 GiB"; ``None``: what there is.

    Raises:
        UsageError: ``directory`` and ``url`` exclude each other.
        DataStoreError: it cannot be made or reached there.
    """
    limit = _limit_of(total_mem)
    _check_name(name)
    if url is None:
        kind = _kind(_DICT_STORES, "embedded")
        made = kind.make(name=name, directory=directory, total_mem=limit)
    elif directory is not None:
        raise UsageError("directory= is a place on this machine and url= a server: give one")
    else:
        made = _kind(_DICT_STORES, "valkey").make(url=url, name=name, total_mem=limit)
    store: DictStore = made
    return store


def open_dict_store(handle: tuple[Any, ...]) -> DictStore:
    """Open the dictionary that a handle stands for.

    Raises:
        DataStoreError: it is gone, or cannot be reached from here.
    """
    open_one = _kind(_DICT_STORES, handle[0]).open
    store: DictStore = open_one(*handle[1:])
    lingering.keep(handle, lambda: open_one(*handle[1:]))
    return store


def make_queue_store(
    *,
    maxsize: int = 0,
    joinable: bool = False,
    name: str | None = None,
    directory: Any = None,
    url: str | None = None,
    total_mem: int | str | None = None,
) -> QueueStore:
    """Make a queue, or open the one of that name, which may have another size and kind.

    Args:
        maxsize: how many messages it holds; 0: any number.
        joinable: whether unfinished messages are counted.
        name, directory, url, total_mem: as for :func:`make_dict_store`.

    Raises:
        UsageError, DataStoreError: as :func:`make_dict_store`.
    """
    limit = _limit_of(total_mem)
    _check_name(name)
    options = {"maxsize": maxsize, "joinable": joinable, "name": name, "total_mem": limit}
    if url is None:
        made = _kind(_QUEUE_STORES, "embedded").make(directory=directory, **options)
    elif directory is not None:
        raise UsageError("directory= is a place on this machine and url= a server: give one")
    else:
        made = _kind(_QUEUE_STORES, "valkey").make(url=url, **options)
    store: QueueStore = made
    return store


def open_queue_store(handle: tuple[Any, ...]) -> QueueStore:
    """Open the queue that a handle stands for.

    Raises:
        DataStoreError: it is gone, or cannot be reached from here.
    """
    open_one = _kind(_QUEUE_STORES, handle[0]).open
    store: QueueStore = open_one(*handle[1:])
    lingering.keep(handle, lambda: open_one(*handle[1:]))
    return store


def _limit_of(total_mem: Any) -> int | None:
    """A number of bytes, however it was written."""
    if isinstance(total_mem, str):
        return parse_size(total_mem)
    if total_mem is None:
        return None
    try:
        bytes_ = int(total_mem)
        if bytes_ == total_mem:
            return bytes_
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(
        f"total_mem is a whole number of bytes or a text such as '4 GiB', not {total_mem!r}"
    )


def _check_name(name: Any) -> None:
    if name is not None and not isinstance(name, str):
        raise UsageError(f"a name is a str, not {name!r}")


def _kind(kinds: dict[str, tuple[str, str]], name: str) -> Any:
    """The class of a kind of stores."""
    if name not in kinds:
        raise DataStoreError(
            f"a handle names the kind of store {name!r}, which this version of alamo does not "
            "know: use the same version in all processes"
        )
    module, class_name = kinds[name]
    try:
        return getattr(import_module(module), class_name)
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise ImportError(
            "a DDict or Queue over many nodes (url=) needs the client of Valkey and Redis: "
            "pip install 'alamo[valkey]'",
            name="redis",
        ) from error
