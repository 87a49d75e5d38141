"""What an executor has workers call, where it is not the user's function itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def apply(function: Callable[..., Any], keywords: Mapping[str, Any], /, *args: Any) -> Any:
    """Call a function with keyword arguments, or one that is data like any argument."""
    return function(*args, **keywords)


def apply_to_each(function: Callable[..., Any], rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Call a function with the arguments in each row."""
    return [function(*row) for row in rows]
