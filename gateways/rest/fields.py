"""The field types of requests: strict, so that `"1"` is no number and `true` no 1, and so that OpenAPI says
what is checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Header, Path, Query
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from domain import text
from domain.errors import Problem
from domain.user import BIO_LENGTH_MAX
from gateways.json import INTEGER_MAX, INTEGER_MIN
from gateways.rest.texts import OPAQUE_ID_PATTERN, USER_ID_PATTERN
from gateways.times import TIME_PATTERN, milliseconds_of

PAGE_DEFAULT = 50
PAGE_MAX = 200
CURSOR_CHARACTERS_MAX = 1_024
QUERY_CHARACTERS_MAX = 256
USERS_PER_CALL_MAX = 200
_DIGITS = re.compile(r"-?[0-9]{1,19}", re.ASCII)


class Body(BaseModel):
    """A request body: unknown fields refused, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _checked(check: Callable[[str, str], str]) -> AfterValidator:
    """A check of `domain.text` as a validator; pydantic names the field, so only the reason is kept."""

    def validate(value: str) -> str:
        try:
            return check("", value)
        except Problem as problem:
            raise ValueError(problem.errors[0].message if problem.errors else problem.detail) from None

    return AfterValidator(validate)


def _digits(value: Any) -> Any:
    if isinstance(value, str):
        if _DIGITS.fullmatch(value) is None:
            raise ValueError("must be an integer")
        return int(value)
    return value


def _boolean(value: Any) -> Any:
    if isinstance(value, str):
        if value not in {"true", "false"}:
            raise ValueError("must be true or false")
        return value == "true"
    return value


def _time(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("must be an RFC 3339 time")  # noqa: TRY004 - pydantic turns ValueError into a field error
    return milliseconds_of(value)


def _time_text(value: str) -> str:
    milliseconds_of(value)
    return value


def _time_or_none(value: Any) -> int | None:
    return None if value is None else _time(value)


UserId = Annotated[str, StringConstraints(pattern=USER_ID_PATTERN), _checked(text.user_id)]
OpaqueId = Annotated[str, StringConstraints(pattern=OPAQUE_ID_PATTERN)]
Name = Annotated[str, Field(min_length=1, max_length=1_024), _checked(text.name)]
"""1-128 characters after trimming; the longer bound here is for what is trimmed."""
Clean = _checked(text.clean)
Description = Annotated[str, Field(max_length=text.DESCRIPTION_LENGTH_MAX), Clean]
Announcement = Annotated[str, Field(max_length=text.ANNOUNCEMENT_LENGTH_MAX), Clean]
Bio = Annotated[str, Field(max_length=BIO_LENGTH_MAX), Clean]
Address = Annotated[str, Field(max_length=text.ADDRESS_LENGTH_MAX), Clean]
ClientKey = Annotated[str, Field(min_length=1, max_length=128), _checked(text.client_key)]
Password = Annotated[str, Field(min_length=8, max_length=256), Clean]
GivenPassword = Annotated[str, Field(min_length=1, max_length=256)]
"""A password to compare; the rules for new ones are not repeated, they would tell about old ones."""
Integer = Annotated[int, Field(ge=INTEGER_MIN, le=INTEGER_MAX)]
Seq = Annotated[int, Field(ge=0, le=INTEGER_MAX)]
Time = Annotated[
    int,
    BeforeValidator(_time),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": TIME_PATTERN}),
]
"""RFC 3339 in, milliseconds since 1970 UTC out."""
TimeText = Annotated[
    str,
    AfterValidator(_time_text),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": TIME_PATTERN}),
]
"""RFC 3339 in, and the same text out."""
Content = Annotated[
    dict[str, Any],
    WithJsonSchema({"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]}),
]
UserIds = Annotated[list[UserId], Field(min_length=1, max_length=USERS_PER_CALL_MAX)]

UserPath = Annotated[str, Path(pattern=USER_ID_PATTERN), _checked(text.user_id)]
IdPath = Annotated[str, Path(pattern=OPAQUE_ID_PATTERN)]
SeqPath = Annotated[
    int,
    BeforeValidator(_digits),
    Path(ge=1, le=INTEGER_MAX),
]
EmojiPath = Annotated[str, Path(min_length=1, max_length=32), _checked(text.emoji)]
Limit = Annotated[int, BeforeValidator(_digits), Query(ge=1, le=PAGE_MAX)]
Cursor = Annotated[str | None, Query(min_length=1, max_length=CURSOR_CHARACTERS_MAX)]
SeqQuery = Annotated[int | None, BeforeValidator(_digits), Query(ge=0, le=INTEGER_MAX)]
TimeQuery = Annotated[
    int | None,
    BeforeValidator(_time_or_none),
    Query(description="RFC 3339"),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": TIME_PATTERN}),
]
Flag = Annotated[bool, BeforeValidator(_boolean)]
SearchText = Annotated[str, Query(min_length=1, max_length=QUERY_CHARACTERS_MAX), Clean]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=128,
        description="Makes a repeated call give the first answer.",
    ),
]
MinPosition = Annotated[
    str | None,
    Query(
        max_length=4_096,
        description="`shard:position,…`: answer from a view that has seen these, within 2 s.",
    ),
]
