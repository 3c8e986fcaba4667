"""Which event is next, which came twice, where one is missing: pure, no I/O.

A conversation's events are delivered in seq order, each once, whatever the order of live events, pages and
reconnects. A live event that would jump over a hole is held back and its conversation is marked stale until a
page closes the hole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from client.frames import ConversationPage, Event

HELD_BACK_MAX = 1_000
CONVERSATIONS_NAMED_MAX = 1_000
_RANGE_ENDS = frozenset({"member_left", "member_removed"})


class Tracker:
    """Positions of one user's conversations; `deliver(event)` is called in order, once for each event.

    `deliver` returns False if there is no room: the event then counts as missed and is asked for again later.
    """

    def __init__(
        self, user_id: str, deliver: Callable[[Event], bool], have: Mapping[str, int] | None = None
    ) -> None:
        self.user_id = user_id
        self.have: dict[str, int] = dict(have or {})
        self.stale: dict[str, None] = {}
        self.discovering = False
        self._deliver = deliver
        self._held: dict[str, dict[int, Event]] = {}
        self._outside: set[str] = set()
        self._seen: dict[str, int] = {}

    def live(self, event: Event) -> None:
        """Takes an event of the live stream."""
        name = event.conversation_id
        last = self.have.get(name)
        if last is None:
            if self.discovering:  # it may have begun while we were away: find out before counting from here
                self._hold(event)
                return
            self._take(event)
        elif event.seq <= last:
            return
        elif name not in self.stale and (event.seq == last + 1 or self._begins_again(event)):
            self._take(event)
        else:
            self._hold(event)
            self.stale[name] = None

    def behind(self, name: str, have: int) -> None:
        """The server left this conversation out of hello's pages."""
        self.have.setdefault(name, have)
        self.stale[name] = None

    def reaches(self, heads: Mapping[str, int]) -> None:
        """So far these conversations go: each is asked for until it has come there."""
        for name, head in heads.items():
            if head > self.have.get(name, head):
                self._seen[name] = max(head, self._seen.get(name, 0))
                self.stale[name] = None

    def page(self, name: str, page: ConversationPage) -> bool:
        """Takes one conversation's part of a page; False if it was reset: then it counts from 0 again.

        A page is dense within ranges, so a jump inside a page is the border of a range and no hole.
        """
        if page.reset:
            self.drop(name)
            return False
        for event in page.events:
            if event.seq > self.have.get(name, 0) and not self._take(event.of(name)):
                return True
        if page.complete:
            self.stale.pop(name, None)
            self._release(name)
        return True

    def discovered(self, name: str, seq: int, head: int) -> None:
        """A conversation that `have` did not name.

        Count from `seq` on; stale if events after it are known.
        """
        if name not in self.have:
            self.have[name] = seq
            if seq < head or name in self._held:
                self.stale[name] = None

    def end_discovery(self) -> None:
        """What was held back of conversations that nobody listed counts from its first event."""
        self.discovering = False
        for name in [name for name in self._held if name not in self.have]:
            first = min(self._held[name])
            self.have[name] = first - 1
            self._release(name)

    def unknown(self, name: str) -> None:
        """The server does not tell about it (a stranger's id): nothing is missing any more."""
        self.stale.pop(name, None)
        self._seen.pop(name, None)
        held = self._held.pop(name, {})
        for seq in sorted(held):
            if seq > self.have.get(name, 0):
                self._take(held[seq])

    def drop(self, name: str) -> None:
        """Forgets what was delivered of a conversation: all its events come again, from its first."""
        self.have[name] = 0
        self.stale[name] = None
        self._held.pop(name, None)
        self._seen.pop(name, None)
        self._outside.discard(name)

    def drop_all(self) -> None:
        """The same for every conversation: the log is another one."""
        for name in list(self.have):
            self.drop(name)

    def named(self, names: Mapping[str, object] | None = None) -> dict[str, int]:
        """At most 1,000 positions, the most recently moved of all conversations, or the first of `names`."""
        if names is not None:
            return {name: self.have.get(name, 0) for name in list(names)[:CONVERSATIONS_NAMED_MAX]}
        return dict(list(self.have.items())[-CONVERSATIONS_NAMED_MAX:])

    def mark_unnamed(self, named: Mapping[str, int]) -> None:
        """Conversations that hello could not name are looked at by sync."""
        for name in self.have:
            if name not in named:
                self.stale[name] = None

    def _begins_again(self, event: Event) -> bool:
        """True for one's own return to a conversation that one was seen to leave: a new range, no hole."""
        return (
            event.conversation_id in self._outside
            and event.type == "member_added"
            and event.data.get("user_id") == self.user_id
        )

    def _take(self, event: Event) -> bool:
        name = event.conversation_id
        if not self._deliver(event):
            self.stale[name] = None
            self._held.pop(name, None)
            self._seen[name] = max(event.seq, self._seen.get(name, 0))
            self.have.setdefault(name, event.seq - 1)
            return False
        self.have.pop(name, None)  # moves it to the end: the most recently active are named first
        self.have[name] = event.seq
        if event.type in _RANGE_ENDS and event.data.get("user_id", event.actor) == self.user_id:
            self._outside.add(name)
        elif name in self._outside:
            self._outside.discard(name)
        return True

    def _hold(self, event: Event) -> None:
        name = event.conversation_id
        self._seen[name] = max(event.seq, self._seen.get(name, 0))
        held = self._held.setdefault(name, {})
        if len(held) < HELD_BACK_MAX:  # beyond that the page will bring them
            held[event.seq] = event

    def _release(self, name: str) -> None:
        held = self._held.pop(name, {})
        for seq in sorted(held):
            self.live(held[seq])
        if self.have.get(name, 0) >= self._seen.get(name, 0):
            self._seen.pop(name, None)
        elif name in self.have:  # the hold was full when a later one came: ask again
            self.stale[name] = None
