"""The evidence: what a reader takes, and that every kind of wrong is found by the checker."""

from __future__ import annotations

import asyncio
import random

import pytest

from client.frames import ConversationPage, Event, PageEvent
from eventlog.memory import MemoryLog
from tests.faults.checker import Checker, LogBook, Post
from tests.faults.ledger import Counts, Reader, Sent
from tests.faults.member import Member
from tests.faults.waiting import Bell

ROOM = "c_room"


def live(seq: int) -> Event:
    return Event(ROOM, seq, "message_posted", "ann", "", {"client_msg_id": f"m{seq}"})


def page(*seqs: int, complete: bool = True) -> ConversationPage:
    events = [PageEvent(seq, "message_posted", "ann", "", {"client_msg_id": f"m{seq}"}) for seq in seqs]
    return ConversationPage(head=max(seqs, default=0), events=events, complete=complete)


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def reader(counts: Counts) -> Reader:
    return Reader("ann", {ROOM: 0}, counts)


def test_events_in_order_are_seen_once(reader: Reader, counts: Counts) -> None:
    reader.page(ROOM, page(1, 2), asked=False)
    assert reader.live(live(3))
    assert reader.have == {ROOM: 3}
    assert (counts.recovered, counts.live, counts.duplicated, counts.unexpected) == (2, 1, 0, 0)
    assert reader.has_seen({"m1", "m3"})
    assert [seen.seq for seen in reader.take_seen()] == [1, 2, 3]
    assert not reader.has_seen({"m1"})


def test_a_hole_is_left_to_a_sync_and_what_crosses_it_is_no_duplicate(reader: Reader, counts: Counts) -> None:
    assert not reader.live(live(2))
    assert not reader.live(live(3))
    assert reader.stale == {ROOM}
    reader.page(ROOM, page(1, 2, 3), asked=True)
    assert reader.live(live(3))
    assert reader.live(live(4))
    assert (counts.gaps, counts.recovered, counts.live, counts.duplicated) == (1, 3, 1, 0)
    assert not reader.findings


def test_what_comes_live_while_a_sync_is_under_way_is_asked_for_again(reader: Reader) -> None:
    reader.forget(ROOM)
    assert not reader.live(live(4))
    reader.page(ROOM, page(1, 2, 3), asked=True)
    assert reader.stale == {ROOM}
    reader.page(ROOM, page(4), asked=True)
    assert not reader.stale
    assert reader.live(live(5))


def test_a_head_that_was_told_is_asked_for(reader: Reader) -> None:
    reader.page(ROOM, page(1, 2), asked=False)
    reader.expect(ROOM, 2)
    assert not reader.stale
    reader.expect(ROOM, 3)
    assert reader.stale == {ROOM}
    reader.begin()
    assert not reader.stale
    reader.page(ROOM, page(3), asked=False)
    assert not reader.stale


def test_a_seq_that_comes_twice_is_found(reader: Reader, counts: Counts) -> None:
    reader.live(live(1))
    reader.live(live(1))
    reader.page(ROOM, page(1), asked=False)
    assert counts.duplicated == 2
    assert len(reader.findings) == 2


def test_a_hole_inside_a_page_is_found(reader: Reader, counts: Counts) -> None:
    reader.page(ROOM, page(1, 3), asked=True)
    assert counts.unexpected == 1
    assert reader.findings


def test_a_conversation_that_was_reset_comes_again(reader: Reader) -> None:
    reader.page(ROOM, page(1, 2), asked=False)
    reader.page(ROOM, ConversationPage(head=1, reset=True), asked=False)
    assert reader.have == {ROOM: 0}
    assert reader.stale == {ROOM}
    assert not reader.take_seen()


class Case:
    """A member and a log of two messages that fit together, until a test changes one of them."""

    def __init__(self) -> None:
        self.member = Member("ann", [ROOM], ["http://nowhere"], Counts(), Bell(), random.Random(1))
        self.book = LogBook(MemoryLog("log", 1))
        self.checker = Checker(self.book)
        self.book.events[ROOM] = ["m1", "m2"]
        for seq in (1, 2):
            self.book.posts[f"m{seq}"] = [Post(ROOM, seq, "ann", f"0:{seq}")]
            self.member.acknowledge(Sent(ROOM, f"m{seq}", "ann"), (seq, f"0:{seq}"))
            self.member.reader.live(live(seq))

    def counts(self) -> tuple[int, int, int]:
        """(lost, unexpected, duplicated)"""
        verdict = self.checker.check([self.member])
        assert verdict.acked == 2
        assert bool(verdict.findings) is not verdict.good
        return verdict.lost, verdict.unexpected, verdict.duplicated


@pytest.fixture
async def case() -> Case:
    await asyncio.sleep(0)
    return Case()


async def test_what_fits_together_is_good(case: Case) -> None:
    assert case.counts() == (0, 0, 0)


async def test_an_acknowledged_message_that_the_log_lacks_is_lost(case: Case) -> None:
    case.book.posts["m2"] = [Post(ROOM, 3, "ann", "0:3")]
    assert case.counts() == (1, 0, 0)


async def test_one_key_twice_in_the_log_is_a_duplicate(case: Case) -> None:
    case.book.posts["m2"].append(Post(ROOM, 3, "ann", "0:3"))
    case.book.events[ROOM].append("m2")
    case.member.reader.live(Event(ROOM, 3, "message_posted", "ann", "", {"client_msg_id": "m2"}))
    assert case.counts() == (0, 0, 1)


async def test_a_message_that_nobody_was_told_of_is_unexpected(case: Case) -> None:
    case.book.posts["m3"] = [Post(ROOM, 3, "ann", "0:3")]
    case.book.events[ROOM].append("m3")
    case.member.reader.live(live(3))
    assert case.counts() == (0, 1, 0)


async def test_an_event_that_a_reader_never_got_is_lost(case: Case) -> None:
    case.book.events[ROOM].append(None)
    assert case.counts() == (1, 0, 0)


async def test_an_event_that_the_log_does_not_hold_is_unexpected(case: Case) -> None:
    case.book.events[ROOM][1] = "another"
    assert case.counts() == (0, 1, 0)


async def test_a_reader_beyond_the_log_is_unexpected(case: Case) -> None:
    case.member.reader.live(live(3))
    assert case.counts()[1] == 2
