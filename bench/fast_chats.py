"""What the measurements of fast views ask about: a group, conversations of one user, read marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from bench.rebuild import CODEC
from domain.event import Event
from domain.group import GroupCreated, MemberAdded
from domain.inbox import ReadMarked
from domain.streams import shard_of
from domain.talk import MessageEdited, MessagePosted, MessageRecalled, ReactionAdded
from eventlog.codec import frame_of, recorded
from eventlog.record import Committed, Draft, Head

SHARDS = 8
LOG = "bench"
GROUP = "g_group"
MEMBERS = 200
MESSAGES = 600
CONVERSATIONS = 100
BEHIND = 20


class Chats:
    """Commits of streams by hand."""

    def __init__(self) -> None:
        self.commits: list[Committed] = []
        self._heads: dict[int, Head] = {}
        self._versions: dict[str, int] = {}
        self._ordinals: dict[str, int] = {}
        self._at = 1_700_000_000_000

    def group(self, stream: str, members: Sequence[str]) -> None:
        """A group whose first member owns it."""
        owner = members[0]
        created = GroupCreated(
            actor=owner,
            at=self._at,
            name=stream,
            join="closed",
            max_members=500,
            history_visible=True,
            members_may_add=False,
            owner=owner,
        )
        joined = (
            MemberAdded(actor=owner, at=self._at, user_id=user, role="member", via="created")
            for user in members[1:]
        )
        self.made(stream, created, *joined)

    def say(self, stream: str, actor: str) -> int:
        """A message of 100 characters; its seq."""
        ordinal = self._ordinals[stream] = self._ordinals.get(stream, 0) + 1
        content = msgspec.Raw(msgspec.json.encode({"kind": "text", "text": "word " * 20}))
        return self.made(
            stream,
            MessagePosted(
                actor=actor,
                at=self._at,
                message_id=f"{stream}-{ordinal}",
                ordinal=ordinal,
                client_msg_id=f"c{ordinal}",
                content=content,
            ),
        )

    def touch(self, stream: str, actor: str, seq: int, kind: int) -> None:
        """A reaction, an edit or a recall."""
        content = msgspec.Raw(msgspec.json.encode({"kind": "text", "text": "edited"}))
        events: tuple[Event, ...] = (
            ReactionAdded(actor=actor, at=self._at, target=seq, emoji="+"),
            MessageEdited(actor=actor, at=self._at, target=seq, content=content),
            MessageRecalled(actor=actor, at=self._at, target=seq),
        )
        self.made(stream, events[kind % len(events)])

    def made(self, stream: str, *events: Event) -> int:
        """One commit; the seq of its last event."""
        self._at += 1_000
        first = self._versions.get(stream, 0)
        seqs = [first + number for number in range(1, len(events) + 1)]
        shard = shard_of(stream, SHARDS)
        draft = Draft(
            stream=stream,
            first_version=first + 1,
            key=len(self.commits).to_bytes(16),
            payload_digest=bytes(16),
            at=self._at,
            events=events,
            seqs=seqs,
            events_json=CODEC.encode_events(events, seqs),
        )
        commit = frame_of(draft, LOG, shard, 1, self._heads.get(shard, Head()))
        self._heads[shard] = commit.head
        self._versions[stream] = first + len(events)
        self.commits.append(recorded(commit, events, seqs))
        return seqs[-1]


def chats() -> tuple[Chats, Mapping[str, int]]:
    """What is asked about, and how far user0 has come everywhere."""
    made = Chats()
    members = [f"user{number}" for number in range(MEMBERS)]
    made.group(GROUP, members)
    seq = 0
    for number in range(MESSAGES):
        seq = made.say(GROUP, members[number % MEMBERS])
        if number % 10 == 0:
            made.touch(GROUP, members[(number + 1) % MEMBERS], seq, number // 10)
    for user in members:
        made.made(f"inbox:{user}", ReadMarked(actor=user, at=0, conversation_id=GROUP, read_seq=seq - BEHIND))
    have = {}
    for number in range(CONVERSATIONS):
        name = f"g_{number:03d}"
        made.group(name, ["user0", "user1"])
        for _ in range(60):
            seq = made.say(name, "user1")
        have[name] = seq - BEHIND
    return made, have
