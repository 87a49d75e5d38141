"""Keys: the canonical encoding by which keys of a DDict and channels of accesses are compared.

Equal keys (``==`` and hash, as in a dict) have equal bytes, unequal keys have other bytes, in
every process, every run and every version of Python.  A pickle would not do: those of 1 and
1.0 differ, and those of two equal sets may.

The first byte names the kind, and what comes behind it follows from the value alone:

    s str       i j k f r c  numbers (key_numbers)     D T U Z h H d o  times (key_times)
    b bytes     t tuple    F frozenset  N None  E ...  u UUID   p w paths   g range
    m Enum      x dataclass             R registered

What holds other keys holds their encodings, each behind its length (key_parts).  There is no
limit of length here; a store with one hashes what is longer.

Two keys may be one here and two in a dict: all NaNs are one key, and so are instances of two
classes of one name in one module.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Iterator
from enum import Flag
from fractions import Fraction
from functools import lru_cache, partial
from types import EllipsisType, NoneType
from typing import Any, Final

from alamo.core import key_classes, key_numbers
from alamo.core.key_numbers import encode_int
from alamo.core.key_parts import join_parts, split_parts
from alamo.core.key_scalars import SCALARS, VALUE_OF, Encoder, decode_str

__all__ = ["decode", "encode", "is_plain", "register_key_encoder"]

#: Classes whose encoders are known at a time; a memo must have a bound.
_CLASSES_MAX: Final = 1024

_pack_int64: Final = struct.Struct(">cq").pack
_unpack_int64: Final = struct.Struct(">q").unpack_from


class _Refused(Exception):
    """A class, the argument, has no encoding."""


def encode(key: Any) -> bytes:
    """Return the canonical encoding of a key.

    Args:
        key: None, a number, str, bytes, a tuple or frozenset of keys, an Enum member, UUID,
            date, time or path, a frozen dataclass of keys, a numpy scalar, or an instance of a
            class given to :func:`register_key_encoder`.  A subclass of one of these counts as
            its base if it keeps the base's ``__eq__`` and ``__hash__``.

    Raises:
        TypeError: the key has no hash, as in a dict, or is of another class.
        RecursionError: tuples in tuples, some hundred deep.

    Cost: 0.15 us for an int of 64 bits or a short str, 0.4 us an item of a tuple, to 0.5 us for a
    float, date, UUID or path, 1 to 10 us for a dataclass, Decimal, Fraction or numpy scalar.
    A multiple of a high power of ten with more than 315 000 digits takes seconds.

    Example:
        >>> encode(1) == encode(1.0) == encode(True) == encode(Fraction(1))
        True
        >>> encode(("a", frozenset({1, 2}))) == encode(("a", frozenset({2, 1})))
        True
    """
    cls: Any = type(key)
    try:
        if cls is str:
            return b"s" + str.encode(key)
        if cls is int:
            return _pack_int64(b"i", key)
    except (UnicodeEncodeError, struct.error):
        pass
    try:
        return (_ENCODERS.get(cls) or _encoder_of(cls))(key)
    except _Refused:
        hash(key)  # tells of what has no hash as a dict would
        raise _refusal(key) from None
    except RecursionError:
        raise RecursionError(
            f"a key of type {cls.__name__!r} is nested deeper than Python's recursion limit has "
            "room for here; if a registered encoder gives back what it was given, it must not"
        ) from None


def decode(encoded: bytes) -> Any:
    """Return the key that has been encoded, if it is plain.

    Cost: 0.25 us for an int or a short str.

    Raises:
        ValueError: the encoding is that of a key which is not plain and has no value of a
            plain type either.

    Example:
        >>> decode(encode(("a", 1)))
        ('a', 1)
    """
    decoder = _DECODERS.get(encoded[0])
    if decoder is None:
        raise ValueError(f"a key of the kind {encoded[:1]!r} is not rebuilt from its encoding")
    return decoder(encoded)


def is_plain(key: Any) -> bool:
    """Whether ``decode(encode(key))`` gives back the very key, value and type.

    So it is for None, int, str, bytes, ``...``, a float that is no integer, tuples and
    frozensets of these, and classes registered with ``decode``.  For any other key a store
    keeps what the user gave.  A key that ``encode`` refuses may have either answer.

    Cost: 0.06 us for None, int, str and bytes.
    """
    cls = type(key)
    if cls in _PLAIN:
        return True
    test = _PLAIN_IF.get(cls)
    return test is not None and test(key)


def register_key_encoder(
    cls: type, encode: Callable[[Any], Hashable], decode: Callable[[Any], Any] | None = None
) -> None:
    """Let instances of a hashable class be keys of a ``DDict`` and channels of accesses.

    Call it in every process that uses such keys, best in the module that defines the class: a
    task's worker imports that too.  It holds for this very class: a subclass has to be
    registered as well, since it may be equal to other things.  A second call replaces the first;
    what is stored already keeps the encoding that it has.

    Args:
        cls: the class; processes know it by module and qualified name.
        encode: gives a key of another type for an instance, equal for equal instances and
            unequal for unequal ones; usually a tuple of what ``__eq__`` compares.
        decode: makes an instance from what ``encode`` gave.  Without it the store keeps a pickle
            of each such key beside its value, so that iteration can give it back.

    Raises:
        TypeError: ``cls`` is no class, has no hash or has an encoding already; ``encode`` or
            ``decode`` cannot be called.

    Example:
        >>> class Site:
        ...     def __init__(self, name):
        ...         self.name = name
        ...     def __eq__(self, other):
        ...         return isinstance(other, Site) and self.name == other.name
        ...     def __hash__(self):
        ...         return hash(self.name)
        >>> register_key_encoder(Site, lambda site: site.name, Site)
        >>> encode(Site("a")) == encode(Site("a"))
        True
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_key_encoder needs a class, not {cls!r}")
    if not key_classes.has_hash(cls):
        raise TypeError(
            f"unhashable type: {cls.__name__!r}; a key needs __hash__, and an encoder does not "
            "give it one"
        )
    if cls not in _registered and (cls in _ENCODERS or _base_encoder(cls) is not None):
        raise TypeError(
            f"keys of type {cls.__name__!r} have an encoding already, which agrees with ==; "
            "another one would not"
        )
    if not all(map(callable, (encode,) if decode is None else (encode, decode))):
        raise TypeError("encode and decode of register_key_encoder are functions of one argument")
    name = key_classes.class_name(cls)
    _registered.add(cls)
    _ENCODERS[cls] = partial(_encode_registered, name.encode(), encode)
    if decode is None:
        _PLAIN_IF.pop(cls, None)
        _registered_decoders.pop(name, None)
    else:
        _PLAIN_IF[cls] = lambda key: is_plain(encode(key))
        _registered_decoders[name] = decode


