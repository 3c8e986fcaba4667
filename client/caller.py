"""One REST call: signing, keys, retries with the same key, problems as errors."""

from __future__ import annotations

import hashlib
import hmac
import random
import ssl
import uuid
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from typing_extensions import override

from client.clock import Clock, SystemClock, backoff_s
from client.http import CONNECTIONS_MAX, HttpAnswer, HttpPool
from client.problem import ConnectionLostError, ProblemBody, ProblemError
from client.records import Envelope, Page, Record

T = TypeVar("T")
DEADLINE_S = 30.0
ATTEMPTS_MAX = 1_000
PARTS_KEPT = 1_024
_ENCODER = msgspec.json.Encoder()
_DECODERS: dict[tuple[type, Any], Any] = {}  # as many as there are record types


class AppKey(NamedTuple):
    """A tenant's key for signed calls."""

    key: str
    secret: str

    @override
    def __repr__(self) -> str:
        return f"AppKey(key={self.key!r})"  # the secret stays out of logs and tracebacks


def signature(secret: str, method: str, target: str, timestamp: str, nonce: str, body: bytes) -> str:
    """The hex HMAC-SHA256 of a signed tenant call; `target` is the path with its query."""
    text = "\n".join((method, target, timestamp, nonce, hashlib.sha256(body).hexdigest()))
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


@lru_cache(maxsize=PARTS_KEPT)
def part(value: str | int) -> str:
    """A value as one segment of a path."""
    return quote(str(value), safe="")


def fields(**values: Any) -> Record:
    """The values that are not None: optional fields are left out, never sent as null."""
    return {name: value for name, value in values.items() if value is not None}


class RestCaller:
    """Calls one server over a pool of connections; `token` is sent with every unsigned call.

    A call is repeated, always with the same key, after `overloaded`, `unavailable`, `outcome_unknown`,
    `rate_limited` or a lost connection, not earlier than the server's hint and not beyond the deadline; then
    the last error is raised. Cancelling a call leaves it unknown whether the server did it: repeat it with
    its key.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        app_key: AppKey | None = None,
        clock: Clock | None = None,
        jitter: random.Random | None = None,
        connections_max: int = CONNECTIONS_MAX,
        deadline_s: float = DEADLINE_S,
        pool: HttpPool | None = None,
    ) -> None:
        parts = urlsplit(url)
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.url = url.rstrip("/")
        self.token = token
        self.app_key = app_key
        self.deadline_s = deadline_s
        self.clock: Clock = clock or SystemClock()
        self.jitter = jitter or random.Random()  # noqa: S311 - a delay is no secret
        self.repeats = 0
        self._prefix = parts.path.rstrip("/")
        self._own_pool = pool is None
        port = parts.port or (443 if tls else 80)
        self.pool = pool or HttpPool(
            parts.hostname or "127.0.0.1", port, tls=tls, connections_max=connections_max
        )

    @property
    def socket_url(self) -> str:
        """The address of the same server's socket."""
        return "ws" + self.url.removeprefix("http") + "/v1/ws"

    async def close(self) -> None:
        """Closes idle connections unless the pool was lent."""
        if self._own_pool:
            self.pool.close()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        key: str | None = None,
        signed: bool = False,
        token: str | None = None,
        deadline_s: float | None = None,
        content_type: str = "application/json",
        keyed: bool = True,
        pipelined: bool = False,
    ) -> bytes:
        """One call with its repetitions; the body of the success. ProblemError or ConnectionError otherwise.

        A body of bytes is sent as it is; a changing call without `key` gets a random one. TimeoutError if the
        deadline ends inside an attempt. `pipelined` as of `HttpPool`.
        """
        target = self._target(path, query)
        payload = body if isinstance(body, bytes) else _ENCODER.encode(body) if body is not None else b""
        headers: list[tuple[str, str]] = []
        if payload:
            headers.append(("content-type", content_type))
        if keyed and method != "GET":
            headers.append(("idempotency-key", key or uuid.uuid4().hex))
        deadline = self.clock.now() + (self.deadline_s if deadline_s is None else deadline_s)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            rights = self._rights(method, target, payload, signed=signed, token=token)
            hint_ms: int | None = None
            failure: ProblemError | OSError
            try:
                answer = await self.pool.request(
                    method,
                    target,
                    headers + rights,
                    payload,
                    deadline_s=max(0.001, deadline - self.clock.now()),
                    pipelined=pipelined,
                )
            except TimeoutError:
                raise
            except OSError as error:
                failure = error
            else:
                if answer.status < 400:
                    return answer.body
                failure = _problem(answer)
                if not failure.retryable:
                    raise failure
                hint_ms = failure.retry_after_ms
            pause_s = backoff_s(attempt, self.jitter, hint_ms)
            if self.clock.now() + pause_s >= deadline:
                raise failure
            self.repeats += 1
            await self.clock.sleep(pause_s)
        raise ConnectionLostError("too many attempts")

    async def one(self, kind: type[T], method: str, path: str, body: Any = None, **options: Any) -> T:
        """`data` of a success as `kind`; options as of `call`."""
        decoder: msgspec.json.Decoder[Envelope[T]] = _decoder(Envelope, kind)
        return decoder.decode(await self.call(method, path, body, **options)).data

    async def page(self, kind: type[T], path: str, **query: Any) -> Page[T]:
        """One page of a list; query values that are None are left out."""
        decoder: msgspec.json.Decoder[Page[T]] = _decoder(Page, kind)
        return decoder.decode(await self.call("GET", path, query=query))

    def _target(self, path: str, query: Mapping[str, Any] | None) -> str:
        pairs = [(name, _query_value(value)) for name, value in (query or {}).items() if value is not None]
        return self._prefix + path + ("?" + urlencode(pairs) if pairs else "")

    def _rights(
        self, method: str, target: str, payload: bytes, *, signed: bool, token: str | None
    ) -> list[tuple[str, str]]:
        if not signed:
            bearer = token or self.token
            return [("authorization", f"Bearer {bearer}")] if bearer else []
        if self.app_key is None:
            raise ValueError("a signed call needs an app key")
        timestamp, nonce = (
            str(int(self.clock.now())),
            uuid.uuid4().hex,
        )  # a nonce serves once: new on each attempt
        mark = signature(self.app_key.secret, method, target, timestamp, nonce, payload)
        return [
            ("x-app-key", self.app_key.key),
            ("x-timestamp", timestamp),
            ("x-nonce", nonce),
            ("x-signature", mark),
        ]


def _query_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _problem(answer: HttpAnswer) -> ProblemError:
    try:
        body = msgspec.json.decode(answer.body, type=ProblemBody)
    except msgspec.DecodeError:  # a proxy's page: only its status speaks
        code = {429: "rate_limited", 503: "unavailable", 502: "unavailable", 504: "outcome_unknown"}
        body = ProblemBody(
            code=code.get(answer.status, "malformed"), detail="answer is not a problem document"
        )
    error = ProblemError.of(body, answer.status)
    retry_after_s = answer.header("retry-after")
    if error.retry_after_ms is None and retry_after_s.isdecimal():
        error.retry_after_ms = int(retry_after_s) * 1000
    return error


def _decoder(shape: type, kind: Any) -> Any:
    decoder = _DECODERS.get((shape, kind))
    if decoder is None:
        decoder = _DECODERS[shape, kind] = msgspec.json.Decoder(shape[kind])  # type: ignore[index]
    return decoder
