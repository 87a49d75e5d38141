"""What a DDict looks like where it is shown: one line, or HTML in a notebook.

Showing never waits, unpickles or raises, whatever has become of the dictionary.
"""

from __future__ import annotations

import html as markup
import itertools
import reprlib
from typing import TYPE_CHECKING, Any

from alamo.core.keys import decode
from alamo.data.closed import Closed
from alamo.data.packing import type_name
from alamo.sizes import format_size

if TYPE_CHECKING:
    from alamo.data.ddict import DDict

__all__ = ["html", "text"]

#: Keys that are shown in a notebook.
_SHOWN = 10


def text(ddict: DDict[Any, Any]) -> str:
    """A line, for ``repr``."""
    return f"<{_title(ddict)}: {_state(ddict)}>"


def html(ddict: DDict[Any, Any]) -> str:
    """A block of HTML that needs nothing from elsewhere, in the colours of the page around it."""
    lines = [f"<b>{markup.escape(_title(ddict))}</b>: {markup.escape(_state(ddict))}"]
    try:
        store = ddict._store
        keys = [_shown(*key) for key in itertools.islice(store.keys(), _SHOWN + 1)]
        used = format_size(store.stats()["bytes_used"])
    except Exception:  # closed, or gone
        pass
    else:
        more = ", ..." if len(keys) > _SHOWN else ""
        if keys:
            lines.append(f"<code>{markup.escape(', '.join(keys[:_SHOWN]) + more)}</code>")
        lines.append(markup.escape(f"{used} in {store.place}"))
    inside = "".join(f"<div>{line}</div>" for line in lines)
    return f'<div style="color:inherit;line-height:1.5">{inside}</div>'


def _title(ddict: DDict[Any, Any]) -> str:
    try:
        return ddict._label()
    except Exception:  # half a DDict: its constructor has failed
        return type(ddict).__name__


def _state(ddict: DDict[Any, Any]) -> str:
    try:
        store: Any = ddict._store
        if isinstance(store, Closed):
            return store.why
        count = store.count()
        parts = ["1 key" if count == 1 else f"{count} keys"]
        if ddict._waits:
            parts.append("waits for keys")
        if store.is_frozen():
            parts.append("frozen")
        return ", ".join(parts)
    except Exception as error:
        return f"not to be read: {type(error).__name__}"


def _shown(encoded: bytes, kept: bytes) -> str:
    """A key for reading; one that would have to be unpickled by its type."""
    return f"<{type_name(kept)}>" if kept else reprlib.repr(decode(encoded))