# -- which encoder -----------------------------------------------------------------------------


def _encode(key: Any) -> bytes:
    """Encode a part of a key; whoever gave the key tells of what is wrong with it."""
    cls: Any = type(key)
    return (_ENCODERS.get(cls) or _encoder_of(cls))(key)


@lru_cache(maxsize=_CLASSES_MAX)
def _encoder_of(cls: type) -> Encoder:
    """Return the encoder of a class that is neither registered nor one of Python's own."""
    encoder = _base_encoder(cls)
    if encoder is not None:
        return encoder
    if not key_classes.has_hash(cls):
        raise _Refused(cls)
    name = key_classes.class_name(cls).encode()
    if key_classes.is_numpy_scalar(cls):
        return _encode_numpy
    if key_classes.counts_by_identity(cls):
        return partial(_encode_flag if issubclass(cls, Flag) else _encode_member, name)
    fields = key_classes.compared_fields(cls)
    if fields is not None:
        return partial(_encode_dataclass, name, fields)
    if key_classes.is_number(cls):
        return _encode_number
    raise _Refused(cls)


def _base_encoder(cls: type) -> Encoder | None:
    """Return the encoder of the class of Python's own that ``cls`` is or counts as."""
    base = _base_of(cls)
    if base is None or cls.__eq__ is not base.__eq__ or cls.__hash__ is not base.__hash__:
        return None
    encoder, value_of = _BASES[base], VALUE_OF.get(base)
    if cls is base or value_of is None:
        return encoder
    return lambda key: encoder(value_of(key))


def _base_of(cls: type) -> type | None:
    return next((base for base in cls.__mro__ if base in _BASES), None)


# -- encoders ----------------------------------------------------------------------------------


def _encode_tuple(key: tuple[Any, ...]) -> bytes:
    return join_parts(b"t", map(_encode, key))


def _encode_frozenset(key: frozenset[Any]) -> bytes:
    # A set again, for two NaNs.
    return join_parts(b"F", sorted(set(map(_encode, key))))


def _encode_member(name: bytes, key: Any) -> bytes:
    return join_parts(b"m", (name, key._name_.encode()))


def _encode_flag(name: bytes, key: Any) -> bytes:
    # Combinations have names that differ between versions of Python.
    return join_parts(b"m", (name, encode_int(key._value_)))


