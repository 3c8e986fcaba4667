"""Who may see which part of a conversation: answered from the membership rows of one snapshot of the timeline."""

from __future__ import annotations

import msgspec

from domain.streams import qualified, split
from projections.store import Row, Snapshot
from projections.tables import CONVERSATIONS, MEMBERS, head_of

_decode_ranges = msgspec.json.Decoder(tuple[tuple[int, int | None], ...]).decode


class Range(msgspec.Struct, frozen=True, array_like=True):
    """A range of seq that somebody sees; `last` None: up to the head."""

    first: int
    last: int | None = None


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What one user may see of one conversation, as the membership view knew it at `position` of `shard`.

    Readers answer nothing outside `ranges` (ascending, disjoint) and nothing above `head`. `current`: a member now, of a group that
    is not dissolved, or a side of the pair. `role`: owner, admin or member while in a group (and after its dissolution), else None.
    """

    tenant: str
    user_id: str
    conversation_id: str
    kind: str
    role: str | None = None
    current: bool
    dissolved: bool = False
    ranges: tuple[Range, ...]
    head: int
    """The highest seq that the user may see."""
    joined_seq: int
    """The seq of the newest joining; unread counts what lies behind it."""
    shard: int
    position: int

    @property
    def first_seq(self) -> int:
        """Where the newest range starts."""
        return self.ranges[-1].first

    @property
    def stream(self) -> str:
        """The conversation's stream in the log."""
        return qualified(self.tenant, self.conversation_id)

    @property
    def member(self) -> str:
        """The user's name in the membership rows."""
        return qualified(self.tenant, self.user_id)

    @property
    def whole(self) -> bool:
        """Whether all that happens to a message that the user sees is seen too: one range, which is open."""
        return len(self.ranges) == 1 and self.ranges[0].last is None

    def sees(self, seq: int) -> bool:
        """Whether the event `seq` may be shown."""
        return seq <= self.head and any(
            r.first <= seq and (r.last is None or seq <= r.last) for r in self.ranges
        )

    def parts(self) -> tuple[tuple[int, int], ...]:
        """The ranges with both ends, cut to the head."""
        parts = ((r.first, self.head if r.last is None else min(r.last, self.head)) for r in self.ranges)
        return tuple((first, last) for first, last in parts if first <= last)


def access_of(snapshot: Snapshot, tenant: str, user_id: str, conversation_id: str) -> Access | None:
    """The access of a user, None for a stranger and for a conversation without public events."""
    stream = qualified(tenant, conversation_id)
    member = snapshot.get(MEMBERS, (stream, qualified(tenant, user_id)))
    return None if member is None else access_from(snapshot, member)


def access_from(snapshot: Snapshot, member: Row) -> Access | None:
    """The access that a membership row gives."""
    stream, name, role, _, _, joined_seq, _, left_seq, _, ranges, _ = member
    head = head_of(snapshot, str(stream))
    conversation = snapshot.get(CONVERSATIONS, (stream,))
    if head is None or conversation is None:
        return None
    assert isinstance(stream, str)
    assert isinstance(name, str)
    assert isinstance(ranges, bytes)
    shard = _int(conversation[7])
    dissolved = conversation[6] is not None
    tenant, conversation_id = split(stream)
    return Access(
        tenant=tenant,
        user_id=split(name)[1],
        conversation_id=conversation_id,
        kind=str(conversation[1]),
        role=None if role is None or left_seq is not None else str(role),
        current=left_seq is None and not dissolved,
        dissolved=dissolved,
        ranges=tuple(Range(first, last) for first, last in _decode_ranges(ranges)),
        head=head.seq if left_seq is None else _int(left_seq),
        joined_seq=_int(joined_seq),
        shard=shard,
        position=snapshot.positions().get(shard, 0),
    )


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
