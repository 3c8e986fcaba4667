"""What travels between nodes: everything comes out as it went in, and what was tampered with is a named problem."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import immutables
import msgspec
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from commands.caller import Answer
from commands.calls import Call
from commands.looks import Look, LookKind
from commands.order import Order
from commands.ownership import NotOwner
from commands.port import Outline
from domain.conversation import EditMessage, PostMessage
from domain.errors import STATUS_BY_CODE, FieldError, Problem
from domain.event import Command
from domain.group import GroupState
from domain.group_roster import ChangeMember, Member, Roster
from domain.inbox import InboxState, MarkRead
from domain.shard import OpenShard
from domain.user import ChangeProfile, ProfileChanges, UserState
from eventlog.codec import frame_of, recorded
from eventlog.record import Draft, Head, Trace
from gateways.rpc.encoding import (
    COMMANDS,
    Result,
    command_bytes,
    command_of,
    look_of,
    order_of,
    pack_answer,
    pack_call,
    pack_look,
    packed_state,
    result_of,
)
from gateways.rpc.generated import minutebook_pb2 as pb
from tests.contract.command_house import CODEC
from tests.unit.test_golden import SAMPLES

ROOT = Path(__file__).resolve().parents[3]


def through(result: Result) -> Result:
    """Over the wire."""
    answers = pb.Answers()
    pack_answer(answers, 1, result)
    return result_of(pb.Answers.FromString(answers.SerializeToString()).answers[0], CODEC)


def read(data: bytes) -> str:
    """What becomes of bytes that say they are a command: `command`, or the code of the refusal."""
    try:
        return type(command_of(data)).__base__.__name__.lower()  # type: ignore[union-attr] # it has one
    except Problem as problem:
        return problem.code


def seen(problem: Result) -> tuple[object, ...]:
    """All of a problem."""
    assert isinstance(problem, Problem)
    place = (problem.shard, problem.owner, problem.epoch) if isinstance(problem, NotOwner) else ()
    return type(problem), problem.code, problem.detail, problem.errors, problem.retry_after_ms, place


def test_every_command_of_the_domain_travels_but_the_one_that_opens_a_shard() -> None:
    defined: set[type[Command]] = set()
    for path in sorted((ROOT / "domain").glob("*.py")):
        module = import_module(f"domain.{path.stem}")
        defined |= {
            item
            for _, item in inspect.getmembers(module, inspect.isclass)
            if issubclass(item, Command) and item is not Command
        }
    assert set(COMMANDS) == defined - {OpenShard}


@given(st.sampled_from(COMMANDS), st.data())
def test_commands_come_out_as_they_went_in(kind: type[Command], data: st.DataObject) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    values: dict[str, object] = {}
    for name, field in fields.items():
        if not field.required and data.draw(st.booleans()):
            continue
        values[name] = data.draw(_values(name, field.type, texts))
    command = kind(**values)
    assert command_of(command_bytes(command)) == command


def _values(name: str, hint: object, texts: st.SearchStrategy[str]) -> st.SearchStrategy[object]:
    """Values of a field: enough of each shape that commands have."""
    words = str(hint)
    if name == "content":
        return texts.map(lambda text: msgspec.Raw(msgspec.json.encode({"kind": "text", "text": text})))
    if name == "changes":
        return texts.map(lambda text: ProfileChanges(name=text))
    if name == "origin":
        return st.none()
    if name == "marks":
        return st.dictionaries(texts, st.integers(0, 2**53), max_size=3)
    if name == "reason":
        return st.just("ended")
    if "tuple" in words:
        return st.lists(texts, max_size=3).map(tuple)
    if "bool" in words:
        return st.booleans()
    if "int" in words:
        return st.integers(0, 2**53)
    return texts


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"null",
        b'{"command":"OpenShard","node":"me"}',
        b'{"command":"Command"}',
        b'{"command":"RecallMessage"}',
        b'{"command":"RecallMessage","seq":"1"}',
        b'{"command":"RecallMessage","seq":1.5}',
        b'{"command":"RecallMessage","seq":1,"soon":true}',
        b'{"command":"PostMessage","client_msg_id":"m","content":{"kind":"text","text":"\xff"}}',
        b'{"command":"PostMessage","client_msg_id":"m","content":',
        b"[" * 100_000,
        b'{"command":"MarkRead","marks":' + b'{"a":' * 50_000,
    ],
)
def test_what_is_no_command_is_malformed(data: bytes) -> None:
    with pytest.raises(Problem) as caught:
        command_of(data)
    assert caught.value.code == "malformed"


@given(st.binary(max_size=200))
def test_hostile_bytes_are_a_problem_and_nothing_else(data: bytes) -> None:
    assert read(data) in {"command", "malformed"}
    for message in (pb.Batch, pb.Answers):
        try:
            message.FromString(data)
        except DecodeError:
            continue


@given(st.data())
def test_a_damaged_command_is_read_as_another_one_or_refused(data: st.DataObject) -> None:
    good = bytearray(
        command_bytes(PostMessage(client_msg_id="m1", content=msgspec.Raw(b'{"kind":"text","text":"hi"}')))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    assert read(bytes(good)) in {"command", "malformed"}


def _order(**changes: object) -> Order:
    packed = pb.Command(
        number=1, tenant="default", actor="ann", name="user:ann", command=command_bytes(ChangeProfile(name="Ann")),
        key=bytes(16), payload_digest=bytes(16), keyed=True, wait_ms=1_500,
    )  # fmt: skip
    for name, value in changes.items():
        setattr(packed, name, value)
    return order_of(packed, 100.0, lambda _: None)


def test_an_order_says_all_that_the_call_said() -> None:
    order = _order(importing=True)
    assert (order.tenant, order.actor, order.stream) == ("default", "ann", "user:ann")
    assert (order.key, order.payload_digest, order.client_keyed) == (bytes(16), bytes(16), True)
    assert order.command == ChangeProfile(name="Ann")
    assert order.importing
    assert order.deadline == 101.5
    assert order.trace is None
    assert _order(tenant="acme").stream == "acme/user:ann"


@pytest.mark.parametrize(
    "changes",
    [
        {"key": b""},
        {"key": bytes(17)},
        {"payload_digest": bytes(15)},
        {"tenant": ""},
        {"actor": ""},
        {"name": ""},
        {"name": "acme/user:ann"},
        {"tenant": "a/b"},
        {"name": "g_" + "x" * 300},
        {"command": b"{}"},
    ],
)
def test_an_order_that_leads_elsewhere_is_malformed(changes: dict[str, object]) -> None:
    with pytest.raises(Problem) as caught:
        _order(**changes)
    assert caught.value.code == "malformed"


def test_a_call_says_all_that_the_order_needs() -> None:
    trace = Trace("c", None, "t")
    call = Call(
        number=9, tenant="acme", actor="ann", name="user:ann", stream="acme/user:ann", shard=3,
        command=ChangeProfile(name="Ann"), key=bytes(range(16)), client_keyed=False, payload_digest=bytes(16),
        deadline=102.5, done=lambda _: None, importing=True, trace=trace,
    )  # fmt: skip
    call.encoded = command_bytes(call.command)
    batch = pb.Batch()
    pack_call(batch, call, 1, 100.0)
    call.unsure = True
    pack_call(batch, call, 2, 200.0)
    first, again = pb.Batch.FromString(batch.SerializeToString()).commands
    order = order_of(first, 100.0, lambda _: None)
    assert (order.stream, order.command, order.key) == (call.stream, call.command, call.key)
    assert (order.client_keyed, order.importing, order.trace, order.deadline) == (False, True, trace, 102.5)
    late = order_of(again, 200.0, lambda _: None)
    assert late.client_keyed  # The key is ours, but a try may have happened.
    assert late.deadline == 200.001


@pytest.mark.parametrize("kind", LookKind)
def test_looks_come_out_as_they_went_in(kind: LookKind) -> None:
    look = Look(kind, "acme", "user:ann", "bob")
    batch = pb.Batch()
    pack_look(batch, look, 1)
    assert look_of(pb.Batch.FromString(batch.SerializeToString()).looks[0]) == look


def test_an_unknown_look_is_malformed() -> None:
    with pytest.raises(Problem) as caught:
        look_of(pb.Look(number=1, tenant="default", name="user:ann"))
    assert caught.value.code == "malformed"


@given(
    st.sampled_from(sorted(STATUS_BY_CODE)),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.builds(FieldError, st.just("name"), st.just("too long")), max_size=3).map(tuple),
    st.none() | st.integers(0, 2**31),
)
def test_problems_come_out_as_they_went_in(
    code: str, detail: str, errors: tuple[FieldError, ...], retry_after_ms: int | None
) -> None:
    problem = Problem(code, detail, errors=errors, retry_after_ms=retry_after_ms)
    assert seen(through(problem)) == seen(problem)


@pytest.mark.parametrize(
    "refusal", [NotOwner(3), NotOwner(63, "two", 7), NotOwner(0, "x", 1, detail="going")]
)
def test_so_does_the_news_of_another_owner(refusal: NotOwner) -> None:
    assert seen(through(refusal)) == seen(refusal)


def test_a_code_from_the_future_is_unavailable() -> None:
    answer = pb.Answer(number=1, problem=pb.Problem(code="too_curious", detail="no"))
    assert seen(result_of(answer, CODEC))[:3] == (Problem, "unavailable", "no")


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_answers_come_out_with_their_events(name: str) -> None:
    event = SAMPLES[name]
    draft = Draft(
        "g_1", 5, bytes(range(16)), bytes(16), event.at, (event,), (9,),
        CODEC.encode_events((event,), (9,), Trace("c", None, "t")), Trace("c", None, "t"),
    )  # fmt: skip
    commit = frame_of(draft, "log-1", 3, 2, Head(7, 2, 11))
    rows = recorded(commit, draft.events, draft.seqs, draft.trace).events
    answer = Answer("g_1", True, 3, 8, event.at, True, rows, commit)
    assert through(answer) == answer


def test_an_answer_that_cannot_be_read_is_of_unknown_outcome() -> None:
    for frame in (b"", b"{}", b'{"events":[]}', b"\xff"):
        answer = pb.Answer(number=1, frame=frame)
        assert seen(result_of(answer, CODEC))[1] == "outcome_unknown"
    assert seen(result_of(pb.Answer(number=1), CODEC))[1] == "unavailable"


@pytest.mark.parametrize(
    "state",
    [
        UserState(stream="user:ann", version=3),
        InboxState(stream="inbox:ann", version=3),
        GroupState(stream="g_1", roster=Roster(immutables.Map({"ann": Member("owner", 1, 0)}))),
    ],
)
def test_states_come_out_as_they_went_in(state: UserState | InboxState | GroupState) -> None:
    packed = packed_state(state, 100_000)
    assert through(packed) == state
    assert isinstance(packed_state(state, 10), Problem)
    assert isinstance(packed, pb.State)
    packed.schema += 1
    assert isinstance(through(packed), Problem)
    packed.kind = "pigeon"
    assert isinstance(through(packed), Problem)


def test_outlines_come_out_as_they_went_in() -> None:
    assert through(Outline(3, 100_000, False)) == Outline(3, 100_000, False)
    assert through(True) is True
    assert through(False) is False


def test_what_is_unset_stays_unset() -> None:
    command = ChangeMember(user_id="bob", alias=None)
    assert command_of(command_bytes(command)) == command
    assert command_of(command_bytes(MarkRead(marks={"g_1": 3}))) == MarkRead(marks={"g_1": 3})
    edit = EditMessage(seq=3, content=msgspec.Raw(b'{"kind": "text","text":"  as it was  "}'))
    assert command_of(command_bytes(edit)) == edit
