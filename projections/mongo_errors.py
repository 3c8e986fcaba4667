"""PyMongo's errors as the views' port tells them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from projections.store import BatchTooLargeError, ViewUnavailableError

_DUPLICATE_KEY = 11000
_TOO_LARGE = {257, 388, 10334}
"""TransactionTooLarge, TransactionTooLargeForCache, BSONObjectTooLarge."""


class MongoUnfitError(Exception):
    """The server, or its address, cannot keep views; the message says what to do."""


class DuplicateError(Exception):
    """A document with that key, or with that value of a unique index, is there already. The transaction is void."""


class ConflictError(Exception):
    """Something else stands in the way of the transaction, which is void; the same again may succeed."""


class OutcomeUnknownError(ViewUnavailableError):
    """The transaction may or may not be committed."""


@contextmanager
def told() -> Iterator[None]:
    """The driver's errors as the port's. Without the former behind them: a trace in a log would quote the documents that were written."""
    try:
        yield
    except PyMongoError as error:
        if _DUPLICATE_KEY in _codes_of(error):
            raise DuplicateError from None
        if _codes_of(error) & _TOO_LARGE:
            raise BatchTooLargeError(_words_of(error)) from None
        if error.has_error_label("UnknownTransactionCommitResult"):
            raise OutcomeUnknownError(_words_of(error)) from None
        if _is_transient(error):
            raise ConflictError(_words_of(error)) from None
        raise ViewUnavailableError(_words_of(error)) from None


def _codes_of(error: PyMongoError) -> set[object]:
    """The code of the error, and those of each part of a write."""
    details: Any = getattr(error, "details", None) or {}
    return {getattr(error, "code", None), *(part.get("code") for part in details.get("writeErrors", ()))}


def _is_transient(error: PyMongoError) -> bool:
    """Whether the server is there and said that the same again may succeed."""
    return isinstance(error, OperationFailure) and error.has_error_label("TransientTransactionError")


def _words_of(error: PyMongoError) -> str:
    """The kind of the error and its code. Not its words: they may quote a document."""
    code = getattr(error, "code", None)
    name = type(error).__name__
    return f"MongoDB: {name}" if code is None else f"MongoDB: {name} {code}"
