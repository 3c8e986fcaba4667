"""A gateway that loses sight of the record, by a clock that only the test moves."""

from __future__ import annotations

import pytest

from domain.errors import Problem
from domain.streams import user_stream
from gateways.push.receiver import BrokenStreamError
from gateways.push.settings import PushSettings
from tests.unit.push.world import Gateway, PusherHere, Record, Wire

SETTINGS = PushSettings(linger_s=5.0, queue_commits=50, behind_max=20, held_max=5)


class House:
    """All of it, with a live stream."""

    def __init__(self) -> None:
        self.record = Record()
        self.pusher = PusherHere(self.record, SETTINGS)
        self.gateway = Gateway(self.record, SETTINGS)
        self.receiver = self.gateway.receiver
        self.wire = Wire(self.pusher, self.receiver)

    def blind(self) -> bool:
        """Whether it is stale by now."""
        return self.receiver.stale

    async def pass_time(self, seconds: float) -> None:
        """Nothing is heard meanwhile."""
        self.gateway.now_s += seconds


@pytest.fixture
async def house() -> House:
    made = House()
    await made.wire.settle()
    assert made.receiver.live
    return made


async def test_without_a_word_for_two_seconds_it_is_stale_until_a_probe_comes_back(house: House) -> None:
    await house.pass_time(2.1)
    assert house.blind()
    with pytest.raises(Problem) as refused:
        await house.receiver.settled()
    assert (refused.value.code, refused.value.retry_after_ms) == ("unavailable", 1_000)
    await house.wire.settle()
    assert not house.blind()
    await house.receiver.settled()


async def test_an_echo_counts_from_when_its_probe_was_sent(house: House) -> None:
    """A backlog that is read after a long sleep proves nothing."""
    await house.pass_time(1.0)
    await house.wire.up()
    await house.pass_time(2.5)
    await house.wire.down()
    assert house.blind()


async def test_a_pusher_that_has_lost_sight_of_the_record_proves_nothing_and_is_left(house: House) -> None:
    house.pusher.age_s = 3.0
    await house.pass_time(1.0)
    await house.wire.settle()
    await house.pass_time(1.5)
    assert house.blind()
    await house.receiver.look()
    assert not house.blind(), "the log was reached by itself"


async def test_what_comes_while_it_is_stale_is_kept_back_and_then_delivered(house: House) -> None:
    house.gateway.listen("g_1")
    await house.wire.settle()
    await house.pass_time(2.1)
    place = await house.record.say("g_1")
    house.pusher.catch_up()
    await house.wire.down()
    assert house.gateway.places == []
    await house.wire.settle()
    assert house.gateway.places == [place]


async def test_too_much_that_is_kept_back_ends_the_stream_and_then_everybody_comes_back(house: House) -> None:
    house.gateway.listen("g_1")
    await house.wire.settle()
    await house.pass_time(2.1)
    for _ in range(SETTINGS.held_max + 1):
        await house.record.say("g_1")
    house.pusher.catch_up()
    with pytest.raises(Exception, match="more came"):
        await house.wire.down()
    house.wire.cut()
    await house.receiver.look()
    assert (house.gateway.lost, house.receiver.stale) == (1, False)
    assert house.gateway.heads[0] == house.record.heads[0].position


async def test_the_log_is_read_while_no_pusher_is_there(house: House) -> None:
    house.gateway.listen("g_1")
    await house.wire.settle()
    house.wire.cut()
    places = [await house.record.say("g_1"), await house.record.join("g_2", "bob")]
    await house.receiver.look()
    assert house.gateway.places == places[:1]
    assert house.receiver.refills[0] == 1


async def test_without_pusher_and_log_it_is_stale_and_then_catches_up(house: House) -> None:
    house.gateway.listen("g_1")
    await house.wire.settle()
    house.wire.cut()
    house.record.log.away = True
    place = await house.record.say("g_1")
    await house.pass_time(2.1)
    await house.receiver.look()
    assert house.blind()
    assert house.receiver.problem is not None
    house.record.log.away = False
    await house.receiver.look()
    assert not house.blind()
    assert house.gateway.places == [place]


async def test_a_gateway_that_is_too_far_behind_lets_everybody_go(house: House) -> None:
    house.gateway.listen("g_1")
    await house.wire.settle()
    house.wire.cut()
    for _ in range(SETTINGS.behind_max + 1):
        await house.record.say("g_1")
    reads = house.record.log.reads
    await house.receiver.look()
    assert (house.gateway.lost, house.gateway.places, house.record.log.reads) == (1, [], reads)


async def test_heads_are_compared_and_what_a_pusher_lost_is_read(house: House) -> None:
    house.gateway.listen("g_1")
    await house.wire.settle()
    place = await house.record.say("g_1")
    for _ in range(2):
        assert house.gateway.places == []
        await house.receiver.look()  # The pusher may still bring it: only the second look goes and reads.
    assert house.gateway.places == [place]
    house.pusher.catch_up()
    await house.wire.settle()
    assert house.gateway.places == [place]
    assert house.receiver.counters.repeated == 1


async def test_a_message_that_is_missing_breaks_the_stream(house: House) -> None:
    house.gateway.listen("g_1")
    await house.wire.settle()
    await house.record.say("g_1")
    house.pusher.catch_up()
    assert house.wire.outbox.message() is not None
    house.wire.outbox.echo(1, 0)
    with pytest.raises(Exception, match="follows"):
        await house.wire.down()


