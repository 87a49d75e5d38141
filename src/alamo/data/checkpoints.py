"""The file that ``DDict.checkpoint`` writes: entries of any store, for any store.

    magic, then for each entry its lengths and its parts, then a last entry without a key

    entry  = sizes of key, kept and head, number of buffers (all 8 bytes, little end first),
             size of each buffer, key, kept, head, buffers
    last   = -1, number of entries

A file is written under another name and renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from alamo.data.store import Entry
from alamo.errors import DDictError

__all__ = ["read_checkpoint", "write_checkpoint"]

_MAGIC: Final = b"alamo DDict checkpoint 1\n"
_SIZES: Final = struct.Struct("<qqqq")
_LAST: Final = -1
_BUFFER_BYTES: Final = 1 << 20


def write_checkpoint(path: str, entries: Iterable[Entry]) -> int:
    """Write entries into a file and return how many.

    Raises:
        OSError: it cannot be written; what was there before is unchanged.
    """
    directory = os.path.dirname(path) or "."
    fd, partial = tempfile.mkstemp(prefix=os.path.basename(path) + ".", dir=directory)
    try:
        with open(fd, "wb", _BUFFER_BYTES) as file:
            count = _write(file, entries)
            file.flush()
            os.fsync(fd)
        os.rename(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
    at = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(at)
    finally:
        os.close(at)
    return count


def _write(file: BinaryIO, entries: Iterable[Entry]) -> int:
    file.write(_MAGIC)
    count = 0
    for key, kept, (head, buffers) in entries:
        file.write(_SIZES.pack(len(key), len(kept), len(head), len(buffers)))
        file.write(struct.pack(f"<{len(buffers)}q", *map(len, buffers)))
        for part in (key, kept, head, *buffers):
            file.write(part)
        count += 1
    file.write(_SIZES.pack(_LAST, count, 0, 0))
    return count


def read_checkpoint(path: str) -> Iterator[Entry]:
    """Iterate over the entries of a file.

    Raises:
        OSError: it cannot be read.
        DDictError: it is no checkpoint, or a part of one.
    """
    with open(path, "rb", _BUFFER_BYTES) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise DDictError(f"{path} is no checkpoint of a DDict, or of another version of alamo")
        count = 0
        while True:
            key_size, kept_size, head_size, parts = _SIZES.unpack(_read(file, _SIZES.size, path))
            if key_size == _LAST:
                if kept_size != count:
                    raise DDictError(f"{path} is damaged: {count} entries of {kept_size}")
                return
            sizes = struct.unpack(f"<{parts}q", _read(file, 8 * parts, path))
            key, kept = _read(file, key_size, path), _read(file, kept_size, path)
            head = _read(file, head_size, path)
            yield Entry(key, kept, (head, [_read(file, size, path) for size in sizes]))
            count += 1


def _read(file: BinaryIO, size: int, path: str) -> bytes:
    data = file.read(size) if size >= 0 else b""
    if len(data) != size:
        raise DDictError(f"{path} is damaged: it ends, or goes on, in the middle of an entry")
    return data
