"""The fast views on Redis. Everything of one shard lies in one key slot, and each call is one script, so it happens whole or not at all.

Of a shard: a hash with its position and its epoch, when its documents changed last, when they were used, and how large they are. Of a
document: three hashes (small fields, events, members), each with the epoch in which it was made; one of another epoch, or of which Redis
threw a part away, is not there.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from projections.fast import (
    BYTES_MAX,
    EVENTS_KEPT,
    FIELDS_MAX,
    HEAD_FIELD,
    MEMBERS_MAX,
    OVERHEAD_BYTES,
    TOUCHED_MAX,
    Ask,
    Change,
    Held,
    Miss,
    Offer,
    Span,
    size_of,
)
from projections.redis_driver import Call, RedisLine, Script, Value

KEPT_S = 86_400
"""What nobody told of or put there for so long goes by itself: documents of versions that are current no longer."""
EVICTIONS_MAX = 64
"""Documents that go for one that comes."""
READ_TIMEOUT_S = 0.05
WRITE_TIMEOUT_S = 0.25

_COMMON = f"""
local K = KEYS[1]
local T, U, B = K .. ':touched', K .. ':used', K .. ':bytes'
local function places(name) return K .. ':small:' .. name, K .. ':events:' .. name, K .. ':members:' .. name end
local function grow(name, size)
  redis.call('HINCRBY', B, name, size)
  return redis.call('HINCRBY', B, '', size)
end
local function drop(name)
  local D, E, M = places(name)
  redis.call('DEL', D, E, M)
  redis.call('ZREM', U, name)
  local size = redis.call('HGET', B, name)
  if size then
    redis.call('HDEL', B, name)
    if tonumber(size) > 0 then redis.call('HINCRBY', B, '', '-' .. size) end
  end
