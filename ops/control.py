"""The control socket: how commands ask the running server. A Unix socket in the data folder, for its owner.

One request a connection, one JSON object a line: the request, then any number of progress lines, then the
answer. A client that goes away cancels what it asked for.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import structlog

from domain.errors import Problem
from ops.operations import (
    AskBackup,
    AskCreateKey,
    AskKeys,
    AskParked,
    AskRebuild,
    AskRetry,
    AskRevokeKey,
    AskRollBack,
    AskStatus,
    Done,
    Line,
    Operations,
    Progress,
    Refused,
    Report,
    Request,
)

_log = structlog.get_logger(__name__)

LINE_BYTES_MAX = 64 * 1024
ANSWER_BYTES_MAX = 16 * 1024 * 1024
CONNECTIONS_MAX = 16
REQUEST_WAIT_S = 5.0
PROGRESS_PERIOD_S = 0.1
PROGRESS_WAITING_BYTES_MAX = 64 * 1024
PATH_BYTES_MAX = 100
"""Unix socket addresses hold no more; longer paths are reached through the folder's descriptor."""
SOCKET_MODE = 0o600

_encode = msgspec.json.Encoder().encode
_decode_request = msgspec.json.Decoder(Request).decode
_decode_line = msgspec.json.Decoder(Line).decode
T = TypeVar("T")


class NoServerError(Exception):
    """Nobody listens on the control socket."""


class ControlLostError(Exception):
    """The server went away before it answered, or answered something that is no answer."""


class ControlServer:
    """Listens while its context is open: `async with ControlServer(path, operations)`.

    The folder's lock must be held: a socket file that is left over is replaced.
    """

    def __init__(self, path: Path, operations: Operations) -> None:
        self._path = path
        self._operations = operations
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _address(self._path) as address:
                listener.bind(address)
            # Between bind and listen nobody can connect, so no moment is open to others.
            self._path.chmod(SOCKET_MODE)
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=LINE_BYTES_MAX)
        except BaseException:
            listener.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for handler in tuple(self._handlers):
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            if len(self._handlers) > CONNECTIONS_MAX:
                await _send(writer, Refused("overloaded", "too many commands are running"))
            else:
                await self._converse(reader, writer)
        except (ConnectionError, TimeoutError) as error:
            _log.info("a control connection ended early", error=type(error).__name__)
        finally:
            self._handlers.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_WAIT_S):
                request = _decode_request(await reader.readuntil())
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, msgspec.DecodeError):
            await _send(writer, Refused("malformed", "this is no request"))
            return
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(self._answer(request, writer))
            watch = tasks.create_task(_until_gone(reader, work))
            work.add_done_callback(lambda _: watch.cancel())

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        answer: Done | Refused
        try:
            result = await perform(self._operations, request, _reporter(writer))
            answer = Done(msgspec.Raw(_encode(result)))
        except Problem as problem:
            answer = Refused(problem.code, problem.detail)
        except Exception as error:  # noqa: BLE001 - the operator gets a sentence, the log the trace
            _log.error("an operation failed", operation=type(request).__name__, exc_info=error)
            answer = Refused("unavailable", f"it failed: {type(error).__name__}: {error}")
        await _send(writer, answer)


async def perform(operations: Operations, request: Request, report: Report) -> object:
    """Do what was asked; the answer's type is the operation's. Raises what the operation raises."""
    match request:
        case AskStatus():
            return await operations.status()
        case AskRebuild(name, share, only_if_same):
            return await operations.rebuild(name, report, share, only_if_same=only_if_same)
        case AskRollBack(name, share):
            return await operations.roll_back(name, report, share)
        case AskBackup(target):
            return await operations.backup(Path(target), report)
        case AskParked():
            return await operations.parked()
        case AskRetry(projection, stream, skip_because):
            return await operations.retry(projection, stream, skip_because)
        case AskCreateKey(tenant, expires_at):
            return await operations.create_key(tenant, expires_at)
        case AskKeys(tenant):
            return await operations.keys(tenant)
        case AskRevokeKey(tenant, key_id):
            return await operations.revoke_key(tenant, key_id)


async def ask(path: Path, request: Request, answer: type[T], report: Report | None = None) -> T:
    """Ask the server whose control socket is at `path` and wait. Cancelled, the server stops doing it.

    Raises NoServerError, ControlLostError, Problem.
    """
    async with _connected(path) as (reader, writer):
        writer.write(_encode(request) + b"\n")
        async for line in _lines(reader):
            if isinstance(line, Progress):
                if report is not None:
                    report(line)
            elif isinstance(line, Refused):
                raise Problem(line.code, line.message)
            else:
                return msgspec.json.decode(line.result, type=answer)
    raise ControlLostError("the server went away before it answered")


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[Line]:
    while True:
        try:
            yield _decode_line(await reader.readuntil())
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        except (asyncio.LimitOverrunError, msgspec.DecodeError) as error:
            raise ControlLostError(f"the server's answer cannot be read: {error}") from error


@asynccontextmanager
async def _connected(path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    try:
        with _address(path) as address:
            reader, writer = await asyncio.open_unix_connection(address, limit=ANSWER_BYTES_MAX)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise NoServerError(f"no server runs on {path.parent}") from None
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """The address for the kernel; a path that is too long is named through its folder's descriptor."""
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def _reporter(writer: asyncio.StreamWriter) -> Report:
    """Progress lines: at most ten a second, none while earlier ones still wait."""
    last = 0.0

    def report(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        is_end = progress.done >= progress.total > 0
        waiting = writer.transport.get_write_buffer_size()
        if (now - last >= PROGRESS_PERIOD_S or is_end) and waiting < PROGRESS_WAITING_BYTES_MAX:
            last = now
            writer.write(_encode(progress) + b"\n")

    return report


async def _send(writer: asyncio.StreamWriter, line: Line) -> None:
    writer.write(_encode(line) + b"\n")
    await writer.drain()


async def _until_gone(reader: asyncio.StreamReader, work: asyncio.Task[None]) -> None:
    """Whatever else the client sends, or its end, ends the work: one request a connection."""
    await reader.read(1)
    work.cancel()
