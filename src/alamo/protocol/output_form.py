"""How what a task wrote is given to its user: as text or bytes, and where it lies."""

from __future__ import annotations

import codecs
import os

import msgspec

from alamo.protocol.records import STDOUT
from alamo.protocol.shortening import pieces, read


class OutputForm(msgspec.Struct, frozen=True, gc=False):
    """How stdout and stderr of a task are to be read.  The default is that of functions.

    Attributes:
        encoding, errors: as those of ``bytes.decode``.
        is_text: otherwise they are given as bytes.
        newlines: line ends become ``\\n``, as Popen's text mode makes them.
        stdout_path, stderr_path: files that the streams went to; empty when they were captured.
        ranks: of a job, how many wrote; 0 for any other task.

    Example:
        >>> OutputForm().shown(b"caf\\xe9"), OutputForm("latin-1").shown(b"caf\\xe9")
        ('caf\\\\xe9', 'café')
    """

    encoding: str = "utf-8"
    errors: str = "backslashreplace"
    is_text: bool = True
    newlines: bool = False
    stdout_path: str = ""
    stderr_path: str = ""
    ranks: int = 0

    def path(self, stream: int) -> str:
        """The file that a stream went to, or nothing."""
        return self.stdout_path if stream == STDOUT else self.stderr_path

    def raw(self, stream: int, captured: bytes) -> bytes:
        """The bytes of a stream, head and tail of many.

        Raises:
            FileNotFoundError: it went to a file that is not there any more.
        """
        path = self.path(stream)
        if not path:
            return captured
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return read(fd)
        finally:
            os.close(fd)

    def shown(self, data: bytes) -> str | bytes:
        """Bytes of a stream as the user wants them.

        Raises:
            UnicodeDecodeError: they are not in the encoding, and ``errors`` is ``strict``.
        """
        if not self.is_text:
            return data
        head, mark, tail = pieces(data)
        if not mark:
            text = head.decode(self.encoding, self.errors)
        else:  # both cuts may go through a character
            start = codecs.getincrementaldecoder(self.encoding)(self.errors).decode(head)
            errors = "backslashreplace" if self.errors == "strict" else self.errors
            text = start + mark.decode() + tail.decode(self.encoding, errors)
        if self.newlines:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return text

    def given(self, stream: int, captured: bytes) -> str | bytes:
        """What a handle of the stream gives."""
        return self.shown(self.raw(stream, captured))


#: Of tasks that say nothing about it.
PLAIN = OutputForm()
