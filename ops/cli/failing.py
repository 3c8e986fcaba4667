"""How commands fail: one line on stderr and an exit code. Errors are known by name, so that nothing is imported for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import typer

from domain.errors import Problem

NO = 1
WRONG_USE = 2
UNAVAILABLE = 3
INTERRUPTED = 130
BROKEN_PIPE = 141

_CODES: Mapping[str, int] = {
    "AddressInUseError": UNAVAILABLE,
    "BackupError": WRONG_USE,
    "CarrierUnavailableError": UNAVAILABLE,
    "ControlLostError": UNAVAILABLE,
    "FastStoreUnavailableError": UNAVAILABLE,
    "FastStoreUnfitError": WRONG_USE,
    "FolderInUseError": UNAVAILABLE,
    "FolderUnusableError": UNAVAILABLE,
    "LogMismatchError": WRONG_USE,
    "LogUnavailableError": UNAVAILABLE,
    "MongoUnfitError": WRONG_USE,
    "MoveFailedError": NO,
    "MoveRefusedError": WRONG_USE,
    "NoServerError": UNAVAILABLE,
    "NotRestorableError": NO,
    "OutcomeUnknownError": UNAVAILABLE,
    "OwnershipError": WRONG_USE,
    "Poison": NO,
    "ProblemError": UNAVAILABLE,
    "SecretsUnavailableError": UNAVAILABLE,
    "SettingsError": WRONG_USE,
    "ShardsNotOpenedError": UNAVAILABLE,
    "TopicMismatchError": WRONG_USE,
    "UnknownEventError": NO,
    "UnknownStreamError": NO,
    "ViewUnavailableError": UNAVAILABLE,
}
_OF_THE_CLUSTER = frozenset({"aiokafka", "google", "grpc", "motor", "pymongo", "bson", "redis"})
"""Modules that only the extra `cluster` brings."""
_PROBLEM_CODES: Mapping[str, int] = {
    "not_found": NO,
    "conflict": NO,
    "gone": NO,
    "forbidden": NO,
    "validation_failed": WRONG_USE,
    "malformed": WRONG_USE,
}


class CommandError(Exception):
    """Ends a command with a line on stderr and an exit code."""

    def __init__(self, text: str, code: int = UNAVAILABLE) -> None:
        super().__init__(text)
        self.code = code


def tell(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def code_of(error: BaseException) -> int | None:
    """The exit code of an expected error, None for a defect."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, Problem):
        return _PROBLEM_CODES.get(error.code, UNAVAILABLE)
    if _lacks_extra(error):
        return WRONG_USE
    for kind in type(error).__mro__:
        if kind.__name__ in _CODES:
            return _CODES[kind.__name__]
    return UNAVAILABLE if isinstance(error, OSError) else None


def _lacks_extra(error: BaseException) -> bool:
    return isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in _OF_THE_CLUSTER


def text_of(error: BaseException) -> str:
    """What to say about it."""
    if isinstance(error, Problem):
        return error.detail or error.code
    if _lacks_extra(error):
        return "a cluster needs drivers that are not installed: install minutebook[cluster]"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def only_one(error: BaseException) -> BaseException:
    """The error itself, out of groups of one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@contextmanager
def guarded() -> Iterator[None]:
    """Expected errors become a line and an exit code; Ctrl-C and a closed pipe end quietly. Defects pass."""
    try:
        yield
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # What is still buffered has no reader; without this the interpreter would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(BROKEN_PIPE) from None
    except Exception as error:
        only = only_one(error)
        code = code_of(only)
        if code is None:
            raise
        tell(f"minutebook: {text_of(only)}")
        raise typer.Exit(code) from None
