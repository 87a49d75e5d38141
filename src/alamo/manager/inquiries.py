"""What clients ask about an element or the machine, and what the machine has."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from alamo.core import events as ev
from alamo.core.explain import Account, account
from alamo.core.terms import PLAIN, Binding, Grant
from alamo.errors import ProtocolError, UsageError
from alamo.manager.machine import Machine
from alamo.protocol import bindings
from alamo.protocol import messages as msg

if TYPE_CHECKING:
    from alamo.manager.clients import Client
    from alamo.manager.service import Service
    from alamo.manager.worker_process import WorkerProcess


class Inquiries:
    """Answers what only the manager knows."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._machine: Machine | None = None
        # What the scheduler has been told of.
        self._told = False
        self._told_gpus = False

    # -- the machine -----------------------------------------------------------------------

    def _there_is(self) -> Machine:
        if self._machine is None:
            self._machine = Machine()
        return self._machine

    def find_machine(self, terms: msg.TermsDefined) -> None:
        """Tell the scheduler what there is besides slots, before the first that asks for it.

        Raises:
            ProtocolError: GPUs are asked for and cannot be found, which the client was told.
        """
        wants_gpus = bool(terms.gpu_parts or terms.gpu_choice)
        asks = wants_gpus or terms.memory_bytes or terms.pinned or terms.cpus
        if not asks or (self._told and (self._told_gpus or not wants_gpus)):
            return
        machine = self._there_is()
        try:
            gpus = len(machine.gpus) if wants_gpus else 0
        except UsageError as error:
            raise ProtocolError(str(error)) from error
        self._told, self._told_gpus = True, self._told_gpus or wants_gpus
        self._service.drive(ev.MachineFound(gpus, machine.memory_bytes, machine.cpus))

    def machine(self, client: Client, request: int) -> None:
        """Tell a client what there is."""
        slots = self._service.scheduler.pool.slots
        client.connection.send(machine_message(self._there_is(), request, slots))

    def wire_binding(self, binding: Binding) -> bindings.Binding | None:
        """A binding as a worker is told it."""
        return None if binding == PLAIN else self._there_is().binding(binding)

    def wire_grant(self, grant: Grant) -> bindings.Binding:
        """What executables are told that run on a grant, in a worker that is bound to nothing."""
        gpus = tuple([index for index, _ in grant.gpus])
        return self._there_is().binding(Binding(grant.cores, gpus, grant.cpus))

    # -- elements --------------------------------------------------------------------------

    def account(self, client: Client, request: int, number: int, element: int) -> None:
        """Tell a client how it stands with one of its elements."""
        service = self._service
        message = account_message(account(service.scheduler, number, element), request)
        worker = service.pool.workers.get(message.worker)
        message.pid = worker.pid if worker is not None else -1
        if worker is not None and message.state == "running":
            message.awaits = self._awaited_by(worker)
        message.host = service.host
        message.holders = tuple([self._as_seen_by(client, *h) for h in message.holders])
        client.connection.send(message)

    def _awaited_by(self, worker: WorkerProcess) -> tuple[str, ...]:
        """What the running task of a worker stands still for."""
        known = self._service.scheduler.pool.workers.get(worker.number)
        waits = known.blocked if known is not None else 0
        data = ("data",) if worker.awaits_data else ()
        return ("tasks", *data) if waits > len(data) else data

    def _as_seen_by(self, client: Client, number: int, element: int) -> tuple[int, int]:
        """An element by its client's own number of the program, or nobody's."""
        data = self._service.programs.get(number)
        if data is None or data.client != client.number:
            return -1, element
        return data.remote, element


def account_message(found: Account | None, request: int) -> msg.Account:
    """What a client is told of an account, but where it runs."""
    if found is None:
        return msg.Account(request, "ended")
    return msg.Account(
        request,
        found.state,
        found.waits_for,
        found.waits_for_count,
        found.lacks,
        found.holders,
        found.ahead,
        found.attempt,
        max(0.0, found.retry_at_s - time.monotonic()),
        found.worker,
    )


def machine_message(machine: Machine, request: int, slots: int) -> msg.Machine:
    """What a client is told of the machine."""
    names: tuple[str, ...] = ()
    gpu_error = ""
    try:
        names = tuple([f"{gpu.name}: {gpu.model}" for gpu in machine.gpus])
    except UsageError as error:
        gpu_error = str(error)
    return msg.Machine(request, slots, names, machine.memory_bytes, machine.cpus, gpu_error)
