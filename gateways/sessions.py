"""Sessions at the gateway: is this token's session still open? Answered from memory, which the log itself
keeps true.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from commands.caller import Caller
from commands.port import CommandPort
from domain.streams import owner_of, user_stream
from domain.user import SessionEnd, UserSessionClosed, UserSessionOpened, UserState
from eventlog.bus import Bus
from eventlog.record import Committed
from gateways.routes import STALE, EverythingHere, Routes
from gateways.tokens import SCOPE_IMPORT, AccessTokens, unauthenticated

KNOWN_MAX = 100_000
"""Open sessions remembered; others are looked up again."""
CLOSED_MAX = 20_000
"""Ended sessions remembered, so that a look-up that was under way cannot bring one back."""
_DEVICE_KIND_UNKNOWN = "web"

SessionKey = tuple[str, str, str]
ClosedCallback = Callable[[str, str, str, SessionEnd], None]
"""Told of (tenant, user id, session id, reason) when a session has ended."""


class _Known(msgspec.Struct, gc=False):
    device_kind: str
    scope: str | None
    seen_at: int


class Sessions:
    """Checks access tokens.

    Follows the bus, so that an ended session is refused as soon as its end is durable. The accounts of the sessions that are remembered
    are wanted of `routes`; while those are stale, nobody is known.
    """

    def __init__(
        self,
        tokens: AccessTokens,
        desk: CommandPort,
        bus: Bus,
        now_ms: Callable[[], int],
        *,
        known_max: int = KNOWN_MAX,
        routes: Routes | None = None,
    ) -> None:
        self._routes = routes or EverythingHere()
        self._forgotten = 0
        self._tokens = tokens
        self._desk = desk
        self._now_ms = now_ms
        self._known_max = known_max
        self._known: OrderedDict[SessionKey, _Known] = OrderedDict()
        self._closed: OrderedDict[SessionKey, None] = OrderedDict()
        self._callbacks: list[ClosedCallback] = []
        self._unfollow = bus.follow(self._follow)

    def close(self) -> None:
        """Follow the bus no longer."""
        self._unfollow()

    def on_closed(self, callback: ClosedCallback) -> Callable[[], None]:
        """Have `callback` told of every session that ends, on the loop; it must not raise.

        Returns the call that ends that.
        """
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def forget(self) -> None:
        """Everything: ends of sessions may have been missed. What is being looked up now is not trusted either."""
        self._forgotten += 1
        known, self._known = self._known, OrderedDict()
        for tenant, user_id, _ in known:
            self._routes.unwant(user_stream(tenant, user_id))

    def refuse_stale(self) -> None:
        """Raises Problem(`unavailable`) while the record is out of sight."""
        if self._routes.stale:
            raise STALE

    def issue(self, tenant: str, user_id: str, session_id: str, scope: str | None) -> tuple[str, int]:
        """(access token, when it expires in ms) for an open session."""
        return self._tokens.issue(tenant, user_id, session_id, self._now_ms(), scope)

    async def check(self, token: str) -> Caller:
        """Who calls with this access token.

        Raises `unauthenticated`; `unavailable` if the session cannot be looked up.
        """
        caller = self.recall(token)
        if caller is not None:
            return caller
        now = self._now_ms()
        claims = self._tokens.read(token, now)
        known = await self._look_up((claims.tenant, claims.user_id, claims.session_id))
        known.seen_at = now
        return Caller(claims.tenant, claims.user_id, claims.session_id, known.scope == SCOPE_IMPORT)

    def recall(self, token: str) -> Caller | None:
        """As `check`, for a session that is in memory; None: `check` has to look it up. Raises what `check` does."""
        self.refuse_stale()
        now = self._now_ms()
        claims = self._tokens.read(token, now)
        key = (claims.tenant, claims.user_id, claims.session_id)
        known = self._known.get(key)
        if known is None:
            return None
        self._known.move_to_end(key)
        known.seen_at = now
        return Caller(claims.tenant, claims.user_id, claims.session_id, known.scope == SCOPE_IMPORT)

    async def _look_up(self, key: SessionKey) -> _Known:
        tenant, user_id, session_id = key
        stream = user_stream(tenant, user_id)
        forgotten = self._forgotten
        # First the account's events, then its state: an end between the two is heard.
        self._routes.want(stream)
        try:
            await self._routes.settled()
            state = await self._desk.peek(tenant, f"user:{user_id}")
            session = state.sessions.get(session_id) if isinstance(state, UserState) else None
            if session is None or key in self._closed:
                raise unauthenticated("the session has ended")
            if forgotten != self._forgotten:
                raise STALE
            return self._remember(key, session.device_kind, session.scope, session.opened_at)
        finally:
            self._routes.unwant(stream)

    def _remember(self, key: SessionKey, device_kind: str, scope: str | None, seen_at: int) -> _Known:
        if key not in self._known:
            self._routes.want(user_stream(key[0], key[1]))
        known = self._known[key] = _Known(device_kind, scope, seen_at)
        if len(self._known) > self._known_max:
            (tenant, user_id, _), _ = self._known.popitem(last=False)
            self._routes.unwant(user_stream(tenant, user_id))
        return known

    def device_kind_of(self, caller: Caller) -> str:
        """The kind of device of a caller who was checked."""
        known = self._known.get((caller.tenant, caller.user_id, caller.session_id or ""))
        return _DEVICE_KIND_UNKNOWN if known is None else known.device_kind

    def last_seen(self, tenant: str, user_id: str, session_id: str) -> int | None:
        """When the session last came with its token, in ms; None: not since the server started."""
        known = self._known.get((tenant, user_id, session_id))
        return None if known is None else known.seen_at

    def _follow(self, batch: Sequence[Committed]) -> None:
        for committed in batch:
            for row in committed.events:
                event = row.event
                if type(event) is UserSessionClosed:
                    self._end((*owner_of(row.stream), event.session_id), event.reason)
                elif type(event) is UserSessionOpened:
                    key = (*owner_of(row.stream), event.session_id)
                    self._remember(key, event.device_kind, event.scope, committed.commit.at)

    def _end(self, key: SessionKey, reason: SessionEnd) -> None:
        if self._known.pop(key, None) is not None:
            self._routes.unwant(user_stream(key[0], key[1]))
        self._closed[key] = None
        if len(self._closed) > CLOSED_MAX:
            self._closed.popitem(last=False)
        for callback in tuple(self._callbacks):
            callback(*key, reason)
