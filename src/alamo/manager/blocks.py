"""Which shared blocks exist, who knows them and how many uses each still has."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable

from alamo.manager.connection import Connection
from alamo.protocol.messages import BlockMade, BlocksFree, BlocksGone

#: Blocks that one process may have in use, however many files the manager may open.  A client
#: makes those of arguments, and of the results that are put in their place.
_WORKER_MAX = 1024
_CLIENT_MAX = 4096


def blocks_max_of(slots: int) -> tuple[int, int]:
    """Blocks that each of ``slots`` workers, and each of a few clients, may have in use at once.

    Each is an open file here; half of those allowed are for blocks.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return _WORKER_MAX, _CLIENT_MAX
    share = max(4, files // 2 // (slots + 2))
    return min(_WORKER_MAX, share), min(_CLIENT_MAX, share)


class _Block:
    __slots__ = ("fd", "kept", "known", "maker", "size", "uses")

    def __init__(self, maker: Connection, size: int, fd: int) -> None:
        self.maker = maker
        self.size = size
        self.fd = fd
        self.uses = 0
        #: Somebody holds on to the content for ever: it is not filled again.
        self.kept = False
        self.known: set[Connection] = set()


class BlockRegistry:
    """Passes descriptors on to who needs them, and blocks back to their makers."""

    def __init__(self) -> None:
        self._blocks: dict[int, _Block] = {}
        self.sink: Callable[[int], None] | None = None

    def made(self, maker: Connection, block: int, size: int, fd: int) -> None:
        """A process made a block; takes the descriptor."""
        self._blocks[block] = _Block(maker, size, fd)

    def knows(self, block: int) -> bool:
        """Whether its maker has told of the block."""
        return block in self._blocks

    def size_of(self, block: int) -> int:
        """Bytes of a block, 0 when its maker has not told of it."""
        known = self._blocks.get(block)
        return known.size if known is not None else 0

    @property
    def total_bytes(self) -> int:
        """Bytes of all blocks, those kept to be filled again included.  Cost: O(blocks)."""
        return sum(known.size for known in self._blocks.values())

    def use(self, block: int) -> None:
        """One more use of the block's present content."""
        if block in self._blocks:
            self._blocks[block].uses += 1

    def is_only_use(self, block: int) -> bool:
        """Whether the block's content has one use, and may be written over at its end."""
        known = self._blocks.get(block)
        return known is not None and known.uses == 1 and not known.kept

    def is_of(self, block: int, maker: Connection) -> bool:
        """Whether this process made the block."""
        return block in self._blocks and self._blocks[block].maker is maker

    def show(self, block: int, peer: Connection) -> None:
        """Make sure that a peer can map the block, before a message that refers to it.

        Raises:
            OSError: there are no descriptors left.
        """
        known = self._blocks.get(block)
        if known is None or peer in known.known:
            return
        peer.send(BlockMade(block, known.size), (known.fd,))
        known.known.add(peer)

    def released(self, blocks: Iterable[int]) -> None:
        """One use less of each; a block without use goes back to its maker."""
        back: dict[Connection, list[int]] = {}
        for block in blocks:
            known = self._blocks.get(block)
            if known is None:
                continue
            known.uses -= 1
            if known.uses <= 0:
                known.uses = 0
                if known.maker.closed or known.kept:
                    self.gone([block])
                    if not known.maker.closed:
                        known.maker.send(BlocksGone([block]))
                else:
                    back.setdefault(known.maker, []).append(block)
        for maker, free in back.items():
            maker.send(BlocksFree(free))

    def keep(self, blocks: Iterable[int]) -> None:
        """A process that nobody can ask any more holds on to these blocks' content."""
        for block in blocks:
            if block in self._blocks:
                self._blocks[block].kept = True

    def gone(self, blocks: Iterable[int]) -> None:
        """Blocks that will not be filled again: everybody forgets them."""
        told: dict[Connection, list[int]] = {}
        for block in blocks:
            known = self._blocks.pop(block, None)
            if known is None:
                continue
            os.close(known.fd)
            for peer in known.known:
                told.setdefault(peer, []).append(block)
        for peer, names in told.items():
            peer.send(BlocksGone(names))

    def peer_gone(self, peer: Connection) -> None:
        """A process ended: it maps nothing, and its unused blocks can go."""
        for known in self._blocks.values():
            known.known.discard(peer)
        self.gone(
            [b for b, known in self._blocks.items() if known.maker is peer and not known.uses]
        )
