"""The worker process: takes chunks from its manager, runs them, until the manager is gone."""

from __future__ import annotations

import errno
import logging
import os
import resource
import select
import signal
import socket
import sys
import traceback
from collections import deque

from alamo import blocking, lingering, linux
from alamo.protocol.bindings import Binding
from alamo.protocol.blocks import BlockMaker, BlockReader
from alamo.protocol.framing import MessageReader, encode
from alamo.protocol.layout import LIMIT, NEXT, STATUS_CLOSED, SharedMemory
from alamo.protocol.messages import (
    BlockMade,
    BlocksFree,
    BlocksGone,
    Chunk,
    FunctionDefined,
    FunctionsForgotten,
    Message,
    ObjectDefined,
    ObjectsForgotten,
    Ready,
    Stopped,
    ToWorker,
)
from alamo.protocol.nursery_messages import NurserySetup
from alamo.worker import bindings, child, output
from alamo.worker.arrays import ArrayRunner
from alamo.worker.context import context
from alamo.worker.data_waits import DataWaits
from alamo.worker.inputs import ChunkInputs
from alamo.worker.outbox import LogHandler, Outbox
from alamo.worker.runner import FunctionTable
from alamo.worker.surroundings import Surroundings, default_signals

#: Origins of blocks: workers count from here, clients below.
WORKER_ORIGIN = 1 << 24


class Worker:
    """One worker: a queue of chunks read from the socket, run one after the other."""

    def __init__(
        self,
        number: int,
        sock: socket.socket,
        outbox: Outbox,
        memory: SharedMemory,
        blocks_max: int,
    ) -> None:
        self._sock = sock
        self._outbox = outbox
        self._cells = memory.cells
        self._reader: MessageReader[Message] = MessageReader(ToWorker)
        self._chunks: deque[Chunk] = deque()
        self._blocks = BlockReader(lending=False)
        self._maker = BlockMaker(WORKER_ORIGIN + number, blocks_max)
        self._inputs = ChunkInputs(self._blocks, self._maker)
        self._functions = FunctionTable()
        self._surroundings = Surroundings()
        child.left_running = self._surroundings.look
        self._waits = DataWaits(outbox, memory.cells, self._surroundings.look)
        os.register_at_fork(after_in_child=self._waits.leave)
        blocking.listen(self._waits)
        self._idle = select.poll()
        self._idle.register(sock, select.POLLIN)
        lingering.begin()
        os.register_at_fork(after_in_child=lingering.leave)
        self._epoch = 0
        self._runner = ArrayRunner(
            outbox,
            memory,
            socket.gethostname(),
            self._maker,
            self._inputs,
            self._functions,
            self._surroundings,
            self._end_task,
        )

    def serve(self) -> None:
        """Run chunks until the manager closes the connection."""
        self._outbox.sendall(encode(Ready(os.getpid())))
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                if chunk.epoch == self._epoch:
                    self._run(chunk)
                    if self._surroundings.spoiled:
                        return
            if lingering.has_some():
                self._let_go()
            if not self._reader.receive(self._sock):
                return
            for message in self._reader.messages():
                self._take(message)

    def _let_go(self) -> None:
        """Close what tasks have not used for long, and all if there is nothing to do meanwhile."""
        lingering.tidy()
        if not self._idle.poll(lingering.LINGER_S * 1000):
            lingering.drop()

    def _take(self, message: Message) -> None:
        match message:
            case Chunk():
                self._chunks.append(message)
            case FunctionDefined(number, blob):
                self._functions.define(number, blob)
            case FunctionsForgotten(numbers):
                self._functions.forget(numbers)
            case ObjectDefined():
                self._inputs.define(message)
            case ObjectsForgotten(program, numbers):
                self._inputs.forget(program, numbers)
            case BlockMade(block, size):
                self._blocks.add(block, size, self._reader.take_descriptors(message)[0])
            case BlocksFree(blocks):
                gone = self._maker.freed(blocks)
                if gone:
                    self._outbox.sendall(encode(BlocksGone(gone)))
            case BlocksGone(blocks):
                self._blocks.gone(blocks)
                self._maker.forget(blocks)
            case _:
                raise AssertionError(f"no worker handles {message!r}")

    def _run(self, chunk: Chunk) -> None:
        # A limit at or below the first element: taken back before it began.
        if self._cells[LIMIT] <= chunk.seq:
            self._cells[NEXT] = chunk.seq
            self._stop(chunk.seq)
            return
        cwd = os.fsdecode(chunk.cwd)
        if cwd != self._surroundings.cwd:
            try:
                self._surroundings.enter(cwd)
            except (OSError, ValueError) as error:
                logging.getLogger("alamo.worker").warning(
                    "tasks of program %d run in %s: %s",
                    chunk.program,
                    self._surroundings.cwd,
                    error,
                )
        output.put_streams_back()
        child.binding = chunk.binding
        done = self._runner.run(chunk)
        if done < chunk.count:
            self._stop(chunk.seq + done)

    def _end_task(self) -> None:
        context.end_task()
        self._waits.task_ended()

    def _stop(self, seq: int) -> None:
        """Drop everything from ``seq`` on and say so; chunks dealt before that are void."""
        self._epoch += 1
        self._outbox.sendall(encode(Stopped(seq, self._epoch)))


def _go_first() -> None:
    """In a child that a task forks; others keep the worker's score unless they are told."""
    linux.raise_oom_score(linux.CHILD_OOM_SCORE)


def worker_main(number: int, fds: list[int], setup: NurserySetup, binding: Binding) -> None:
    """Body of a freshly forked worker; does not return.

    Args:
        fds: socket, shared memory, stdout, stderr, lifeline.
        binding: what its libraries may use.
    """
    status = 1
    try:
        default_signals()
        linux.die_with_writer(fds[4])
        linux.leave_process_group()
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (setup.files, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        )
        linux.become_subreaper()
        linux.raise_oom_score(linux.WORKER_OOM_SCORE)
        os.register_at_fork(after_in_child=_go_first)
        linux.keep_freed_memory()
        linux.set_process_name(f"alamo-worker-{number}")
        devnull = os.open(os.devnull, os.O_RDONLY)
        os.dup2(devnull, 0)
        os.close(devnull)
        output.install(fds[2], fds[3])
        sys.path[:] = map(os.fsdecode, setup.sys_path)
        sys.argv[:] = ["alamo-worker"]
        bindings.apply(binding)
        sock = socket.socket(fileno=fds[0])
        sock.setblocking(True)
        memory = SharedMemory(fds[1])
        os.close(fds[1])
        logger = logging.getLogger("alamo")
        logger.setLevel(setup.log_level)
        outbox = Outbox(sock)
        logger.addHandler(LogHandler(outbox))
        os.register_at_fork(after_in_child=outbox.leave)
        logger.propagate = False
        context.enter(number, setup.address)
        Worker(number, sock, outbox, memory, setup.blocks_max).serve()
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        status = 0
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except OSError as error:
        status = STATUS_CLOSED if error.errno == errno.EBADF else 1
        traceback.print_exc()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