def _encode_dataclass(name: bytes, fields: tuple[str, ...], key: Any) -> bytes:
    return join_parts(b"x", (name, *[_encode(getattr(key, field)) for field in fields]))


def _encode_registered(name: bytes, encode: Callable[[Any], Hashable], key: Any) -> bytes:
    return join_parts(b"R", (name, _encode(encode(key))))


def _encode_numpy(key: Any) -> bytes:
    value = key.item()
    if type(value) is type(key):
        return key_numbers.encode_long_double(value)
    return _encode(value)


def _encode_number(key: Any) -> bytes:
    """Encode a number of a class of somebody else's, if it is equal to one of ours."""
    value = Fraction(int(key.numerator), int(key.denominator))
    if value != key or hash(value) != hash(key):
        raise _Refused(type(key))
    return key_numbers.encode_fraction(value)


def _decode_registered(encoded: bytes) -> Any:
    name, inner = split_parts(encoded)
    decoder = _registered_decoders.get(name.decode())
    if decoder is None:
        raise ValueError(
            f"a key of the class {name.decode()!r} cannot be rebuilt here: this process has not "
            "called alamo.register_key_encoder for it with decode="
        )
    return decoder(decode(inner))


# -- errors ------------------------------------------------------------------------------------


def _refusal(key: Any) -> TypeError:
    """Return the error for a key that is or holds an object of a class without an encoding."""
    path = ""
    while (found := next(filter(_is_refused, _parts_of(key)), None)) is not None:
        path += found[0]
        key = found[1]
    cls: Any = type(key)
    where = f" (it is at key{path})" if path else ""
    if not key_classes.has_hash(cls):
        return TypeError(
            f"unhashable type: {cls.__name__!r}{where}; a key holds only what has a hash"
        )
    base = _base_of(cls)
    why = f"; its __eq__ or __hash__ is not that of {base.__name__}" if base is not None else ""
    name = key_classes.class_name(cls).removeprefix("builtins.")
    return TypeError(
        f"an object of type {name} cannot be a key{where}{why}. Use a "
        "str, a number, a tuple or a frozen dataclass, or say how its keys compare, in every "
        f"process that uses them: alamo.register_key_encoder({cls.__name__}, encode)"
    )


def _is_refused(part: tuple[str, Any]) -> bool:
    try:
        _encode(part[1])
    except _Refused:
        return True
    return False


def _parts_of(key: Any) -> Iterator[tuple[str, Any]]:
    """Yield each part of a key with the way to it."""
    encoder = _ENCODERS.get(type(key))
    if isinstance(encoder, partial):
        yield ", as encoded", encoder.args[1](key)
    elif isinstance(key, tuple):
        yield from ((f"[{i}]", part) for i, part in enumerate(key))
    elif isinstance(key, frozenset):
        yield from ((", an element", part) for part in key)
    else:
        for name in key_classes.compared_fields(type(key)) or ():
            yield f".{name}", getattr(key, name)


# -- tables ------------------------------------------------------------------------------------

#: Encoders of Python's own classes, also for subclasses that keep __eq__ and __hash__.
_BASES: Final[dict[type, Encoder]] = {
    **SCALARS,
    tuple: _encode_tuple,
    frozenset: _encode_frozenset,
}

#: Encoders by exact class: those above and those registered.
_ENCODERS: Final[dict[type, Encoder]] = dict(_BASES)

_PLAIN: Final = frozenset((NoneType, EllipsisType, int, str, bytes))
_PLAIN_IF: Final[dict[type, Callable[[Any], bool]]] = {
    float: lambda key: not key.is_integer(),
    tuple: lambda key: all(map(is_plain, key)),
    frozenset: lambda key: all(map(is_plain, key)),
}

_DECODERS: Final[dict[int, Callable[[bytes], Any]]] = {
    ord("N"): lambda encoded: None,
    ord("E"): lambda encoded: ...,
    ord("s"): decode_str,
    ord("b"): lambda encoded: encoded[1:],
    ord("i"): lambda encoded: _unpack_int64(encoded, 1)[0],
    ord("t"): lambda encoded: tuple(map(decode, split_parts(encoded))),
    ord("F"): lambda encoded: frozenset(map(decode, split_parts(encoded))),
    ord("R"): _decode_registered,
    **dict.fromkeys(b"jkfcr", key_numbers.decode_number),
}

_registered: Final[set[type]] = set()
_registered_decoders: Final[dict[str, Callable[[Any], Any]]] = {}
