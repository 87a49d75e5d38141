"""Numbers as keys: equal numbers of whatever type have the same bytes.

The form follows from the value, never from the type:

    i  an integer of 64 bits                    f  any other value that a float holds exactly
    j  an integer of up to 2**20 bits           r  the remaining rationals: m * 2**a * 5**b / d
    k  a longer one, as m * 2**a * 5**b         c  what has an imaginary part, as two numbers

The factors of ten stand apart so that ``Decimal("1E+999999999")`` is exact and small; d and m
have none of them.  All NaNs are one key, and -0.0 is 0.
"""

from __future__ import annotations

import struct
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from fractions import Fraction
from typing import Any, Final

from alamo.core.key_parts import join_parts, split_parts

__all__ = [
    "decode_number",
    "encode_complex",
    "encode_decimal",
    "encode_float",
    "encode_fraction",
    "encode_int",
    "encode_long_double",
]

_pack_int64: Final = struct.Struct(">cq").pack
_pack_float: Final = struct.Struct(">cd").pack
_NAN: Final = _pack_float(b"f", float("nan"))

#: Finding the factors of five may take time that grows with the square of the length.
_INT_BITS_MAX: Final = 1 << 20
#: The largest exponent of ten below that.
_INT_EXPONENT_MAX: Final = 315_652
#: No float has more digits behind the point.
_FLOAT_EXPONENT_MIN: Final = -1074
#: A context that rounds nothing.
_EXACT: Final = Context(prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX)
#: No int is written out beyond this: 128 MiB.
_DECODED_BITS_MAX: Final = 1 << 30


def encode_int(value: int) -> bytes:
    """Encode an ``int`` or ``bool``."""
    try:
        return _pack_int64(b"i", value)
    except struct.error:
        if value.bit_length() > _INT_BITS_MAX:
            return _factored(value, 1)
        return b"j" + _int_bytes(value)


def encode_float(value: float) -> bytes:
    """Encode a ``float``."""
    if value.is_integer():
        return encode_int(int(value))
    # NaNs differ in sign and payload, and in nothing that counts.
    return _pack_float(b"f", value) if value == value else _NAN


def encode_complex(value: complex) -> bytes:
    """Encode a ``complex``."""
    if value.imag == 0:
        return encode_float(value.real)
    return join_parts(b"c", (encode_float(value.real), encode_float(value.imag)))


def encode_fraction(value: Fraction) -> bytes:
    """Encode a ``Fraction``."""
    return _ratio(value.numerator, value.denominator)


def encode_decimal(value: Decimal) -> bytes:
    """Encode a ``Decimal``, exactly, whatever its exponent and the context.

    Raises:
        TypeError: a signaling NaN, which has no hash.
    """
    if not value.is_finite():
        if value.is_snan():
            hash(value)
        return _NAN if value.is_nan() else encode_float(float(value))
    sign, digits, exponent = _EXACT.normalize(value).as_tuple()
    assert isinstance(exponent, int)
    coefficient = int(Decimal((sign, digits, 0)))
    if exponent >= 0:
        if value.adjusted() <= _INT_EXPONENT_MAX:
            return encode_int(coefficient * 10**exponent)
    elif exponent >= _FLOAT_EXPONENT_MIN:
        return _ratio(*value.as_integer_ratio())
    return _factored(coefficient, 1, exponent)


def encode_long_double(value: Any) -> bytes:
    """Encode a ``numpy.longdouble`` or ``numpy.clongdouble``, which no Python type holds."""
    if value.imag != 0:
        return join_parts(b"c", (_long_double(value.real), _long_double(value.imag)))
    return _long_double(value.real)


def decode_number(encoded: bytes) -> Any:
    """Return the int, float or complex with this encoding.

    Raises:
        ValueError: there is none.
    """
    tag = encoded[:1]
    if tag in b"ij":
        return int.from_bytes(encoded[1:], signed=True)
    if tag == b"f":
        return struct.unpack_from(">d", encoded, 1)[0]
    if tag == b"c":
        real, imag = map(decode_number, split_parts(encoded))
        return complex(real, imag)
    m, a, b, *_ = (int.from_bytes(part, signed=True) for part in split_parts(encoded))
    if tag != b"k" or m.bit_length() + a + 3 * b > _DECODED_BITS_MAX:
        raise ValueError("neither an int nor a float has the value of this encoded key")
    return m * 5**b << a


def _ratio(n: int, d: int) -> bytes:
    """Encode n / d, in lowest terms with d > 0."""
    if d == 1:
        return encode_int(n)
    try:
        near = n / d
    except OverflowError:
        return _factored(n, d)
    if near.as_integer_ratio() == (n, d):
        return _pack_float(b"f", near)
    return _factored(n, d)


def _factored(n: int, d: int, exponent: int = 0) -> bytes:
    """Encode n / d * 10**exponent, which is no other form's."""
    n, a = _without_twos(n)
    n, b = _without_fives(n)
    d, below = _without_twos(d)
    a += exponent - below
    d, below = _without_fives(d)
    b += exponent - below
    if d == 1 and a >= 0 and b >= 0:
        return join_parts(b"k", map(_int_bytes, (n, a, b)))
    return join_parts(b"r", map(_int_bytes, (n, a, b, d)))


def _without_twos(n: int) -> tuple[int, int]:
    """Return (m, k) with n = m * 2**k and m odd; n is not 0."""
    k = (n & -n).bit_length() - 1
    return n >> k, k


def _without_fives(n: int) -> tuple[int, int]:
    """Return (m, k) with n = m * 5**k and m no multiple of 5; n is not 0."""
    divided = []
    power, exponent, k = 5, 1, 0
    while True:
        quotient, rest = divmod(n, power)
        if rest:
            break
        n = quotient
        k += exponent
        divided.append((power, exponent))
        power, exponent = power * power, 2 * exponent
    # Fewer than the last exponent are left.
    for power, exponent in reversed(divided):
        quotient, rest = divmod(n, power)
        if not rest:
            n = quotient
            k += exponent
    return n, k


def _int_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, signed=True)


def _long_double(value: Any) -> bytes:
    try:
        return _ratio(*value.as_integer_ratio())
    except (OverflowError, ValueError):  # infinite, NaN
        return encode_float(float(value))