async def test_a_reader_that_takes_too_little_is_cut_and_misses_nothing(house: House) -> None:
    house.gateway.listen("g_1")
    await house.wire.settle()
    places = []
    for _ in range(4):
        places += [await house.record.say("g_1") for _ in range(SETTINGS.behind_max - 1)]
        house.pusher.catch_up()
        if house.wire.outbox.ended:
            break
        await house.receiver.look()
        await house.receiver.look()
    assert house.pusher.exchange.counters.cut == 1
    house.wire.cut()
    await house.receiver.look()
    assert (house.gateway.places, house.gateway.lost) == (places, 0)


async def test_what_nobody_wants_any_more_stops_coming_after_a_while(house: House) -> None:
    house.gateway.listen("g_1")
    await house.wire.settle()
    house.gateway.unlisten("g_1")
    assert house.pusher.exchange.gateways == {"gateway-1": 1}
    await house.pass_time(SETTINGS.linger_s + 0.1)
    house.receiver._wants.sweep()
    await house.wire.settle()
    assert house.pusher.exchange.gateways == {"gateway-1": 0}
    await house.record.say("g_1")
    house.pusher.catch_up()
    await house.wire.settle()
    assert house.gateway.places == []
    assert house.pusher.exchange.counters.routed == 0


async def test_one_who_goes_before_his_joining_comes_leaves_no_wish_behind(house: House) -> None:
    bob = user_stream("default", "bob")
    house.gateway.listen(bob)
    await house.wire.settle()
    await house.record.join("g_1", "bob")
    house.pusher.catch_up()
    house.gateway.unlisten(bob)
    await house.wire.settle()
    assert house.pusher.exchange.gateways == {"gateway-1": 1}, "his own stream, for a while"


async def test_a_commit_of_a_large_group_is_sent_once_to_a_gateway(house: House) -> None:
    for name in ("g_1", user_stream("default", "bob"), user_stream("default", "cid")):
        house.gateway.listen(name)
    await house.wire.settle()
    await house.record.join("g_1", "bob")
    await house.record.leave("g_1", "bob")
    house.pusher.catch_up()
    await house.wire.settle()
    assert house.pusher.exchange.counters.routed == 2
    assert len(house.gateway.places) == 2


async def test_what_follows_a_joining_that_is_kept_back_may_come_from_the_log(house: House) -> None:
    house.gateway.listen(user_stream("default", "bob"))
    await house.wire.settle()
    await house.pass_time(2.1)
    joining = await house.record.join("g_1", "bob")
    house.pusher.catch_up()
    await house.wire.down()
    said = await house.record.say("g_1")
    await house.receiver.look()
    assert house.gateway.places == [joining, said]


async def test_what_the_log_does_not_show_yet_is_not_passed_over(house: House) -> None:
    house.gateway.listen("g_1")
    await house.wire.settle()
    house.wire.cut()
    place = await house.record.say("g_1")
    house.pusher.catch_up()
    house.record.log.is_short = True
    wire = Wire(house.pusher, house.receiver)
    with pytest.raises(BrokenStreamError):
        await wire.settle()
    wire.cut()
    assert house.gateway.places == []
    house.record.log.is_short = False
    await Wire(house.pusher, house.receiver).settle()
    assert house.gateway.places == [place]


async def test_a_stream_that_was_given_up_brings_nothing_more(house: House) -> None:
    house.gateway.listen("g_1")
    await house.wire.up()
    house.receiver.broken(house.wire.upstream)
    with pytest.raises(BrokenStreamError):
        await house.wire.down()
    assert not house.wire.upstream.live


async def test_the_last_frames_of_an_account_that_nobody_wants_open_nothing(house: House) -> None:
    bob = user_stream("default", "bob")
    house.gateway.listen(bob)
    await house.wire.settle()
    await house.record.end("bob")
    house.pusher.catch_up()
    house.gateway.unlisten(bob)
    await house.pass_time(SETTINGS.linger_s + 0.1)
    house.receiver._wants.sweep()
    await house.wire.settle()
    await house.receiver.look()
    assert house.gateway.places == []


async def test_a_gateway_that_was_cut_is_forgotten_whoever_joined_meanwhile(house: House) -> None:
    bob = user_stream("default", "bob")
    house.gateway.listen(bob)
    await house.wire.settle()
    house.wire.outbox.end("it takes too little")
    await house.record.join("g_1", "bob")
    house.pusher.catch_up()
    house.wire.cut()
    assert house.wire.outbox.streams == set()
    await house.record.say("g_1")
    house.pusher.catch_up()
    assert house.pusher.exchange.counters.routed == 1, "the joining, and nothing after it"


async def test_a_joining_that_the_log_brought_first_leaves_no_wish_behind(house: House) -> None:
    house.gateway.listen(user_stream("default", "bob"))
    await house.wire.settle()
    joining = await house.record.join("g_1", "bob")
    for _ in range(2):
        await house.receiver.look()
    assert house.gateway.places == [joining]
    house.gateway.unlisten("g_1")
    await house.pass_time(SETTINGS.linger_s + 0.1)
    house.receiver._wants.sweep()
    await house.wire.settle()
    house.pusher.catch_up()
    await house.wire.settle()
    assert house.pusher.exchange.gateways == {"gateway-1": 1}, "his own stream"
