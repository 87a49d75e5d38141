"""The words of a home's control page that the embedded stores use, and who may change them."""

from __future__ import annotations

from typing import Final

#: Bits that a writer must look at before it commits; changed inside a write transaction of the
#: first environment.
ATTENTION: Final = 0
FROZEN: Final = 1  # changes are refused
WAITERS: Final = 2  # somebody waits for something
EXPIRING: Final = 4  # an entry may be past its time
DESTROYED: Final = 8  # there is nothing here any more

#: How often orphans have been looked for; changed inside a write transaction of the first one.
SWEEPS: Final = 1

#: From here on, a word for each environment: pages whose blocks are allocated; under `growing`.
ALLOCATED: Final = 8
ENVIRONMENTS_MAX: Final = 8

#: From here on, a word for each environment: pieces of values that records refer to; changed
#: inside a write transaction of the first one.
REFERENCED: Final = ALLOCATED + ENVIRONMENTS_MAX

#: Words from here on mean what the kind of store says.
OWN: Final = REFERENCED + ENVIRONMENTS_MAX
