"""What an error of MongoDB means for a write: certainly nothing happened, or nobody knows.

No text of the server enters a message: it may quote documents. Codes and the driver's own words do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from eventlog.mongo_driver import DriverClosedError
from eventlog.port import LogUnavailableError, OutcomeUnknownError

DUPLICATE_KEY = 11_000
AUTHENTICATION_FAILED = 18
UNAUTHORIZED = 13
_REFUSED_CODES = frozenset({UNAUTHORIZED, AUTHENTICATION_FAILED})
"""A server that answers these has looked at nothing else."""
_NEVER_SENT = (ServerSelectionTimeoutError, WaitQueueTimeoutError, ConfigurationError)

MongoFailure = (PyMongoError, DriverClosedError)
"""Everything that a call of the driver raises."""


def is_certainly_nothing(error: Exception) -> bool:
    """Whether a write that ended with this error cannot have happened.

    Everything else may have: a lost connection or a time-out says nothing about the server, and a server that ceases to be primary
    in the middle of a command (NotWritablePrimary, PrimarySteppedDown, InterruptedDueToReplStateChange) has perhaps written a part.
    """
    if isinstance(error, (*_NEVER_SENT, DriverClosedError)):
        return True
    return isinstance(error, OperationFailure) and error.code in _REFUSED_CODES


def write_failure(error: Exception, *, begun: bool) -> LogUnavailableError | OutcomeUnknownError:
    """What a failed write is to the caller of the log. `begun`: an earlier command of the same call may have written."""
    if begun or not is_certainly_nothing(error):
        return OutcomeUnknownError(named(error))
    return LogUnavailableError(named(error))


def reply_failure(reply: Mapping[str, Any]) -> str | None:
    """Why the reply of a write proves nothing, whatever else it says; None if it can be believed.

    A `writeConcernError` stands beside any other content: what was written, and what a duplicate key was met by, may be rolled back.
    """
    concern = reply.get("writeConcernError")
    if concern:
        return f"the write concern was not met (code {concern.get('code')})"
    errors = reply.get("writeErrors") or ()
    codes = [error.get("code") for error in errors]
    if any(code != DUPLICATE_KEY for code in codes):
        return f"the server refused a document (code {', '.join(map(str, codes))})"
    return None


def named(error: Exception) -> str:
    """The error's name with its code, or the driver's words about a connection (hosts and times, never credentials)."""
    if isinstance(error, DriverClosedError):
        return "the connection to MongoDB is closed"
    if isinstance(error, OperationFailure):
        code_name = (error.details or {}).get("codeName", "")
        return f"MongoDB: {type(error).__name__} {error.code} {code_name}".rstrip()
    if isinstance(error, ServerSelectionTimeoutError):
        return f"no MongoDB primary can be reached: {_brief(error)}"
    if isinstance(error, ConnectionFailure):
        return f"MongoDB: {type(error).__name__}: {_brief(error)}"
    return f"MongoDB: {type(error).__name__}"


def _brief(error: Exception) -> str:
    """The first part of a message; the rest describes the topology at length. A server's reply in it is cut off."""
    return (
        str(error).split(", full error", 1)[0].split(", Timeout:", 1)[0].split(" (configured timeouts", 1)[0]
    )