end
local at = 1
local function set(key, sizes, body)
  for index = 2, #sizes, 2 do
    local size = sizes[index]
    sizes[index] = string.sub(body, at, at + size - 1)
    at = at + size
  end
  for first = 1, #sizes, 1000 do
    redis.call('HSET', key, unpack(sizes, first, math.min(first + 999, #sizes)))
  end
end
local function keep(...)
  for _, key in ipairs({{...}}) do redis.call('EXPIRE', key, {KEPT_S}) end
end
"""

_TELL = Script(
    _COMMON
    + f"""
local before, after, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])
local known = redis.call('HMGET', K, 'position', 'epoch')
local position, epoch = tonumber(known[1] or -1), known[2]
local whole = redis.call('ZSCORE', T, '')
if whole and position >= after and position ~= before then return {{}} end
if not whole or position ~= before then
  redis.call('HSET', K, 'position', after, 'epoch', ARGV[3], 'floor', after)
  redis.call('DEL', T)
  redis.call('ZADD', T, 0, '')
  keep(K, T)
  return {{}}
end
local function purge(name, D, E, floor)
  local old = {{}}
  for _, field in ipairs(redis.call('HKEYS', E)) do
    local seq = tonumber(field)
    if seq and seq < floor then old[#old + 1] = field end
  end
  for first = 1, #old, 1000 do redis.call('HDEL', E, unpack(old, first, math.min(first + 999, #old))) end
  old = {{}}
  for _, field in ipairs(redis.call('HKEYS', D)) do
    local target = tonumber(string.match(field, '^%l(%d+)'))
    if target and target < floor then old[#old + 1] = field end
  end
  for first = 1, #old, 1000 do redis.call('HDEL', D, unpack(old, first, math.min(first + 999, #old))) end
  redis.call('HSET', D, '#f', floor)
end
local there = {{}}
for number, change in ipairs(cmsgpack.unpack(ARGV[5])) do
  local name = change[1]
  redis.call('ZADD', T, before == after and after + 0.5 or after, name)
  local D, E, M = places(name)
  local head = redis.call('HMGET', D, '#e', '#p', '#f', '#h')
  local behind = at + (change[8] or 0)
  if head[1] == epoch then
    there[#there + 1] = number
    local made = tonumber(head[2])
    if #change == 1 or before == after or (made > before and made < after) then
      drop(name)
    elseif made <= before then
      local gone = change[2]
      for first = 1, #gone, 1000 do redis.call('HDEL', D, unpack(gone, first, math.min(first + 999, #gone))) end
      set(D, change[3], ARGV[6])
      set(E, change[4], ARGV[6])
      set(M, change[5], ARGV[6])
      local high = math.max(tonumber(head[4]), change[6])
      redis.call('HSET', D, '#h', high)
      grow(name, change[7])
      if redis.call('HLEN', E) > 2 * kept + 1 or redis.call('HLEN', D) > {FIELDS_MAX} then
        purge(name, D, E, math.max(tonumber(head[3]), high - kept + 1))
      end
      if redis.call('HLEN', D) > {FIELDS_MAX} or redis.call('HLEN', M) > {MEMBERS_MAX} then
        drop(name)
      else
        keep(D, E, M)
      end
    end
  end
  at = behind
end
redis.call('HSET', K, 'position', after)
keep(K, T, U, B)
local many = redis.call('ZCARD', T) - 1 - {TOUCHED_MAX}
if many > 0 then
  local last = redis.call('ZRANGE', T, many, many, 'WITHSCORES')
  redis.call('ZREMRANGEBYRANK', T, 1, many)
  if tonumber(last[2]) > tonumber(redis.call('HGET', K, 'floor')) then redis.call('HSET', K, 'floor', last[2]) end
end
return there
"""
)
"""ARGV before, after, an epoch to begin with, events kept, changes `[name, gone, small, events, members, newest event, bytes, length]` or
`[name]` as MessagePack, of all fields only how long they are, and then the fields themselves, one behind the other, which have `length` in
all. The numbers of the documents that are there or were."""

_OFFER = Script(
    _COMMON
    + f"""
local position, bound, now, partial = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1'
local known = redis.call('HMGET', K, 'position', 'epoch', 'floor')
if not known[1] or not redis.call('ZSCORE', T, '') then return 0 end
local offer = cmsgpack.unpack(ARGV[5])
local name = offer[1]
if position < tonumber(known[3]) or position < tonumber(redis.call('ZSCORE', T, name) or 0) then return 0 end
local D, E, M = places(name)
if partial then
  local head = redis.call('HMGET', D, '#e', '#p')
  if head[1] ~= known[2] or tonumber(head[2]) > position or position > tonumber(known[1]) then return 0 end
  set(M, offer[4], ARGV[6])
  grow(name, offer[7])
  if redis.call('HLEN', M) > {MEMBERS_MAX} then drop(name) end
  return 1
end
drop(name)
redis.call('HSET', D, '#e', known[2], '#p', position, '#f', offer[5], '#h', offer[6])
redis.call('HSET', E, '#e', known[2])
redis.call('HSET', M, '#e', known[2])
set(D, offer[2], ARGV[6])
set(E, offer[3], ARGV[6])
set(M, offer[4], ARGV[6])
redis.call('ZADD', U, now, name)
local bytes = grow(name, offer[7])
keep(D, E, M, U, B)
for _ = 1, {EVICTIONS_MAX} do
  if bytes <= bound then break end
  local oldest = redis.call('ZRANGE', U, 0, 0)[1]
  if not oldest then
    redis.call('DEL', B)
    break
  end
  drop(oldest)
  bytes = tonumber(redis.call('HGET', B, '') or 0)
end
return redis.call('EXISTS', D)
"""
)
"""ARGV position, bytes of the shard at most, the time in ms, whether partial, `[name, small, events, members, floor, newest event,
bytes]` as MessagePack, and the fields, as for changes. Whether it is there now."""

_FETCH = Script(
    _COMMON
    + f"""
local known = redis.call('HMGET', K, 'position', 'epoch')
local position = tonumber(known[1] or -1)
if position < tonumber(ARGV[1]) then return 'b' end
local name, now = ARGV[2], ARGV[3]
local D, E, M = places(name)
local head = redis.call('HMGET', D, '#e', '#p', '#f', '#h')
if head[1] ~= known[2] then return 'a' end
if tonumber(head[2]) > position then return 'b' end
if redis.call('HGET', E, '#e') ~= known[2] or redis.call('HGET', M, '#e') ~= known[2] then
  drop(name)
  return 'a'
end
redis.call('ZADD', U, 'XX', now, name)
local floor, high = tonumber(head[3]), tonumber(head[4])
local first, last = tonumber(ARGV[4]), tonumber(ARGV[5])
if first < 0 then first = high + first + 1 end
if last == 0 or last > high then last = high end
first = math.max(first, floor)
local seqs = {{high}}
for seq = first, last do seqs[#seqs + 1] = seq end
local events = redis.call('HMGET', E, unpack(seqs))
local members
if ARGV[7] == '*' then
  members = redis.call('HGETALL', M)
elseif #ARGV > 6 then
  members = redis.call('HMGET', M, unpack(ARGV, 7))
else
  members = {{}}
end
local small
if ARGV[6] == '1' then
  small = redis.call('HGETALL', D)
else
  local head = redis.call('HGET', D, '{HEAD_FIELD}')
  small = head and {{'{HEAD_FIELD}', head}} or {{}}
end
return {{position, floor, high, small, members, first, events}}
"""
)
"""ARGV the position needed, name, the time in ms, first and last event, whether small fields, then fields of members or `*`. `a`: not
there, `b`: behind."""

_pack = msgspec.msgpack.Encoder().encode
_MISSES = {b"a": Miss.ABSENT, b"b": Miss.BEHIND}


class RedisFast:
    """`projections.fast.FastRows` on one Redis."""

    def __init__(
        self,
        url: str,
        prefix: str,
        shard_count: int,
        *,
        bytes_max: int = BYTES_MAX,
        events_kept: int = EVENTS_KEPT,
        read_timeout_s: float = READ_TIMEOUT_S,
        write_timeout_s: float = WRITE_TIMEOUT_S,
    ) -> None:
        self._prefix = prefix
        self._bytes_max = bytes_max // shard_count
        self._kept = events_kept
        self.reading = RedisLine(url, read_timeout_s)
        self.writing = RedisLine(url, write_timeout_s)

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self.reading.close()
        self.writing.close()

    def tell(self, view: str, spans: Sequence[Span]) -> list[frozenset[str]]:
        """See the port."""
        calls: list[Call] = []
        for span in spans:
            body: list[bytes] = []
            changes = _pack([_packed(change, body) for change in span.changes])
            epoch = secrets.token_hex(8)
            arguments = (span.before, span.after, epoch, self._kept, changes, b"".join(body))
            calls.append((self._key(view, span.shard), arguments))
        replies = self.writing.run(_TELL, calls)
        return [
            frozenset(span.changes[int(number) - 1].name for number in reply)
            for span, reply in zip(spans, replies, strict=True)
        ]

    def offer(self, view: str, offers: Sequence[Offer]) -> list[bool]:
        """See the port."""
        now_us = time.time_ns() // 1_000  # Twice in a millisecond is common, and there would be no order.
        calls: list[Call] = []
        fitting: list[int] = []
        for number, one in enumerate(offers):
            size = size_of(one.small, one.events, one.members)
            if size > self._bytes_max:
                continue  # All others would go for it, and then it.
            fitting.append(number)
            body: list[bytes] = []
            sizes = [_sizes(fields, body) for fields in (one.small, one.events, one.members)]
            packed = _pack((one.name, *sizes, one.floor, one.high, size))
            arguments = (
                one.position,
                self._bytes_max,
                now_us,
                int(one.partial),
                packed,
                b"".join(body),
            )
            calls.append((self._key(view, one.shard), arguments))
        taken = dict(zip(fitting, self.writing.run(_OFFER, calls), strict=True))
        return [bool(taken.get(number)) for number in range(len(offers))]

    def fetch(self, view: str, asks: Sequence[Ask]) -> list[Held | Miss]:
        """See the port."""
        now_us = time.time_ns() // 1_000  # Twice in a millisecond is common, and there would be no order.
        calls: list[Call] = []
        for ask in asks:
            members = ("*",) if ask.members is None else ask.members
            arguments: tuple[Value, ...] = (
                ask.needed,
                ask.name,
                now_us,
                ask.first,
                ask.last,
                int(ask.small),
                *members,
            )
            calls.append((self._key(view, ask.shard), arguments))
        replies = self.reading.run(_FETCH, calls)
        return [_held(ask, reply) for ask, reply in zip(asks, replies, strict=True)]

    def _key(self, view: str, shard: int) -> str:
        return f"{self._prefix}:fast:{{{view}.s{shard}}}"


def _packed(change: Change, body: list[bytes]) -> Sequence[object]:
    if change.unseen:
        return (change.name,)
    first = len(body)
    sizes = [_sizes(fields, body) for fields in (change.small, change.events, change.members)]
    length = sum(map(len, body[first:]))
    size = length + OVERHEAD_BYTES * (len(body) - first)
    return (change.name, change.gone, *sizes, max(change.events, default=0), size, length)


def _sizes(fields: Mapping[Any, bytes], body: list[bytes]) -> list[object]:
    """`[field, length, …]`; the values go into `body`. (Redis reads no binary MessagePack.)"""
    sizes: list[object] = []
    for field, value in fields.items():
        sizes.append(field)
        sizes.append(len(value))
        body.append(value)
    return sizes


def _held(ask: Ask, reply: Any) -> Held | Miss:
    if isinstance(reply, bytes):
        return _MISSES[reply]
    position, floor, high, small, members, first, events = reply
    held = _pairs(members) if ask.members is None else _found(ask.members, members)
    numbered = zip((high, *range(first, first + len(events) - 1)), events, strict=True)
    return Held(
        position=position,
        floor=floor,
        high=high,
        small=_pairs(small),
        members=held,
        events={seq: row for seq, row in numbered if row is not None},
    )


def _found(fields: Sequence[str], values: Sequence[bytes | None]) -> dict[str, bytes]:
    return {field: value for field, value in zip(fields, values, strict=True) if value is not None}


def _pairs(flat: Iterable[bytes]) -> dict[str, bytes]:
    fields = iter(flat)
    return {name.decode(): value for name, value in zip(fields, fields, strict=True) if name[:1] != b"#"}
