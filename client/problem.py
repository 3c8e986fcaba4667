"""The errors a caller of the client meets: refusals, lost connections, ended sessions."""

from __future__ import annotations

import msgspec

RETRYABLE_CODES = frozenset({"overloaded", "unavailable", "outcome_unknown", "rate_limited"})


class FieldProblem(msgspec.Struct, frozen=True):
    """One wrong field of a `validation_failed` refusal."""

    field: str = ""
    message: str = ""


class ProblemBody(msgspec.Struct, frozen=True):
    """`application/problem+json`, and the `problem` of a socket's `error` frame."""

    code: str = "unavailable"
    status: int = 0
    detail: str = ""
    title: str = ""
    request_id: str = ""
    errors: tuple[FieldProblem, ...] = ()
    retry_after_ms: int | None = None


class ProblemError(Exception):
    """A refusal by the server; `code` is one of the contract's codes, `retry_after_ms` its hint."""

    def __init__(
        self,
        code: str,
        status: int = 0,
        detail: str = "",
        *,
        retry_after_ms: int | None = None,
        errors: tuple[FieldProblem, ...] = (),
        request_id: str = "",
    ) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.status = status
        self.detail = detail
        self.retry_after_ms = retry_after_ms
        self.errors = errors
        self.request_id = request_id

    @classmethod
    def of(cls, body: ProblemBody, status: int = 0) -> ProblemError:
        """The error of a problem body; `status` (of the HTTP answer) wins over the body's."""
        return cls(
            body.code,
            status or body.status,
            body.detail or body.title,
            retry_after_ms=body.retry_after_ms,
            errors=body.errors,
            request_id=body.request_id,
        )

    @property
    def retryable(self) -> bool:
        """True if the same call with the same key may be repeated."""
        return self.code in RETRYABLE_CODES


class ConnectionLostError(ConnectionError):
    """The connection ended; `close_code` is the WebSocket's (1006 without a close frame, 0 for HTTP)."""

    def __init__(self, reason: str, close_code: int = 0) -> None:
        super().__init__(
            f"connection lost ({close_code}): {reason}" if close_code else f"connection lost: {reason}"
        )
        self.reason = reason
        self.close_code = close_code


class SessionEndedError(Exception):
    """The session is over (ended, replaced, or refused) and reconnecting cannot bring it back."""

    def __init__(self, reason: str, close_code: int = 0) -> None:
        super().__init__(f"session ended ({close_code}): {reason}")
        self.reason = reason
        self.close_code = close_code


def plain_error(errors: ExceptionGroup[Exception], expected: tuple[type[Exception], ...]) -> Exception:
    """The first plain exception inside a group of expected ones; the group itself if something else is there.

    In place of `except*`: what is raised there stays in a group of its own before Python 3.11.4.
    """
    error: Exception | ExceptionGroup[Exception] = errors
    if errors.split(expected)[1] is not None:
        return errors
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
