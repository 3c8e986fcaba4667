"""Decoding: what a reader wants of a frame, and what is refused."""

from __future__ import annotations

import msgspec
import pytest

from domain.event import Event
from domain.talk import MessagePosted, MessageRecalled, Origin
from eventlog.codec import EventCodec, frame_of
from eventlog.record import Commit, Draft, Head
from eventlog.registry import Registry, UnknownEventError
from eventlog.sealing import PlainSealing
from tests.unit.domain.samples import FULL

CODEC = EventCodec(Registry([type(event) for event in FULL]), PlainSealing())
POSTED = MessagePosted(
    actor='quo"te',
    at=7,
    message_id="m1",
    ordinal=1,
    client_msg_id="c1",
    content=msgspec.Raw(b'{"kind":"text", "text":"\\u00e9"}'),
    origin=Origin(at=5, id="old"),
)
RECALLED = MessageRecalled(actor="bob", at=7, target=1)


def committed(*events: Event) -> Commit:
    """A commit of these events at the time 7."""
    seqs = list(range(1, len(events) + 1))
    draft = Draft("g_1", 1, bytes(16), bytes(32), 7, events, seqs, CODEC.encode_events(events, seqs))
    return frame_of(draft, "log", 0, 1, Head())


def changed(commit: Commit, old: bytes, new: bytes) -> Commit:
    assert old in commit.frame
    return msgspec.structs.replace(commit, frame=commit.frame.replace(old, new))


def test_only_wanted_types_have_their_content() -> None:
    commit = committed(POSTED, RECALLED)
    whole = [row.event for row in CODEC.decode(commit).events]
    assert whole == [POSTED, RECALLED]
    posted, recalled = (row.event for row in CODEC.decode(commit, {"message_recalled"}).events)
    assert recalled == RECALLED
    assert (posted.TYPE, posted.actor, posted.at, posted.PUBLIC) == ("message_posted", 'quo"te', 7, True)
    assert posted.__struct_fields__ == ("actor", "at")


def test_every_type_has_a_bare_form() -> None:
    for event in FULL:
        stored = committed(msgspec.structs.replace(event, at=7))
        (row,) = CODEC.decode(stored, ()).events
        assert (row.event.TYPE, row.event.actor, row.event.at) == (event.TYPE, event.actor, 7)
        assert row == msgspec.structs.replace(CODEC.decode(stored).events[0], event=row.event)


@pytest.mark.parametrize("contents", [None, (), ("message_recalled",)])
@pytest.mark.parametrize(
    "old, new",
    [
        (b'"type":"message_recalled"', b'"type":"message_unsaid"'),
        (b'"schema":1', b'"schema":9'),
        (b'"schema":1', b'"schema":0'),
        (b'"events":[', b'"events":[3,'),
    ],
)
def test_a_type_or_version_of_the_future_is_refused_whatever_is_wanted(
    contents: tuple[str, ...] | None, old: bytes, new: bytes
) -> None:
    with pytest.raises(UnknownEventError):
        CODEC.decode(changed(committed(RECALLED), old, new), contents)


@pytest.mark.parametrize("new", [b'"target":"x"', b'"target":1,"more":2', b'"goal":1'])
def test_content_that_does_not_fit_is_refused_when_it_is_wanted(new: bytes) -> None:
    commit = changed(committed(RECALLED), b'"target":1', new)
    with pytest.raises(UnknownEventError):
        CODEC.decode(commit)
    assert CODEC.decode(commit, ()).events[0].event.TYPE == "message_recalled"


def test_no_content_takes_the_envelopes_place() -> None:
    commit = changed(committed(RECALLED), b'"target":1', b'"target":1,"actor":"eve","at":1')
    event = CODEC.decode(commit).events[0].event
    assert (event.actor, event.at) == ("bob", 7)
