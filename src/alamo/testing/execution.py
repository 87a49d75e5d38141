"""Making one call in the calling thread as a worker would: its output and failure are caught."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import msgspec

from alamo.errors import SerializationError
from alamo.protocol import exceptions, pickling
from alamo.protocol import messages as msg
from alamo.protocol.placeholders import inputs
from alamo.protocol.records import OK, RAISED, Record
from alamo.testing.calls import cut_traceback
from alamo.testing.printed import Printed
from alamo.worker import output
from alamo.worker.inputs import ChunkInputs

_OWN_FILES = frozenset({__file__})

_encode = msgspec.msgpack.Encoder().encode


class Execution:
    """Makes calls.

    Args:
        chunk_inputs: what placeholders in arguments mean.
    """

    def __init__(self, chunk_inputs: ChunkInputs) -> None:
        self._inputs = chunk_inputs

    def outcome(
        self,
        message: msg.Chunk,
        call: Callable[[], Any],
        failure: BaseException | type[BaseException] | None,
    ) -> tuple[bytes, bool]:
        """Make a call of a chunk; its outcome as bytes, and whether it succeeded.

        Args:
            failure: raised in place of the call.
        """
        stdout, stderr = Printed(), Printed()
        cwd, environ = os.getcwd(), dict(os.environ)
        ok = True
        try:
            os.chdir(message.cwd)
            with redirect_stdout(stdout), redirect_stderr(stderr):
                if failure is not None:
                    raise failure
                self._bind(message)
                value = call()
                self._bind(message)
                data = b"" if value is None else self._dump(value)
        except BaseException as error:
            ok = False
            cut_traceback(error, _OWN_FILES)
            data = exceptions.dump_exception(error, socket.gethostname(), os.getpid())
        finally:
            os.chdir(cwd)
            if os.environ != environ:
                os.environ.clear()
                os.environ.update(environ)
        printed, complained = stdout.taken(), stderr.taken()
        splits = output.take_splits()
        if not ok:
            data = _encode(Record(RAISED, data, printed, complained, splits=splits))
        elif printed or complained:
            data = _encode(Record(OK, data, printed, complained, splits=splits))
        return data, ok

    def _bind(self, message: msg.Chunk) -> None:
        """Make placeholders mean this chunk's; code that ran in between may have changed that."""
        self._inputs.bind()
        self._inputs.enter(message)
        inputs.fresh.clear()

    def _dump(self, value: Any) -> bytes:
        try:
            data, buffers = pickling.dump(value, self._inputs)
            return pickling.dump_in_line(value) if buffers else data
        except SerializationError as error:
            raise exceptions.unpicklable_result(value, error) from error
