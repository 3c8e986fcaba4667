"""Strict JSON: what the contract calls `malformed` is refused here, before anything looks at the value.

`strict_json` reads any body; `strict_decode` reads a small frame straight into a msgspec type and pays for
the full check only when cheap conditions cannot rule out what msgspec does not see (repeated keys, depth,
integers beyond 64 bits).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, TypeVar

import msgspec

from domain.errors import Problem

DEPTH_MAX = 32
"""Each object or array is a level."""
INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**63 - 1
_INTEGER_DIGITS_MAX = 20
_RUN_OF_DIGITS = b"0" * 19
"""The shortest run of digits that may pass 64 bits."""
_DIGITS_ONLY = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(r"[\[{\]}]")

T = TypeVar("T")


class _NotAnInteger(ValueError):
    """A number with a fraction or an exponent was met."""


def _refuse_float(_digits: str) -> float:
    raise _NotAnInteger


_decode_any = msgspec.json.Decoder(float_hook=_refuse_float).decode
_encode_any = msgspec.json.Encoder().encode


def _malformed(detail: str) -> Problem:
    return Problem("malformed", detail)


def _refuse_constant(name: str) -> float:
    raise _malformed(f"{name} is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > _INTEGER_DIGITS_MAX:
        raise _malformed("an integer is beyond 64 bits")
    value = int(digits)
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        raise _malformed("an integer is beyond 64 bits")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _malformed("a number is too large")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _malformed("an object has a key twice")
    return fields


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_refuse_constant
)


def _check_depth(text: str, max_depth: int) -> None:
    if text.count("[") + text.count("{") <= max_depth:
        return
    depth = 0
    for bracket in _BRACKETS.finditer(_STRING.sub("", text)):
        if bracket[0] in "[{":
            depth += 1
            if depth > max_depth:
                raise _malformed(f"deeper than {max_depth} levels")
        else:
            depth -= 1


def _check_surrogates(value: Any) -> None:
    """Refuse lone surrogates, which only escapes can bring in: raw ones are no UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _malformed("a lone surrogate") from None


def strict_json(body: bytes, max_depth: int = DEPTH_MAX) -> Any:
    """The value of a JSON text.

    Raises `malformed` for an empty body, what is not UTF-8 JSON (a byte order mark included), NaN and
    infinities (also by overflow), lone surrogates, an object with a key twice, more than `max_depth` levels
    and integers beyond signed 64 bits.
    """
    if not body:
        raise _malformed("a body is needed")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed("not UTF-8") from None
    _check_depth(text, max_depth)
    try:
        value, end = _decoder.raw_decode(text.lstrip(" \t\n\r"))
    except (ValueError, RecursionError):
        raise _malformed("not JSON") from None
    if text.lstrip(" \t\n\r")[end:].strip(" \t\n\r"):
        raise _malformed("something follows the JSON value")
    if "\\u" in text:
        _check_surrogates(value)
    return value


def _is_plainly_strict(payload: bytes) -> bool:
    """Whether cheap checks prove a frame strict; False proves nothing.

    Without numbers that are not integers, what is written back compactly can only be shorter than what came in
    (by whitespace, longer escapes, or the first of two repeated keys): the same length means none of them. At
    most as many brackets as levels bound the depth; without nineteen digits in a row no integer passes 64 bits.
    """
    digits = payload.translate(_DIGITS_ONLY, b"{[")
    if len(payload) - len(digits) > DEPTH_MAX or _RUN_OF_DIGITS in digits:
        return False
    try:
        return len(_encode_any(_decode_any(payload))) == len(payload)
    except (ValueError, RecursionError):
        return False


def strict_decode(decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
    """A frame as the decoder's type.

    Raises `malformed` like `strict_json`, `validation_failed` for what does not fit the type.
    """
    if not _is_plainly_strict(payload):
        strict_json(payload)
    try:
        return decoder.decode(payload)
    except msgspec.ValidationError as error:
        raise Problem("validation_failed", _without_values(str(error))) from None
    except (ValueError, RecursionError):
        raise _malformed("not JSON") from None


def _without_values(message: str) -> str:
    """The text of a validation error; msgspec names types and paths, and unknown values are cut short."""
    return message if len(message) <= 200 else message[:200]


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def canonical_json(value: Any) -> bytes:
    """One byte string for all texts of the same JSON value: sorted keys, no whitespace, integral floats as
    integers.
    """
    return json.dumps(_canonical(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
