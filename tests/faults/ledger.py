"""What writers sent and readers saw: the evidence that is held against the log."""

from __future__ import annotations

import msgspec

from client.frames import ConversationPage, Event

SEEN_KEPT_MAX = 500_000
"""Events that readers noted and nobody has compared with the log yet; a run compares after each fault."""


class Sent(msgspec.Struct):
    """One message of a writer. `ack` (seq, position) as soon as somebody said that it is durable."""

    conversation_id: str
    client_msg_id: str
    actor: str
    ack: tuple[int, str] | None = None


class Seen(msgspec.Struct, frozen=True, gc=False):
    """One event as a reader got it; `client_msg_id` only of messages."""

    conversation_id: str
    seq: int
    client_msg_id: str | None


class Counts(msgspec.Struct):
    """Of all readers together. `recovered`: came by a page (after hello, or by sync) instead of live."""

    live: int = 0
    recovered: int = 0
    gaps: int = 0
    """Live events that jumped over others; the reader asked for those by sync."""
    duplicated: int = 0
    unexpected: int = 0
    """Events out of order, or holes inside a page."""


class Reader:
    """What one user saw, by the contract: each seq once, in order; a live event behind a hole is not taken, a sync brings it."""

    def __init__(self, user_id: str, have: dict[str, int], counts: Counts) -> None:
        self.user_id = user_id
        self.have = have
        """The last seq of each conversation; 0 before the first."""
        self.stale: set[str] = set()
        self.findings: list[str] = []
        self._counts = counts
        self._synced: dict[str, int] = {}
        """Up to where a sync brought a conversation: what comes live up to there crossed it on the way, and is none too many."""
        self._known: dict[str, int] = {}
        """Up to where a conversation is known to go, by live events that were not taken and by heads: what a sync has to bring."""
        self._seen: list[Seen] = []

    def begin(self) -> None:
        """A connection begins: its hello asks for everything that the one before left open."""
        self.stale.clear()
        self._known.clear()

    def live(self, event: Event) -> bool:
        """Take a live event; False if something is missing before it, which a sync has to bring."""
        name, seq = event.conversation_id, event.seq
        last = self.have.get(name)
        if last is None:
            return True  # Of a conversation that this run does not look at.
        if name in self.stale:
            # A sync that was answered before this event does not bring it.
            self._know(name, seq)
            return False
        if seq <= last:
            if seq > self._synced.get(name, 0):
                self._counts.duplicated += 1
                self._find(f"{name}: seq {seq} came again, live, after {last}")
            return True
        if seq > last + 1:
            self._counts.gaps += 1
            self.expect(name, seq)
            return False
        self._take(name, seq, event.data.get("client_msg_id"))
        self._counts.live += 1
        return True

    def page(self, name: str, page: ConversationPage, *, asked: bool) -> None:
        """Take a conversation's part of a page; `asked`: by sync, which live events may cross."""
        last = self.have.get(name)
        if last is None:
            return
        if page.reset:
            self.forget(name)
            return
        for event in page.events:
            last = self.have[name]
            if event.seq <= last:
                if not asked:
                    self._counts.duplicated += 1
                    self._find(f"{name}: seq {event.seq} came again, in a page, after {last}")
                continue
            if event.seq != last + 1:
                self._counts.unexpected += 1
                self._find(f"{name}: seq {event.seq} follows {last} in a page")
            self._take(name, event.seq, event.data.get("client_msg_id"))
            self._counts.recovered += 1
        if asked:
            self._synced[name] = self.have[name]
        if page.complete and self.have[name] >= self._known.get(name, 0):
            self._known.pop(name, None)
            self.stale.discard(name)

    def expect(self, name: str, head: int) -> None:
        """It goes up to there, as somebody said: a sync has to bring what is missing."""
        if head > self.have.get(name, head):
            self._know(name, head)
            self.stale.add(name)

    def forget(self, name: str) -> None:
        """Drop a conversation: the server holds less, or another log. All of it comes again."""
        self.have[name] = 0
        self.stale.add(name)
        self._synced.pop(name, None)
        self._known.pop(name, None)
        self._seen = [seen for seen in self._seen if seen.conversation_id != name]

    def has_seen(self, client_msg_ids: set[str]) -> bool:
        """Whether all of these came since the last comparison."""
        return client_msg_ids <= {seen.client_msg_id for seen in self._seen}

    def take_seen(self) -> list[Seen]:
        """What came since the last time."""
        seen, self._seen = self._seen, []
        return seen

    def _know(self, name: str, seq: int) -> None:
        self._known[name] = max(seq, self._known.get(name, 0))

    def _take(self, name: str, seq: int, client_msg_id: str | None) -> None:
        self.have[name] = seq
        self._seen.append(Seen(name, seq, client_msg_id))
        if len(self._seen) > SEEN_KEPT_MAX:
            raise RuntimeError("nobody compares what readers saw")

    def _find(self, text: str) -> None:
        self.findings.append(f"{self.user_id}: {text}")
