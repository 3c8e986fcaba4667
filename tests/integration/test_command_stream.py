"""The command stream when something is wrong: strangers, hostile bytes, cuts, full queues, owners that are none."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable

import grpc
import msgspec
import pytest

from commands.caller import Answer, Keyed
from commands.settings import NodeSettings
from domain.errors import Problem
from domain.user import RegisterUser
from eventlog.memory import MemoryLog
from gateways.rpc.generated import minutebook_pb2 as pb
from gateways.rpc.handshake import VERSION, Identity
from tests.contract.command_house import (
    CODEC,
    FAST_NODE,
    FAST_ROUTER,
    FAST_RPC,
    SHARDS,
    WAIT_S,
    House,
    Owner,
    caller,
    face,
    keyed,
    open_pair,
    owner,
    post,
    register,
)
from tests.faulty_log import Fault, FaultyLog
from tests.integration.command_wire import PATH, packed, raw_face, wire

pytestmark = pytest.mark.slow
EVERYTHING = f"0-{SHARDS - 1}"
FACE = Identity("face", "log-1", SHARDS)
IMPATIENT = msgspec.structs.replace(FAST_ROUTER, deadline_s=0.3, look_s=0.3)


@pytest.fixture
def log() -> MemoryLog:
    """An empty log."""
    return MemoryLog("log-1", SHARDS)


@pytest.fixture
async def one(log: MemoryLog) -> AsyncIterator[Owner]:
    """An owner of everything."""
    async with owner(log) as made:
        yield made


async def code_of(house: House, user: str = "ann") -> str:
    """How a registration through the house ends: `done`, or the code of the refusal."""
    try:
        await house.router.execute(caller(user), f"user:{user}", RegisterUser(), Keyed("register", user))
    except Problem as problem:
        return problem.code
    return "done"


async def next_moment() -> None:
    """Let other tasks and threads work for a moment."""
    moment = asyncio.Event()
    asyncio.get_running_loop().call_later(0.001, moment.set)
    await moment.wait()


async def until(what: Callable[[], bool]) -> None:
    """Wait for what other tasks bring about."""
    async with asyncio.timeout(WAIT_S):
        while not what():
            await next_moment()


async def events_of(log: MemoryLog | FaultyLog, stream: str) -> list[str]:
    """The client ids of the messages of a stream, in the log's order; checked for dense positions and versions."""
    found: list[str] = []
    for shard in range(SHARDS):
        commits = await log.read_shard(shard, 0, 5_000)
        assert [commit.position for commit in commits] == list(range(1, len(commits) + 1))
        epochs = [commit.epoch for commit in commits]
        assert epochs == sorted(epochs)
        rows = [row for commit in commits if commit.stream == stream for row in CODEC.decode(commit).events]
        if rows:
            assert [row.version for row in rows] == list(range(1, len(rows) + 1))
            found += [row.event.client_msg_id for row in rows if hasattr(row.event, "client_msg_id")]
    return found


# --- who is there ------------------------------------------------------------------------------------------------------------------


async def test_whoever_does_not_know_the_secret_is_not_heard(one: Owner, log: MemoryLog) -> None:
    rows = {"one": (one.address, EVERYTHING)}
    async with face(log, rows, secret=b"another secret, as long", router=IMPATIENT) as house:
        assert await code_of(house) == "unavailable"
        peer = house.peers.peer("one", one.address)
        assert peer.problem is not None
        assert "wrong secret" in peer.problem
        assert "another secret" not in peer.problem
    assert one.server is not None
    assert one.server.links == []


async def test_an_owner_that_does_not_know_the_secret_is_not_asked(log: MemoryLog) -> None:
    async with (
        owner(log, secret=b"another secret, as long") as one,
        face(log, {"one": (one.address, EVERYTHING)}, router=IMPATIENT) as house,
    ):
        assert await code_of(house) == "unavailable"


async def test_a_secret_must_not_be_guessable(log: MemoryLog) -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        async with face(log, {"one": ("127.0.0.1:1", EVERYTHING)}, secret=b"short"):
            pass


