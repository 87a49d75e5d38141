"""Questions of a client to its manager that are answered at once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from alamo.batch.waiting import deadline_of
from alamo.errors import BatchBroken, WaitTimeout
from alamo.protocol import messages as msg

if TYPE_CHECKING:
    from alamo.batch.client import Client

#: How long a manager is waited for, which answers between two messages.
ANSWER_WAIT_S = 60.0

Answer = TypeVar("Answer", msg.Account, msg.Machine)


class _Inquiry:
    """A question that waits for its answer; the lock is held until that has come or never will."""

    __slots__ = ("answer", "lock")

    def __init__(self) -> None:
        self.answer: msg.Message | None = None
        self.lock = threading.Lock()
        self.lock.acquire()


class Inquiries:
    """The questions of one client, from any thread but the receiver's.

    Example of use: ``inquiries.ask(msg.MachineAsked, msg.Machine)``.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._numbers = itertools.count(1)
        self._asked: dict[int, _Inquiry] = {}
        self._machine: msg.Machine | None = None

    def ask(
        self,
        question: Callable[[int], msg.Message],
        kind: type[Answer],
        timeout_s: float | None = ANSWER_WAIT_S,
    ) -> Answer:
        """Ask and wait for the answer.

        Args:
            question: makes the message, given the number of the request.
            kind: the class of the answer.

        Raises:
            WaitTimeout: there was no answer in time.
            BatchBroken: the service is gone.

        Cost: a round trip: 0.1 ms, more while the manager is busy.
        """
        deadline_s = deadline_of(timeout_s)
        number = next(self._numbers)
        inquiry = self._asked[number] = _Inquiry()
        client = self._client
        try:
            client.send([question(number)])
            client.check_broken()  # behind the line that registers it: ``break_off`` has seen it
            waits = inquiry.answer is None and not client.ended.is_set()
            if waits and not client.waits.acquire(inquiry.lock, deadline_s):
                raise WaitTimeout(
                    f"the manager (pid {client.manager_pid} on {client.host}) has not answered in "
                    f"{timeout_s} s; ask again later"
                )
        finally:
            self._asked.pop(number, None)
        if inquiry.answer is None:
            client.check_broken()
            raise BatchBroken("the Batch has ended before it answered")
        assert isinstance(inquiry.answer, kind)
        return inquiry.answer

    def machine(self) -> msg.Machine:
        """What there is to be had, besides slots, whose number may change.

        Cost: a round trip the first time; where there are GPUs perhaps a second or two.
        """
        if self._machine is None:
            self._machine = self.ask(msg.MachineAsked, msg.Machine)
        return self._machine

    def answered(self, message: msg.Account | msg.Machine) -> None:
        """An answer has come; whoever asked may have given up."""
        inquiry = self._asked.get(message.request)
        if inquiry is not None and inquiry.answer is None:
            inquiry.answer = message
            inquiry.lock.release()

    def break_off(self) -> None:
        """No answer will come any more."""
        for number in list(self._asked):
            inquiry = self._asked.pop(number, None)
            if inquiry is not None and inquiry.lock.locked():
                inquiry.lock.release()
