"""Who may talk to a manager: a process of the same user that knows the secret.

The secret lies in a file of mode 0600 inside a directory of mode 0700.  Both sides
prove that they know it by an HMAC over the other's nonce, before anything else is read.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import struct

NONCE_BYTES = 32


def make_secret() -> bytes:
    """A new secret or nonce."""
    return secrets.token_bytes(NONCE_BYTES)


def proof(secret: bytes, role: bytes, nonce: bytes) -> bytes:
    """What a peer in that role (``b"client"``, ``b"manager"``) answers to a nonce."""
    return hmac.new(secret, role + nonce, hashlib.sha256).digest()


def is_proof(secret: bytes, role: bytes, nonce: bytes, given: bytes) -> bool:
    """Whether the answer shows knowledge of the secret; takes the same time either way."""
    return hmac.compare_digest(proof(secret, role, nonce), given)


def peer_uid(sock: socket.socket) -> int:
    """The user of the process at the other end of a Unix socket, as the kernel tells it."""
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)
