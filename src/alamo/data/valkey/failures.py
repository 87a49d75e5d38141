"""What went wrong with a command, and what follows: try it again, or which error to raise."""

from __future__ import annotations

import redis

from alamo.errors import DataStoreError

__all__ = [
    "CLIENT_ERRORS",
    "Refusal",
    "failure",
    "is_missing_function",
    "refusal_of",
    "was_not_executed",
]

#: All that redis-py raises because of servers; its errors of clusters are a family of their own.
CLIENT_ERRORS = (redis.RedisError, redis.exceptions.RedisClusterException)

# The first word of an error reply tells what it is.
_REFUSALS = {"ALAMOFROZEN", "ALAMOGONE", "ALAMOLOST", "OOM"}
#: The server has not executed the command, and a later attempt or another server will.
_ELSEWHERE = (
    redis.exceptions.AskError,  # MOVED is one of these
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
)
_LOGIN = ("NOAUTH", "WRONGPASS", "NOPERM")


class Refusal(DataStoreError):
    """The server says no and has changed nothing; the stores make their own error of it.

    Attributes:
        code: ALAMOFROZEN, ALAMOGONE, ALAMOLOST, or OOM: its memory is full.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def refusal_of(error: Exception) -> Refusal | None:
    """The refusal that an error reply is, if it is one."""
    if isinstance(error, redis.exceptions.OutOfMemoryError):  # redis-py drops its code
        return Refusal("OOM", str(error))
    code, _, text = str(error).partition(" ")
    return Refusal(code, text) if code in _REFUSALS else None


def was_not_executed(error: Exception) -> bool:
    """Whether a reply says that another server, or this one later, will execute the command."""
    return isinstance(error, _ELSEWHERE) or str(error).startswith("BUSY ")  # in a long script


def is_missing_function(error: Exception) -> bool:
    """Whether the server has not got our functions yet, or no more."""
    return isinstance(error, redis.ResponseError) and "Function not found" in str(error)


def failure(error: Exception, place: str) -> DataStoreError:
    """The error to raise when a command has failed for good."""
    text = str(error).rstrip(".")
    if isinstance(error, redis.AuthenticationError) or text.startswith(_LOGIN):
        return DataStoreError(
            f"{place} does not let us in: {text}. Give user and password in the URL, or "
            "?password_file= with the path of a file that only you can read"
        )
    if not isinstance(error, redis.ResponseError):
        return DataStoreError(
            f"{place} cannot be reached: {text}. Look whether a server is running there and "
            "reachable from this machine"
        )
    return DataStoreError(f"{place} refused a command: {text}")