async def test_nodes_of_another_log_are_refused(one: Owner) -> None:
    other = MemoryLog("log-2", SHARDS)
    async with face(other, {"one": (one.address, EVERYTHING)}, router=IMPATIENT) as house:
        assert await code_of(house) == "unavailable"
        assert "another log" in str(house.peers.peer("one", one.address).problem)


async def test_another_node_at_the_address_is_not_asked(one: Owner, log: MemoryLog) -> None:
    async with face(log, {"two": (one.address, EVERYTHING)}, router=IMPATIENT) as house:
        assert await code_of(house) == "unavailable"
        assert "another node answers there: 'one'" in str(house.peers.peer("two", one.address).problem)


async def test_a_handshake_cannot_be_played_again(one: Owner) -> None:
    async with raw_face(one.address, FACE) as first:
        proof = await first.greet()
        hello = first.hello
    async with raw_face(one.address, FACE) as second:
        second.hello = hello
        with pytest.raises((grpc.aio.AioRpcError, AssertionError)):
            await second.greet(proof=proof)
        assert (await second.ended())[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_an_owner_cannot_be_played_either(one: Owner) -> None:
    """What it proves covers our nonce: two handshakes never end in the same proof."""
    welcomes = set()
    for _ in range(3):
        async with raw_face(one.address, FACE) as raw:
            await raw.say(pb.Batch(version=VERSION, hello=raw.hello))
            challenge = (await raw.hear()).challenge
            welcomes.add(challenge.nonce)
    assert len(welcomes) == 3


@pytest.mark.parametrize(
    "batch,why",
    [
        (pb.Batch(version=VERSION, looks=[pb.Look(number=1)]), "expected hello"),
        (pb.Batch(version=VERSION, proof=pb.Proof(mac=b"x")), "expected hello"),
        (pb.Batch(version=VERSION + 1, hello=pb.Hello(node="x")), "speaks version 1"),
        (pb.Batch(version=VERSION, hello=pb.Hello(node="")), "needs an id"),
        (pb.Batch(version=VERSION, hello=pb.Hello(node="x" * 500)), "needs an id"),
        (pb.Batch(version=VERSION, hello=pb.Hello(node="x", nonce=b"short")), "malformed hello"),
    ],
)
async def test_nothing_is_heard_before_the_handshake(one: Owner, batch: pb.Batch, why: str) -> None:
    async with raw_face(one.address, FACE) as raw:
        await raw.say(batch)
        code, details = await raw.ended()
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert why in details


async def test_a_stranger_that_says_nothing_is_sent_away(log: MemoryLog) -> None:
    quick = msgspec.structs.replace(FAST_RPC, connect_s=0.05)
    async with owner(log, rpc=quick) as one, raw_face(one.address, FACE) as raw:
        assert await raw.ended() == (grpc.StatusCode.UNAUTHENTICATED, "the handshake took too long")


async def test_an_older_link_of_a_process_is_not_taken_beside_a_newer_one(one: Owner) -> None:
    async with raw_face(one.address, FACE) as newer, raw_face(one.address, FACE) as older:
        newer.hello.link = 2
        older.hello.incarnation = newer.hello.incarnation
        await newer.greet()
        await older.greet()
        code, details = await older.ended()
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert "newer link" in details


async def test_anybody_may_ask_whether_a_node_is_there(one: Owner) -> None:
    async with grpc.aio.insecure_channel(one.address) as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[pb.WhoAmIRequest, pb.WhoAmIReply] = channel.unary_unary(
            "/minutebook.rpc.v1.Owner/WhoAmI",
            request_serializer=pb.WhoAmIRequest.SerializeToString,
            response_deserializer=pb.WhoAmIReply.FromString,
        )
        reply = await method(pb.WhoAmIRequest())
    assert reply == pb.WhoAmIReply(version=1, node="one", serving=True)


async def test_two_nodes_on_one_port_are_told(one: Owner, log: MemoryLog) -> None:
    other = Owner(log, "two")
    with pytest.raises(OSError, match="cannot listen at"):
        await other.serve(port=one.port)


# --- hostile bytes -----------------------------------------------------------------------------------------------------------------


async def works(one: Owner, log: MemoryLog, user: str = "ann") -> None:
    """The owner still serves."""
    async with face(log, {"one": (one.address, EVERYTHING)}) as house:
        assert await code_of(house, user) == "done"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x00\x00\x00\x00\x00\x01half",
        bytes(1_000),
    ],
)
async def test_half_a_frame_harms_nobody(one: Owner, log: MemoryLog, data: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write(data)
    await writer.drain()
    writer.transport.abort()
    await works(one, log)


async def test_a_message_that_is_none_ends_its_stream_alone(one: Owner, log: MemoryLog) -> None:
    async with grpc.aio.insecure_channel(one.address) as channel:
        method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(PATH)
        stream = method()
        await stream.write(b"\xff\xff\xff not a batch")
        assert await stream.code() is not grpc.StatusCode.OK
    await works(one, log)


async def test_a_giant_batch_ends_its_link_and_changes_nothing(one: Owner, log: MemoryLog) -> None:
    count = one.rpc.batch_commands + 1
    async with raw_face(one.address, FACE) as raw:
        await raw.greet()
        commands = [
            packed(n, f"user:u{n}", f"u{n}", RegisterUser(), n.to_bytes(16)) for n in range(1, count + 1)
        ]
        await raw.say(pb.Batch(version=VERSION, commands=commands))
        code, details = await raw.ended()
        assert (code, details) == (grpc.StatusCode.INVALID_ARGUMENT, "a batch has at most 256 commands")
    assert (await one.desk.peek("default", "user:u1")).version == 0
    await works(one, log)


async def test_a_message_beyond_all_bounds_is_not_even_read(one: Owner, log: MemoryLog) -> None:
    async with raw_face(one.address, FACE) as raw:
        await raw.greet()
        # The raw face has the same bound: it must be lifted to be so rude.
    async with grpc.aio.insecure_channel(
        one.address, options=[("grpc.max_send_message_length", -1)]
    ) as channel:
        method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(PATH)
        stream = method()
        await stream.write(bytes(one.rpc.message_bytes_max + 1))
        assert await stream.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await works(one, log)


async def test_a_command_that_cannot_be_read_is_refused_alone(one: Owner) -> None:
    async with raw_face(one.address, FACE) as raw:
        await raw.greet()
        good = packed(2, "user:ann", "ann", RegisterUser(), bytes(16))
        bad = packed(1, "user:ann", "ann", RegisterUser(), bytes(16))
        bad.command = b'{"command":"OpenShard","node":"me"}'
        foreign = packed(3, "acme/user:ann", "ann", RegisterUser(), bytes(16))
        control = packed(4, "shard-1", "ann", RegisterUser(), bytes(16))
        await raw.say(
            pb.Batch(version=VERSION, commands=[bad, good, foreign, control], looks=[pb.Look(number=5)])
        )
        heard: dict[int, pb.Answer] = {}
        while len(heard) < 5:
            heard |= {answer.number: answer for answer in (await raw.hear()).answers}
    codes = {number: answer.problem.code for number, answer in heard.items()}
    assert codes == {1: "malformed", 2: "", 3: "malformed", 4: "not_found", 5: "malformed"}
    assert heard[2].frame


# --- cuts --------------------------------------------------------------------------------------------------------------------------


async def test_an_answer_that_got_lost_is_asked_for_again_with_the_same_key(
    one: Owner, log: MemoryLog
) -> None:
    async with wire(one.port) as line, face(log, {"one": (line.address, EVERYTHING)}) as house:
        name = await open_pair(house.router, "ann", "bob")
        for number, client_key in enumerate(["m1", None, "m3", None]):
            line.muted = True
            heads = one.desk.head_positions()
            sent = asyncio.gather(
                house.router.execute(caller("ann"), name, post(f"m{number}"), keyed(name, client_key))
            )
            await until(lambda heads=heads: one.desk.head_positions() != heads)  # type: ignore[misc]
            line.cut()
            answer = (await sent)[0]
            assert (answer.seq, answer.replayed) == (2 + number, True)
        assert await events_of(log, name) == ["m0", "m1", "m2", "m3"]
        assert house.router.counters.links_lost >= 4


async def test_a_command_cut_off_before_the_flush_is_not_done_twice() -> None:
    log = FaultyLog(MemoryLog("log-1", SHARDS))
    async with (
        owner(log) as one,
        wire(one.port) as line,
        face(log, {"one": (line.address, EVERYTHING)}) as house,
    ):
        name = await open_pair(house.router, "ann", "bob")
        log.plan(Fault.SLOW)
        begun = log.appends
        sent = asyncio.gather(
            *[
                house.router.execute(
                    caller("ann"), name, post(f"m{n}"), keyed(name, None if n % 2 else f"m{n}")
                )
                for n in range(20)
            ]
        )
        await log.begun(begun + 1)
        line.cut()
        await until(lambda: house.router.counters.retries >= 20)
        log.release()
        answers = await sent
        assert [answer.seq for answer in answers] == list(range(2, 22))
        assert await events_of(log, name) == [f"m{n}" for n in range(20)]


async def test_calls_wait_for_an_owner_that_restarts(log: MemoryLog) -> None:
    async with owner(log) as one, face(log, {"one": (one.address, EVERYTHING)}) as house:
        name = await open_pair(house.router, "ann", "bob")
        port = one.port
        await one.close()
        sent = asyncio.gather(
            *[
                house.router.execute(caller("ann"), name, post(f"m{n}"), keyed(name, f"m{n}"))
                for n in range(9)
            ]
        )
        await until(lambda: house.router.counters.retries > 20)
        again = Owner(log, "one")
        await again.node.open()
        await again.serve(port=port)
        try:
            assert [answer.seq for answer in await sent] == list(range(2, 11))
        finally:
            await again.close()


async def test_time_runs_out_for_what_was_never_sent_and_for_what_was(one: Owner, log: MemoryLog) -> None:
    async with wire(one.port) as line:
        async with face(log, {"one": (line.address, EVERYTHING)}, router=IMPATIENT) as house:
            assert await code_of(house) == "done"
            line.muted = True
            assert await code_of(house, "bob") == "outcome_unknown"
        line.refusing = True
        line.cut()
        async with face(log, {"one": (line.address, EVERYTHING)}, router=IMPATIENT) as house:
            assert await code_of(house, "cleo") == "unavailable"
            with pytest.raises(Problem) as caught:
                await house.router.peek("default", "user:ann")
            assert caught.value.code == "unavailable"


async def test_a_face_that_closes_answers_everything(one: Owner, log: MemoryLog) -> None:
    results: list[Answer | Problem] = []
    async with wire(one.port) as line, face(log, {"one": (line.address, EVERYTHING)}) as house:
        await register(house.router, "ann")
        line.muted = True
        for user in ("u1", "u2"):
            house.router.submit(
                caller(user), f"user:{user}", RegisterUser(), Keyed("register", user), results.append
            )
        await until(lambda: one.desk.peek_hot("default", "user:u2") is not None)
    assert [isinstance(result, Problem) and result.code for result in results] == ["outcome_unknown"] * 2
    assert house.router.open_calls == 0


async def test_an_owner_that_stops_answers_what_is_under_way() -> None:
    log = FaultyLog(MemoryLog("log-1", SHARDS))
    async with owner(log) as one, face(log, {"one": (one.address, EVERYTHING)}, router=IMPATIENT) as house:
        await register(house.router, "ann")
        log.plan(Fault.SLOW)
        begun = log.appends
        async with asyncio.TaskGroup() as group:
            first = group.create_task(code_of(house, "bob"))
            await log.begun(begun + 1)
            stopping = group.create_task(one.hang_up())
            await asyncio.sleep(0)
            second = group.create_task(code_of(house, "cleo"))
            await asyncio.sleep(0)
            log.release()
            await stopping
        assert first.result() == "done"
        assert second.result() == "unavailable"
        assert (await one.desk.peek("default", "user:cleo")).version == 0
        assert house.peers.peer("one", one.address).problem in {"the owner hung up", "nobody answers there"}


# --- bounds ------------------------------------------------------------------------------------------------------------------------


async def test_an_owner_reads_no_more_than_it_may_hold() -> None:
    log = FaultyLog(MemoryLog("log-1", SHARDS))
    narrow = msgspec.structs.replace(FAST_RPC, in_flight=8, batch_commands=4)
    async with owner(log, rpc=narrow) as one:
        assert one.server is not None
        async with face(log, {"one": (one.address, EVERYTHING)}, rpc=narrow) as house:
            name = await open_pair(house.router, "ann", "bob")
            log.plan(Fault.SLOW)
            begun = log.appends
            sent = asyncio.gather(
                *[
                    house.router.execute(caller("ann"), name, post(f"m{n}"), keyed(name, f"m{n}"))
                    for n in range(200)
                ]
            )
            await log.begun(begun + 1)
            peer = house.peers.peer("one", one.address)
            await until(lambda: peer.counters.commands >= 100 or one.server is None)
            assert one.server.in_flight <= 8 + 4
            log.release()
            assert [answer.seq for answer in await sent] == list(range(2, 202))


@pytest.mark.parametrize("full", ["router", "peer", "node"])
async def test_a_full_queue_refuses_with_a_hint(full: str) -> None:
    log = FaultyLog(MemoryLog("log-1", SHARDS))
    node = msgspec.structs.replace(FAST_NODE, queue_orders=5) if full == "node" else FAST_NODE
    router = msgspec.structs.replace(FAST_ROUTER, calls_max=5) if full == "router" else FAST_ROUTER
    rpc = msgspec.structs.replace(FAST_RPC, queue_commands=5) if full == "peer" else FAST_RPC
    async with (
        owner(log, node=node) as one,
        face(log, {"one": (one.address, EVERYTHING)}, router=router, rpc=rpc) as house,
    ):
        name = await open_pair(house.router, "ann", "bob")
        log.plan(Fault.SLOW)
        results: list[Answer | Problem] = []
        for number in range(9):
            house.router.submit(
                caller("ann"), name, post(f"m{number}"), keyed(name, f"m{number}"), results.append
            )
        await until(lambda: len(results) == 4)
        log.release()
        await until(lambda: len(results) == 9)
        problems = [result for result in results if isinstance(result, Problem)]
        assert [(problem.code, problem.retry_after_ms) for problem in problems] == [("overloaded", 250)] * 4
        assert await events_of(log, name) == [f"m{n}" for n in range(5)]


async def test_a_command_too_large_to_carry_is_refused_before_it_is_sent(one: Owner, log: MemoryLog) -> None:
    async with face(log, {"one": (one.address, EVERYTHING)}) as house:
        name = await open_pair(house.router, "ann", "bob")
        with pytest.raises(Problem) as caught:
            await house.router.execute(caller("ann"), name, post("x" * 600_000), keyed(name, "m1"))
        assert caught.value.code == "too_large"
        answer = await house.router.execute(caller("ann"), name, post("hi"), keyed(name, "m1"))
        assert answer.seq == 2


# --- owners that are none ----------------------------------------------------------------------------------------------------------


async def test_a_stale_map_leads_to_the_owner_all_the_same(log: MemoryLog) -> None:
    async with owner(log) as one, owner(log, "two") as two:
        rows = {"one": (one.address, EVERYTHING), "two": (two.address, EVERYTHING)}
        del rows["two"]
        async with face(log, rows) as stale:
            stale.rows.append(type(stale.rows[0])("two", two.address, ""))
            stale.rows[:] = [
                type(stale.rows[0])("one", one.address, f"0-{SHARDS - 2}"),
                type(stale.rows[0])("two", two.address, str(SHARDS - 1)),
            ]
            await stale.ownership.refresh()
            name = await open_pair(stale.router, "ann", "bob")
            answers = [
                await stale.router.execute(caller("ann"), name, post(f"m{n}"), keyed(name, f"m{n}"))
                for n in range(3)
            ]
            assert [answer.seq for answer in answers] == [2, 3, 4]
            assert stale.ownership.current().of(answers[0].shard).node == "two"
            assert await events_of(log, name) == ["m0", "m1", "m2"]
            assert (await stale.router.peek("default", "user:ann")).version == 1


async def test_a_map_that_is_put_right_is_followed(log: MemoryLog) -> None:
    async with (
        owner(log, "two") as two,
        owner(log, "three", ()) as three,
        face(log, {"three": (three.address, EVERYTHING)}) as house,
    ):
        async with asyncio.TaskGroup() as group:
            pending = group.create_task(code_of(house))
            await until(lambda: house.router.counters.not_owner > 3)
            house.rows[:] = [type(house.rows[0])("two", two.address, EVERYTHING)]
        assert pending.result() == "done"


async def test_heads_of_what_others_wrote_are_told(one: Owner, log: MemoryLog) -> None:
    rows = {"one": (one.address, EVERYTHING)}
    async with face(log, rows) as house, face(log, rows, name="other") as other:
        await register(house.router, "ann")
        await register(other.router, "bob")
        await until(lambda: dict(house.router.head_positions()) == dict(one.desk.head_positions()))
        await until(lambda: dict(other.router.head_positions()) == dict(one.desk.head_positions()))


async def test_two_owners_of_the_same_shards_by_mistake(log: MemoryLog) -> None:
    """One wins by the fence, the other steps down; whatever was acknowledged is in the log, once, in order."""
    async with owner(log, "one") as one:
        rows = {"one": (one.address, f"0-{SHARDS - 2}"), "two": ("127.0.0.1:1", str(SHARDS - 1))}
        async with face(log, rows) as house:
            house.rows[:] = [type(house.rows[0])("one", one.address, EVERYTHING)]
            await house.ownership.refresh()
            name = await open_pair(house.router, "ann", "bob")
            numbers = itertools.count()
            acked: dict[int, Answer] = {}

            async def talk() -> None:
                for number in itertools.islice(numbers, 150):
                    content = post(f"m{number}")
                    acked[number] = await house.router.execute(
                        caller("ann"), name, content, keyed(name, f"m{number}")
                    )

            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(talk())
                await until(lambda: len(acked) > 100)
                two = await _opened_beside(log, house)
                await until(lambda: len(acked) > 400)
                three = await _opened_beside(log, house, "three")
            try:
                found = await events_of(log, name)
                assert sorted(found) == sorted(f"m{number}" for number in acked)
                seqs = {f"m{number}": answer.seq for number, answer in acked.items()}
                assert [seqs[client_id] for client_id in found] == list(range(2, len(found) + 2))
                with pytest.raises(Problem) as caught:
                    await one.desk.peek("default", name)
                assert (type(caught.value).__name__, caught.value.code) == ("NotOwner", "unavailable")
                assert house.router.counters.not_owner > 0
            finally:
                await two.close()
                await three.close()


async def _opened_beside(log: MemoryLog, house: House, name: str = "two") -> Owner:
    """Another owner of everything, which the face's settings know of (though not what it owns)."""
    made = Owner(log, name, NodeSettings(flush_pace_ms=0.0))
    await made.node.open()
    await made.serve()
    known = house.rows[0]
    house.rows[:] = [
        type(known)(known.node, known.address, f"0-{SHARDS - 2}"),
        type(known)(name, made.address, str(SHARDS - 1)),
    ]
    await house.ownership.refresh()
    return made
