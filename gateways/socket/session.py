"""One socket's session: from hello to the last frame. Translates ops into commands and answers into frames; decides nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from commands.caller import Answer, Caller, Keyed
from domain.errors import Problem
from domain.streams import split
from domain.talk import MessagePosted
from domain.text import client_key
from gateways.limits import Bucket
from gateways.routes import STALE
from gateways.sending import conversation_name, sending
from gateways.socket import ops
from gateways.socket.changes import Change, changing
from gateways.socket.recalls import Recalls, without_content
from gateways.socket.strikes import Strikes
from gateways.socket.websocket import encode_text_frame
from projections.wire import wire_time

if TYPE_CHECKING:
    from gateways.socket.desk import SocketDesk
    from gateways.socket.websocket import WebSocket

_encode = msgspec.json.Encoder().encode

PENDING_FRAMES_MAX = 1_000
"""Live events kept back while the missed ones are read; more means the reader is too slow, as on an open socket."""
PENDING_BYTES_MAX = 1024 * 1024
RELEASED_FRAMES_MAX = 200
"""Kept-back events that leave in one turn; many more at once would cut a healthy reader."""
LAG_BYTES_MAX = 64 * 1024
"""A reader with more unsent bytes than this gets its next page later."""
SPREAD_FRAMES_MAX = 10_000
"""Frames of a burst that wait for their turn: no fault of the reader, so only their bytes are bound as tightly as usual."""
BAD_FRAMES_MAX = 10
SYNCS_WAITING_MAX = 50


class Phase(Enum):
    """Where a session stands; it moves down this list, and a burst of events takes a live one back to catching up for some turns."""

    NEW = auto()
    CATCHING_UP = auto()
    LIVE = auto()
    ENDED = auto()


class SocketSession:
    """The SocketHandler of the JSON protocol. All calls come from the loop, none of them waits."""

    __slots__ = (
        "_bucket", "_desk", "_faults", "_floods", "_floor", "_floor_s",
        "_pending", "_pending_bytes", "_pending_max", "_phase", "_removed", "_socket",
        "caller", "live_device", "presence_users", "recalls", "streams", "syncs",
    )  # fmt: skip

    def __init__(self, desk: SocketDesk) -> None:
        self._desk = desk
        self._socket: WebSocket | None = None
        self._phase = Phase.NEW
        self._pending: deque[tuple[str, int, bytes]] | None = None
        self._pending_bytes = 0
        self._pending_max = PENDING_FRAMES_MAX
        self._removed: set[str] | None = None
        self._bucket: Bucket | None = None
        self._faults: Strikes | None = None
        self._floods: Strikes | None = None
        self._floor: Mapping[str, int] | None = None
        self._floor_s = 0.0
        self.caller: Caller | None = None
        self.streams: set[str] = set()
        self.presence_users: frozenset[str] = frozenset()
        self.live_device: str | None = None
        self.recalls: Recalls | None = None
        """The recalls that pass while an answer of this session is under way; the hello or the sync that it answers holds them."""
        self.syncs: deque[ops.Sync] | None = None
        """The syncs that wait for their turn; the first is being answered."""

    # --- what the raw socket calls -----------------------------------------------------------------------------------------------

    def opened(self, socket: WebSocket) -> None:
        """The handshake is done: hello is due within 5 s."""
        self._socket = socket
        self._desk.await_hello(self)

    def text(self, payload: bytes) -> None:
        """One frame of the client."""
        now_s = self._desk.monotonic_s()
        if self._flooding(now_s, payload):
            return
        try:
            op = ops.read_op(payload)
            bad = ops.bad_reference(op.ref)
            if bad is not None:
                raise bad
        except Problem as problem:
            self._fault(now_s, ops.reference_of(payload), problem)
            return
        if self._desk.routes.stale and not isinstance(op, ops.Ping):
            self.fail(op.ref, STALE)
            if self._phase is Phase.NEW:
                self.close(1012, "the record is out of sight; reconnect")
        elif self._phase is Phase.NEW:
            self._first(op)
        elif isinstance(op, ops.Hello):
            self.close(4400, "second hello")
        elif isinstance(op, ops.Send):
            self._send(op)
        else:
            self._other(op)

    def binary(self, payload: bytes) -> None:
        """Binary frames have no place here."""
        self.close(4400, "binary frame on the JSON protocol")

    def closed(self) -> None:
        """Leave every list. Called once."""
        self._phase = Phase.ENDED
        self._pending = None
        self._desk.left(self)

    # --- bounds ------------------------------------------------------------------------------------------------------------------

    def _flooding(self, now_s: float, payload: bytes) -> bool:
        if not self._desk.limits.enabled:
            return False
        if self._bucket is None:
            self._bucket = Bucket(self._desk.frame_rate, now_s)
        wait_s = self._bucket.take(now_s)
        if wait_s <= 0:
            return False
        problem = Problem("rate_limited", "too many frames", retry_after_ms=max(1, int(wait_s * 1_000)))
        self.fail(ops.reference_of(payload), problem)
        if self._floods is None:
            self._floods = Strikes(self._desk.limits.socket_strikes_per_min)
        if self._floods.strike(now_s):
            self.close(4429, "too many frames")
        return True

    def _fault(self, now_s: float, ref: str | None, problem: Problem) -> None:
        """An unreadable frame: an error, and the tenth in a minute ends the socket; the first frame must be a hello."""
        self.fail(ref, problem)
        if self._phase is Phase.NEW:
            self.close(4400, "the first frame must be a hello")
            return
        if self._faults is None:
            self._faults = Strikes(BAD_FRAMES_MAX)
        if self._faults.strike(now_s):
            self.close(4400, "too many bad frames")

    # --- hello -------------------------------------------------------------------------------------------------------------------

    def _first(self, op: ops.AnyOp) -> None:
        if not isinstance(op, ops.Hello):
            self.close(4400, "frame before hello")
            return
        self._phase = Phase.CATCHING_UP
        self._pending = deque()
        self._removed = set()
        if self._socket is not None:
            # What a client sends without waiting for its welcome is read after it.
            self._socket.pause_reading()
        self._desk.greet(self, op)

    @property
    def awaits_hello(self) -> bool:
        """Whether nothing was heard yet."""
        return self._phase is Phase.NEW

    @property
    def ended(self) -> bool:
        """Whether nothing can be delivered any more."""
        return self._phase is Phase.ENDED

    def known_as(self, caller: Caller) -> None:
        """The hello's token was good."""
        self.caller = caller

    def parted_meanwhile(self, stream: str) -> bool:
        """Whether the user left the stream while this session was catching up."""
        return self._removed is not None and stream in self._removed

    def release(self, upto: Mapping[str, int]) -> bool:
        """Send some of the live events that the missed ones did not cover, in order. True: more wait, call again in a later turn.

        Once none wait, the session is live: events pass straight through and the client's frames are read again.
        """
        pending, socket = self._pending, self._socket
        if pending is None or socket is None or self._phase is not Phase.CATCHING_UP:
            return False
        for _ in range(min(len(pending), RELEASED_FRAMES_MAX)):
            stream, seq, frame = pending.popleft()
            self._pending_bytes -= len(frame)
            if seq > upto.get(stream, 0):
                socket.send_frame(frame)
        if pending:
            return True
        self._pending = self._removed = None
        self._phase = Phase.LIVE
        socket.resume_reading()
        return False

    @property
    def lagging(self) -> bool:
        """Whether the reader has yet to take a good part of what it was sent."""
        return self._socket is not None and self._socket.unsent_bytes > LAG_BYTES_MAX

    # --- what the pusher calls ---------------------------------------------------------------------------------------------------

    @property
    def user(self) -> tuple[str, str]:
        """(tenant, user id)."""
        return ("", "") if self.caller is None else (self.caller.tenant, self.caller.user_id)

    @property
    def session_id(self) -> str | None:
        """The session whose token opened this socket."""
        return None if self.caller is None else self.caller.session_id

    def deliver(self, stream: str, seq: int, frame: bytes) -> None:
        """An event's frame, ready-made; kept back until the missed events are out."""
        if self._floor is not None and self._told_already(stream, seq):
            return
        if self._phase is Phase.LIVE:
            self._socket.send_frame(frame)  # type: ignore[union-attr]
        elif self._pending is not None:
            self._pending_bytes += len(frame)
            if len(self._pending) >= self._pending_max or self._pending_bytes > PENDING_BYTES_MAX:
                self.close(4408, "slow reader")
            else:
                self._pending.append((stream, seq, frame))

    def skip(self, upto: Mapping[str, int], read_s: float) -> None:
        """Deliver none of these again: they were told of what was read then, and may come behind it."""
        self._floor, self._floor_s = upto, read_s

    def _told_already(self, stream: str, seq: int) -> bool:
        if self._floor is None or self._desk.routes.proven_s() > self._floor_s:
            self._floor = None
            return False
        return seq <= self._floor.get(stream, 0)

    def spread(self, stream: str, seq: int, frame: bytes) -> None:
        """As `deliver`, for an event of a burst: it leaves with the others in portions, which are paced by the reader."""
        if self._phase is Phase.LIVE:
            self._phase = Phase.CATCHING_UP
            self._pending = deque()
            self._pending_bytes = 0
            self._desk.release_slowly(self)
        self._pending_max = SPREAD_FRAMES_MAX
        self.deliver(stream, seq, frame)

    def recalled(self, stream: str, target: int) -> None:
        """A message was recalled: what still waits here shows its content no more."""
        conversation_id = split(stream)[1]
        if self.recalls is not None:
            self.recalls.note(conversation_id, target)
        if self._pending:
            self._pending = deque(
                (name, seq, without_content(conversation_id, frame, target))
                if name == stream and seq >= target
                else (name, seq, frame)
                for name, seq, frame in self._pending
            )

    def joined(self, stream: str) -> None:
        """The user became a member."""
        if self._removed is not None:
            self._removed.discard(stream)

    def parted(self, stream: str) -> None:
        """The user is no member any more."""
        if self._removed is not None:
            self._removed.add(stream)

    def hint(self, frame: bytes) -> None:
        """A hint's frame; not for sessions that still catch up."""
        if self._phase is Phase.LIVE and self._socket is not None:
            self._socket.send_frame(frame)

    def end(self, *, replaced: bool = False) -> None:
        """The session ended: no frame after this."""
        if replaced:
            self.close(4409, "replaced by a newer session of the device")
        else:
            self.close(4403, "session ended")

    # --- answers -----------------------------------------------------------------------------------------------------------------

    def write(self, payload: bytes) -> None:
        """One JSON frame to this socket."""
        if self._phase is not Phase.ENDED and self._socket is not None:
            self._socket.send_frame(encode_text_frame(payload))

    def fail(self, ref: str | None, problem: Problem) -> None:
        """An `error` frame."""
        self.write(_encode({"op": "error", "ref": ref, "problem": self._desk.problem_document(problem)}))

    def close(self, code: int, reason: str) -> None:
        """Close the socket. Idempotent."""
        if self._socket is not None:
            self._socket.close(code, reason)

    # --- ops ---------------------------------------------------------------------------------------------------------------------

    def _send(self, op: ops.Send) -> None:
        caller = self.caller
        if caller is None:
            return
        origin = None if op.origin is None else (op.origin.at, op.origin.id)
        try:
            name, command, keyed = sending(
                caller,
                conversation_id=None if op.conversation_id is UNSET else op.conversation_id,
                to=None if op.to is UNSET else op.to,
                client_msg_id=op.client_msg_id,
                content=op.content,
                reply_to=op.reply_to,
                mentions=op.mentions,
                origin=origin,
            )
        except Problem as problem:
            self.fail(op.ref, problem)
            return
        self._desk.submit(caller, name, command, keyed, self._acknowledge_send(op.ref))

    def _acknowledge_send(self, ref: str | None) -> Callable[[Answer | Problem], None]:
        def done(result: Answer | Problem) -> None:
            if isinstance(result, Problem):
                self.fail(ref, result)
                return
            row = next(row for row in reversed(result.events) if isinstance(row.event, MessagePosted))
            event = row.event
            assert isinstance(event, MessagePosted)
            self.write(
                b'{"op":"ack","ref":%b,"conversation_id":"%b","seq":%d,"message_id":"%b","ordinal":%d,"at":"%b","position":"%b"%b}'
                % (
                    _encode(ref),
                    split(result.stream)[1].encode(),
                    row.seq or 0,
                    event.message_id.encode(),
                    event.ordinal,
                    wire_time(result.at).encode(),
                    result.token.encode(),
                    b',"replayed":true' if result.replayed else b"",
                )
            )

        return done

    def _other(self, op: ops.AnyOp) -> None:
        if isinstance(op, ops.Ping):
            self.write(_encode({"op": "pong"} if op.ref is None else {"op": "pong", "ref": op.ref}))
        elif self.caller is None:
            return
        elif isinstance(op, Change):
            self._change(self.caller, op)
        elif not isinstance(op, ops.Hello | ops.Send):
            self._desk.take(self, self.caller, op)

    def _change(self, caller: Caller, op: Change) -> None:
        try:
            conversation_name(op.conversation_id)
            if op.key is not None:
                client_key("key", op.key)
            command, payload = changing(op)
        except Problem as problem:
            self.fail(op.ref, problem)
            return
        keyed = Keyed(f"op {type(op).__name__.lower()} {op.conversation_id}", op.key, payload)
        self._desk.submit(caller, op.conversation_id, command, keyed, self._acknowledge_change(op))

    def _acknowledge_change(self, op: Change) -> Callable[[Answer | Problem], None]:
        def done(result: Answer | Problem) -> None:
            if isinstance(result, Problem):
                self.fail(op.ref, result)
                return
            ack: dict[str, object] = {"op": "ack", "ref": op.ref, "conversation_id": op.conversation_id}
            if result.changed:
                ack |= {"seq": result.seq, "at": wire_time(result.at), "position": result.token}
                if result.replayed:
                    ack["replayed"] = True
            else:
                ack["changed"] = False
            self.write(_encode(ack))

        return done
