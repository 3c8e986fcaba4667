"""Random histories of everything that views look at."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from domain.direct import DirectBlocked, DirectOpened, DirectUnblocked
from domain.event import Event
from domain.group import GroupChanged, GroupCreated, MemberLeft
from domain.group_settings import GroupChanges
from domain.inbox import ConversationSettingsChanged, ReadMarked
from domain.talk import MessageEdited, MessagePinned, MessageRecalled, ReactionAdded, ReactionRemoved
from domain.user import ProfileChanges, UserProfileChanged, UserRegistered
from eventlog.record import Committed
from tests.unit.projections.world import World, added, content

USERS = ("alice", "bob", "carol", "dave")
GROUPS = ("g_1", "g_2", "g_3")
PAIRS = {"d_alice_bob": ("alice", "bob"), "d_carol_dave": ("carol", "dave")}
TEXTS = (
    "hello world",
    "今天天气很好",
    "naïve café 🎉",
    "foo-bar_baz 3.14",
    "Привет, мир",
    "",
    "x" * 300,
    '"',
)


class History:
    """Makes commits, some of several events, all of them known to every projection."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._world = World()
        self._messages: dict[str, list[int]] = {}
        self._seqs: dict[str, int] = {}
        self._members: dict[str, set[str]] = {}
        for user in USERS:
            self._made(f"user:{user}", UserRegistered(actor=user, at=0, name=user.title()))
        for group in GROUPS:
            self._made(group, self._created("alice"), added("bob", "alice", "created"))
            self._members[group] = {"alice", "bob"}
        for pair, users in PAIRS.items():
            self._made(pair, DirectOpened(actor=users[0], at=0, users=users))
            self._members[pair] = set(users)

    def grow(self, count: int) -> Sequence[Committed]:
        """At least so many commits in all, in the order in which they happened."""
        makers = tuple(_MAKERS)
        weights = tuple(_MAKERS.values())
        while len(self._world.history) < count:
            (make,) = self._chance.choices(makers, weights)
            make(self)
        return self._world.history

    def say(self) -> None:
        """One message, or several in one commit."""
        stream = self._stream()
        events: list[Event] = []
        for _ in range(self._chance.choice((1, 1, 1, 3))):
            actor = self._chance.choice(sorted(self._members[stream]))
            mentions = self._chance.choice(((), (), (), ("all",), (self._user(),)))
            events.append(self._world.message(stream, actor, self._chance.choice(TEXTS), mentions=mentions))
            self._messages.setdefault(stream, []).append(self._seqs.get(stream, 0) + len(events))
        self._made(stream, *events)

    def touch(self) -> None:
        """Something happens to an older message."""
        stream = self._stream()
        targets = self._messages.get(stream, [])
        if not targets:
            return
        target, actor = self._chance.choice(targets), self._user()
        emoji = self._chance.choice("xy")
        event = self._chance.choice(
            (
                MessageEdited(actor=actor, at=0, target=target, content=content(self._chance.choice(TEXTS))),
                ReactionAdded(actor=actor, at=0, target=target, emoji=emoji),
                ReactionRemoved(actor=actor, at=0, target=target, emoji=emoji),
                MessagePinned(actor=actor, at=0, target=target),
                MessageRecalled(actor=actor, at=0, target=target),
            )
        )
        if isinstance(event, MessageRecalled):
            targets.remove(target)
        self._made(stream, event)

    def join_or_leave(self) -> None:
        """A member comes or goes, or a group changes."""
        stream, user = self._chance.choice(GROUPS), self._user()
        members = self._members[stream]
        if user not in members:
            members.add(user)
            self._made(stream, added(user, "alice"))
        elif user != "alice":
            members.discard(user)
            self._made(stream, MemberLeft(actor=user, at=0, user_id=user))
        else:
            changes = GroupChanges(
                name=self._chance.choice(TEXTS), history_visible=self._chance.random() < 0.5
            )
            self._made(stream, GroupChanged(actor="alice", at=0, changes=changes))

    def read(self) -> None:
        """A user marks or arranges a conversation."""
        user, stream = self._user(), self._stream()
        seq = self._chance.randint(1, self._seqs[stream])
        event: Event = ReadMarked(actor=user, at=0, conversation_id=stream, read_seq=seq)
        if self._chance.random() < 0.3:
            pinned, muted = self._chance.choice((None, True, False)), self._chance.choice((None, True))
            event = ConversationSettingsChanged(
                actor=user, at=0, conversation_id=stream, pinned=pinned, muted=muted
            )
        self._made(f"inbox:{user}", event)

    def rename(self) -> None:
        """A profile changes, or a pair blocks or unblocks."""
        user = self._user()
        if self._chance.random() < 0.5:
            changes = ProfileChanges(name=self._chance.choice(("Ann Lee", "Ben", "Çelik Ö", "李 明")))
            self._made(f"user:{user}", UserProfileChanged(actor=user, at=0, changes=changes))
            return
        pair, users = self._chance.choice(sorted(PAIRS.items()))
        actor, other = self._chance.sample(users, 2)
        kind = self._chance.choice((DirectBlocked, DirectUnblocked))
        self._made(pair, kind(actor=actor, at=0, user_id=other))

    def _made(self, stream: str, *events: Event) -> None:
        self._world.made(stream, *events)
        self._seqs[stream] = self._seqs.get(stream, 0) + sum(event.PUBLIC for event in events)

    def _created(self, owner: str) -> GroupCreated:
        return GroupCreated(
            actor=owner,
            at=0,
            name="Group",
            join="closed",
            max_members=500,
            history_visible=True,
            members_may_add=False,
            owner=owner,
        )

    def _stream(self) -> str:
        return self._chance.choice((*GROUPS, *sorted(PAIRS)))

    def _user(self) -> str:
        return self._chance.choice(USERS)


_MAKERS: Mapping[Callable[[History], None], int] = {
    History.say: 10,
    History.touch: 5,
    History.join_or_leave: 2,
    History.read: 4,
    History.rename: 2,
}


def missing(history: Sequence[Committed], positions: Mapping[int, int]) -> list[Committed]:
    """What of a history lies behind these positions."""
    return [one for one in history if one.commit.position > positions.get(one.commit.shard, 0)]


def up_to(history: Sequence[Committed], positions: Mapping[int, int]) -> list[Committed]:
    """What of a history these positions hold."""
    return [one for one in history if one.commit.position <= positions.get(one.commit.shard, 0)]
