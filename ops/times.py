"""Times as people write them: RFC 3339 in, RFC 3339 with milliseconds out; inside they are milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS = re.compile(r"\d{11,14}")
_TIME_MS_MAX = 253_402_300_799_999
"""The end of the year 9999."""


def parse_time(text: str) -> int:
    """Milliseconds since 1970 UTC of an RFC 3339 time, a date (its midnight) or a number of milliseconds.

    A time without a zone is UTC. Raises ValueError.
    """
    if _DIGITS.fullmatch(text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; write it like 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def rfc3339(at_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds; a number outside the years 1970 to 9999 stays a number."""
    if not 0 <= at_ms <= _TIME_MS_MAX:
        return str(at_ms)
    moment = _EPOCH + timedelta(milliseconds=at_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
