"""What a task of any kind may be given beside its work: time limit, retries, policy, priority."""

from __future__ import annotations

import dataclasses
import operator
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex

import msgspec

from alamo.batch.retry import Retry
from alamo.core.terms import ONE_CORE
from alamo.errors import UsageError
from alamo.policy import Policy
from alamo.protocol import messages as msg

if TYPE_CHECKING:
    from alamo.batch.client import Client

__all__ = ["Options", "OptionsMaker", "own_process"]

#: Sets of options that are remembered, so that equal ones are one object.
_KNOWN_MAX = 1024
_PRIORITY_MAX = 1 << 31
#: Longer ones mean without end.
_SECONDS_MAX = 1e9


class Options(msgspec.Struct, frozen=True, gc=False):
    """The options of a task, checked.

    Attributes:
        timeout_s: how long an attempt may run; 0: for ever.
        retry: when it is run again; ``None``: never.
        policy: what it needs; ``None``: one slot.
        priority: the higher goes first.
        own_process: it runs in a process of its own, not in the worker's.
    """

    timeout_s: float = 0.0
    retry: Retry | None = None
    policy: Policy | None = None
    priority: int = 0
    own_process: bool = False

    @property
    def has_terms(self) -> bool:
        """Whether the manager is to be told more than the priority."""
        return bool(self.timeout_s or self.retry or self.policy)

    def terms(self, program: int, number: int) -> msg.TermsDefined:
        """The message that gives them a number in a program."""
        need = self.policy.need(own_process=self.own_process) if self.policy else ONE_CORE
        retry = self.retry or Retry(0)
        return msg.TermsDefined(
            program,
            number,
            need.cores,
            need.gpu_parts,
            need.gpu_choice,
            need.memory_bytes,
            need.cpus,
            need.pinned,
            need.bound,
            self.timeout_s,
            retry.times,
            retry.backoff_s,
            retry.factor,
            retry.jitter,
            retry.types,
            retry.exit_codes,
            retry.lost,
        )


_Given = tuple[Any, Any, Any, Any]


class OptionsMaker:
    """Checks options for the tasks of one client, and makes equal ones one object."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._last: tuple[_Given, Options | None] = ((None, 0, None, 0), None)
        self._known: dict[Options, Options] = {}

    def make(
        self, timeout: Any = None, retries: Any = 0, policy: Any = None, priority: Any = 0
    ) -> Options | None:
        """The options of a task; ``None`` if they are those of every task.

        Args:
            timeout: seconds, or ``None``.
            retries: how often it may run again, or a ``Retry``.

        Raises:
            UsageError: a value is none that it could be.
            PolicyError: the Batch can never give what the policy asks for.

        Cost: 0.1 us when they are the same objects as in the call before, else 3 us; the first
            policy beyond a slot asks the manager what there is.
        """
        # Of the same objects: 1 and True are equal, and only one of them is a number of retries.
        (t, r, p, q), made = self._last
        if timeout is t and retries is r and policy is p and priority is q:
            return made
        given = Options(
            _timeout(timeout), _retry(retries), self._policy(policy), _priority(priority)
        )
        options = None if given == _NO_OPTIONS else self._checked(given)
        self._last = (timeout, retries, policy, priority), options
        return options

    def _checked(self, options: Options) -> Options:
        known = self._known.get(options)
        if known is not None:
            return known
        if options.policy is not None:
            from alamo.batch.capacity import check_fits  # few tasks have a policy

            check_fits(self._client, options.policy)
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[options] = options
        return options

    def _policy(self, value: Any) -> Policy | None:
        if value is None or value == _PLAIN_POLICY:
            return None
        if not isinstance(value, Policy):
            raise UsageError(
                f"policy={value!r:.200}: it is an alamo.Policy, such as Policy(cores=2), or None"
            )
        slots = self._client.slots
        if value.oversubscribe and value.cores > slots and not value.cpu_affinity:
            return dataclasses.replace(value, cores=slots)
        return value

    def forget(self) -> None:
        """What the Batch has to give has changed: what fitted may not fit any more."""
        self._last = (None, 0, None, 0), None
        self._known.clear()


_NO_OPTIONS = Options()
_PLAIN_POLICY = Policy()


def own_process(options: Options | None) -> Options | None:
    """The options of a task that runs in a process of its own: any worker can start that."""
    if options is None or options.policy is None:
        return options
    return msgspec.structs.replace(options, own_process=True)


def _timeout(value: Any) -> float:
    if value is None:
        return 0.0
    if isinstance(value, SupportsFloat) and not isinstance(value, bool):
        seconds = float(value)
        if seconds > 0:
            return seconds if seconds < _SECONDS_MAX else 0.0
    raise UsageError(
        f"timeout={value!r:.200}: it is how many seconds the task may run, above 0, or None for "
        "no limit"
    )


def _retry(value: Any) -> Retry | None:
    if isinstance(value, Retry):
        return value if value.times else None
    if value is None:
        return None
    if isinstance(value, bool | type) or not isinstance(value, SupportsIndex):
        raise UsageError(
            f"retries={value!r:.200}: it is how often a task that failed is run again, a whole "
            "number from 0 on, or a Retry(...)"
        )
    times = operator.index(value)
    if times < 0:
        raise UsageError(f"retries={times}: it is a whole number from 0 on, or a Retry(...)")
    return Retry(times) if times else None


def _priority(value: Any) -> int:
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        priority = operator.index(value)
        if abs(priority) < _PRIORITY_MAX:
            return priority
    raise UsageError(
        f"priority={value!r:.200}: it is a whole number, 0 by default; the higher goes first"
    )


def check_priority(value: Any) -> int:
    """The priority that a value is.

    Raises:
        UsageError: it is none.
    """
    return 0 if value.__class__ is int and not value else _priority(value)
