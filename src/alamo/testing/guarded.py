"""Executes a program that ends with its parent: ``python -m alamo.testing.guarded fd program ...``

The descriptor is the read end of a pipe whose write end the parent holds.
"""

from __future__ import annotations

import os
import sys

from alamo import linux


def main() -> None:
    """Take the arguments from the command line; does not return."""
    _, pipe_fd, *command = sys.argv
    os.set_inheritable(linux.die_with_writer(int(pipe_fd)), True)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
