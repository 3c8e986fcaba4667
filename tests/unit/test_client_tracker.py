"""Order without gaps or duplicates, whatever the order in which events, pages and reconnects come."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.frames import ConversationPage, Event, PageEvent
from client.tracker import HELD_BACK_MAX, Tracker


def live(seq: int, name: str = "c", kind: str = "message_posted", user_id: str = "") -> Event:
    """A live event."""
    return Event(name, seq, kind, "bob", "t", {"user_id": user_id} if user_id else {})


def page(*seqs: int, complete: bool = True, reset: bool = False) -> ConversationPage:
    """A page of events."""
    events = [PageEvent(seq, "message_posted", "bob", "t") for seq in seqs]
    return ConversationPage(events=events, complete=complete, head=max(seqs, default=0), reset=reset)


@dataclass
class Taken:
    """What a user got."""

    room: int = 1_000_000
    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> bool:
        """Takes an event if there is room."""
        if len(self.events) >= self.room:
            return False
        self.events.append(event)
        return True

    @property
    def seqs(self) -> list[int]:
        """Their seqs."""
        return [event.seq for event in self.events]


def test_a_gap_waits_for_the_page() -> None:
    taken = Taken()
    tracker = Tracker("ann", taken, {"c": 3})
    for seq in (4, 4, 7, 8, 3):
        tracker.live(live(seq))
    assert taken.seqs == [4]
    assert list(tracker.stale) == ["c"]
    tracker.page("c", page(5, complete=False))
    assert tracker.stale
    tracker.page("c", page(5, 6, 7))
    assert taken.seqs == [4, 5, 6, 7, 8]
    assert not tracker.stale


def test_counting_begins_with_the_first_event() -> None:
    taken = Taken()
    tracker = Tracker("ann", taken)
    tracker.live(live(41))
    tracker.live(live(42))
    assert taken.seqs == [41, 42]


def test_a_return_after_an_own_end_is_no_gap() -> None:
    taken = Taken()
    tracker = Tracker("ann", taken, {"c": 3})
    tracker.live(live(4, kind="member_removed", user_id="ann"))
    tracker.live(live(9, kind="member_added", user_id="ann"))
    tracker.live(live(10))
    assert taken.seqs == [4, 9, 10]


def test_an_own_member_added_after_a_hole_is_a_gap() -> None:
    taken = Taken()
    tracker = Tracker("ann", taken, {"c": 3})
    tracker.live(live(9, kind="member_added", user_id="ann"))
    assert taken.seqs == []
    tracker.page("c", page(4, 9))  # the server's page knows the ranges
    assert taken.seqs == [4, 9]


def test_reset_counts_from_the_start_again() -> None:
    taken = Taken()
    tracker = Tracker("ann", taken, {"c": 30})
    assert not tracker.page("c", page(reset=True))
    assert tracker.stale
    tracker.live(live(6))
    tracker.page("c", page(1, 2, 3, 4, 5))
    assert taken.seqs == [1, 2, 3, 4, 5, 6]


def test_behind_holds_live_events_back() -> None:
    taken = Taken()
    tracker = Tracker("ann", taken, {"c": 2})
    tracker.behind("c", 2)
    tracker.live(live(5_000))
    assert taken.seqs == []
    tracker.page("c", page(*range(3, 5_000)))
    assert taken.seqs == list(range(3, 5_001))


def test_what_was_not_held_is_asked_for_again() -> None:
    taken = Taken()
    tracker = Tracker("ann", taken, {"c": 0})
    last = HELD_BACK_MAX + 20
    for seq in range(2, last + 1):
        tracker.live(live(seq))
    tracker.page("c", page(1))  # an older answer, complete when it was made
    assert tracker.stale
    tracker.page("c", page(*range(1, last + 1)))
    assert taken.seqs == list(range(1, last + 1))
    assert not tracker.stale


def test_no_room_means_missed_not_lost() -> None:
    taken = Taken(room=2)
    tracker = Tracker("ann", taken, {"c": 0})
    for seq in range(1, 6):
        tracker.live(live(seq))
    assert taken.seqs == [1, 2]
    assert tracker.have == {"c": 2}
    assert tracker.stale
    taken.room = 100
    tracker.page("c", page(3, 4, 5))
    assert taken.seqs == [1, 2, 3, 4, 5]
    assert not tracker.stale


def test_while_discovering_nothing_unknown_is_counted() -> None:
    taken = Taken()
    tracker = Tracker("ann", taken, {})
    tracker.discovering = True
    tracker.live(live(7))
    tracker.live(live(3, "d"))
    tracker.discovered("c", 0, 7)
    tracker.end_discovery()
    assert [(event.conversation_id, event.seq) for event in taken.events] == [("d", 3)]
    tracker.page("c", page(*range(1, 7)))
    assert taken.seqs == [3, 1, 2, 3, 4, 5, 6, 7]


def test_a_conversation_one_may_not_see_any_more_is_let_go() -> None:
    taken = Taken()
    tracker = Tracker("ann", taken, {"c": 1})
    tracker.live(live(5))
    tracker.unknown("c")
    assert taken.seqs == [5]
    assert not tracker.stale


def test_hello_names_the_most_recent() -> None:
    tracker = Tracker("ann", Taken(), {f"c{number}": 1 for number in range(1_200)})
    tracker.live(live(2, "c0"))
    named = tracker.named()
    assert len(named) == 1_000
    assert named["c0"] == 2
    tracker.mark_unnamed(named)
    assert len(tracker.stale) == 200


@st.composite
def scripts(draw: st.DrawFn) -> tuple[int, int, list[tuple[str, int, int, bool]]]:
    """A head, a first position, and what comes: live events and pages, lost, doubled and out of order."""
    head = draw(st.integers(1, 30))
    first = draw(st.integers(0, head))
    step = st.tuples(
        st.sampled_from(["live", "live", "live", "page", "behind", "reset"]),
        st.integers(1, head),
        st.integers(0, 12),
        st.booleans(),
    )
    return head, first, draw(st.lists(step, max_size=60))


@pytest.mark.slow
@given(scripts(), st.integers(1, 40))
def test_every_stream_is_delivered_in_order_once(
    script: tuple[int, int, list[tuple[str, int, int, bool]]], room: int
) -> None:
    head, first, steps = script
    taken = Taken(room)
    tracker = Tracker("ann", taken, {"c": first})
    start = first
    for kind, seq, length, complete in steps:
        if kind == "live":
            tracker.live(live(seq))
        elif kind == "behind":
            tracker.behind("c", tracker.have["c"])
        elif kind == "reset":
            check(taken.seqs, start)
            taken.events.clear()
            start = 0
            tracker.page("c", page(reset=True))
        else:  # a page always starts at a position the client had
            asked = min(seq, tracker.have["c"])
            last = min(head, asked + length)
            tracker.page("c", page(*range(asked + 1, last + 1), complete=complete and last == head))
        if len(taken.events) >= taken.room:
            taken.room += room
    check(taken.seqs, start)
    taken.room = 10_000
    tracker.page("c", page(*range(tracker.have["c"] + 1, head + 1)))
    assert taken.seqs == list(range(start + 1, head + 1))
    assert not tracker.stale


def check(seqs: list[int], start: int) -> None:
    """Dense, ascending, from the start."""
    assert seqs == list(range(start + 1, start + 1 + len(seqs)))
