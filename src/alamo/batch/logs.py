"""The logger ``alamo`` in the client's process."""

from __future__ import annotations

import logging

from alamo.errors import UsageError


def check_log_level(level: int | str) -> int:
    names = logging.getLevelNamesMapping()
    given: object = names.get(level.upper()) if isinstance(level, str) else level
    if not isinstance(given, int):
        raise UsageError(f"log_level={level!r} is no level of the logging module")
    return given


def set_up_logging(level: int) -> None:
    """Make the level the logger's, unless another Batch wants more; show it if nobody else does."""
    logger = logging.getLogger("alamo")
    logger.setLevel(min(level, logger.level) if logger.level else level)
    if level < logging.WARNING and not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        logger.addHandler(handler)


def show(name: str, level: int, text: str) -> None:
    """Log what another process of the Batch had to say.  Never raises, whatever handlers do."""
    try:
        logging.getLogger(name).log(level, "%s", text)
    except Exception:
        logging.getLogger("alamo").debug("a log handler failed", exc_info=True)
