"""What the log says, held against what writers were told and readers saw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from domain.aggregates import EVENT_CLASSES
from domain.streams import kind_of
from domain.talk import MessagePosted
from eventlog.codec import EventCodec
from eventlog.integrity import ShardVerifier
from eventlog.mongo import MongoLog
from eventlog.port import Log
from eventlog.record import Committed, Head
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from tests.faults.ledger import Seen, Sent
from tests.faults.member import Member

PAGE_COMMITS = 1_000
FINDINGS_KEPT_MAX = 50


class Verdict(msgspec.Struct):
    """Of one fault, or of many added up. Whatever is counted in `lost`, `unexpected` or `duplicated` is a defect."""

    acked: int = 0
    lost: int = 0
    recovered: int = 0
    unexpected: int = 0
    duplicated: int = 0
    findings: list[str] = msgspec.field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.unexpected or self.duplicated or self.findings)

    def find(self, text: str) -> None:
        """Note a sentence, as far as there is room."""
        if len(self.findings) < FINDINGS_KEPT_MAX:
            self.findings.append(text)

    def add(self, other: Verdict) -> None:
        """Count together."""
        for name in ("acked", "lost", "recovered", "unexpected", "duplicated"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for text in other.findings:
            self.find(text)


class Post(msgspec.Struct, frozen=True, gc=False):
    """A message in the log."""

    conversation_id: str
    seq: int
    actor: str
    position: str


class LogBook:
    """The log, read on after each fault: every chain is verified, every event indexed. `open` it, `close` it."""

    def __init__(self, log: Log, former_log_ids: Sequence[str] = ()) -> None:
        self.log = log
        self.former_log_ids = former_log_ids
        """What it was called before it was put back."""
        self.codec = EventCodec(Registry(EVENT_CLASSES), PlainSealing())
        self.posts: dict[str, list[Post]] = {}
        """By client message id: more than one is a duplicate."""
        self.events: dict[str, list[str | None]] = {}
        """Of each conversation: the client message id (None: no message) of seq 1, 2, 3…"""
        self.findings: list[str] = []
        self._verifiers = [ShardVerifier(shard, log.shard_count) for shard in range(log.shard_count)]

    @classmethod
    async def open(cls, uri: str, database: str) -> LogBook:
        """Raises what `MongoLog.open_read_only` raises."""
        log = await MongoLog.open_read_only(uri, database)
        return cls(log, log.former_log_ids)

    async def close(self) -> None:
        """Let go."""
        await self.log.close()

    def heads(self) -> dict[int, int]:
        """How far it was read."""
        return {
            verifier.shard: verifier.head.position for verifier in self._verifiers if verifier.head.position
        }

    async def read_on(self) -> list[Committed]:
        """What is new, in position order of each shard."""
        heads: Mapping[int, Head] = await self.log.heads()
        fresh: list[Committed] = []
        for verifier in self._verifiers:
            head = heads.get(verifier.shard)
            while head is not None and verifier.head.position < head.position:
                page = await self.log.read_shard(verifier.shard, verifier.head.position, PAGE_COMMITS)
                if not page:
                    self.findings.append(f"shard {verifier.shard} ends before its head {head.position}")
                    break
                for commit in page:
                    self.findings += [str(finding) for finding in verifier.check(commit)]
                    fresh.append(self.codec.decode(commit))
        for committed in fresh:
            self._index(committed)
        return fresh

    def _index(self, committed: Committed) -> None:
        for row in committed.events:
            if row.seq is None or kind_of(row.stream) is None:
                continue
            events = self.events.setdefault(row.stream, [])
            if row.seq != len(events) + 1:
                self.findings.append(f"{row.stream}: seq {row.seq} follows {len(events)} in the log")
            event = row.event
            if isinstance(event, MessagePosted):
                post = Post(row.stream, row.seq, event.actor, f"{row.shard}:{row.position}")
                self.posts.setdefault(event.client_msg_id, []).append(post)
                events.append(event.client_msg_id)
            else:
                events.append(None)


class Checker:
    """Compares after each fault what is new since the last time. The load has settled before."""

    def __init__(self, book: LogBook) -> None:
        self.book = book
        self._counted: dict[str, int] = {}
        self._told_posts = 0

    def check(self, members: Sequence[Member], others: Iterable[Sent] = ()) -> Verdict:
        """`others`: sends beside those of the members; `book` was read on before."""
        verdict = Verdict()
        told = [*others]
        for member in members:
            told += member.sent
            member.sent = []
        verdict.acked = len(told)
        for sent in told:
            self._check_sent(verdict, sent)
        self._told_posts += len(told)
        self._check_posts(verdict)
        for member in members:
            for seen in member.reader.take_seen():
                self._check_seen(verdict, member.user_id, seen)
            self._check_whole(verdict, member)
            for text in (*member.reader.findings, *member.refusals):
                verdict.find(text)
            member.reader.findings.clear()
            member.refusals.clear()
        counts = members[0].counts
        for name in ("recovered", "unexpected", "duplicated"):
            total = getattr(counts, name)
            setattr(verdict, name, getattr(verdict, name) + total - self._counted.get(name, 0))
            self._counted[name] = total
        for finding in self.book.findings:
            verdict.find(f"log: {finding}")
        self.book.findings.clear()
        return verdict

    def begin_again(self, book: LogBook) -> None:
        """The log is an older one now: what stands in it is known, what came after it is nobody's any more."""
        self.book = book
        self._told_posts = len(book.posts)

    def _check_sent(self, verdict: Verdict, sent: Sent) -> None:
        """acked ⊆ log, with the seq and position that were told."""
        posts = self.book.posts.get(sent.client_msg_id, [])
        told = None if sent.ack is None else (sent.conversation_id, sent.actor, *sent.ack)
        if told not in [(post.conversation_id, post.actor, post.seq, post.position) for post in posts]:
            verdict.lost += 1
            verdict.find(f"lost: {sent.client_msg_id} was acknowledged as {told}, the log holds {posts}")
        if len(posts) > 1:
            verdict.duplicated += len(posts) - 1
            verdict.find(f"duplicated: {sent.client_msg_id} stands in the log as {posts}")

    def _check_posts(self, verdict: Verdict) -> None:
        """Everything in the log was sent by somebody: when all sends are acknowledged, their numbers are equal."""
        surplus = len(self.book.posts) - self._told_posts
        if surplus > 0:
            verdict.unexpected += surplus
            verdict.find(f"{surplus} messages stand in the log that nobody was told of")
            self._told_posts += surplus

    def _check_seen(self, verdict: Verdict, user_id: str, seen: Seen) -> None:
        events = self.book.events.get(seen.conversation_id, [])
        if seen.seq > len(events) or events[seen.seq - 1] != seen.client_msg_id:
            verdict.unexpected += 1
            verdict.find(f"unexpected: {user_id} saw {seen}, which is not what the log holds")

    def _check_whole(self, verdict: Verdict, member: Member) -> None:
        """Seen up to the head; that all before were seen follows from how a reader takes them."""
        for name, last in member.reader.have.items():
            head = len(self.book.events.get(name, []))
            if last < head:
                verdict.lost += head - last
                verdict.find(f"lost: {member.user_id} saw {name} up to {last} of {head}")
            elif last > head:
                verdict.unexpected += last - head
                verdict.find(f"unexpected: {member.user_id} saw {name} up to {last}, the log ends at {head}")
