"""Refusals: the named errors of the wire contract, raised by everything that decides."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

STATUS_BY_CODE: Mapping[str, int] = {
    "malformed": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "idempotency_conflict": 409,
    "gone": 410,
    "too_large": 413,
    "unsupported_media_type": 415,
    "validation_failed": 422,
    "rate_limited": 429,
    "headers_too_large": 431,
    "overloaded": 503,
    "unavailable": 503,
    "outcome_unknown": 504,
}


class FieldError(msgspec.Struct, frozen=True):
    """One wrong field of a `validation_failed` problem."""

    field: str
    message: str


class Problem(Exception):
    """A refusal with one of the contract's codes; `detail` is shown to the caller and holds no secret."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        errors: tuple[FieldError, ...] = (),
        retry_after_ms: int | None = None,
    ) -> None:
        if code not in STATUS_BY_CODE:
            raise ValueError(f"unknown problem code {code!r}")
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retry_after_ms = retry_after_ms

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return STATUS_BY_CODE[self.code]


def invalid(field: str, message: str) -> Problem:
    """A `validation_failed` problem that names one field."""
    return Problem("validation_failed", f"{field}: {message}", errors=(FieldError(field, message),))
