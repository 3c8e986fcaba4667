"""Calls, looks and answers as they travel. Strict both ways: what does not fit is a problem with a name, never a guess."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

import msgspec

from commands.caller import Answer
from commands.calls import Call
from commands.looks import Look, LookKind
from commands.order import Done, Order
from commands.ownership import NotOwner
from commands.port import Outline
from domain import (
    conversation,
    direct,
    group,
    group_invites,
    group_roster,
    group_settings,
    inbox,
    tenant,
    user,
)
from domain.aggregates import State, restore, snapshot_parts
from domain.errors import STATUS_BY_CODE, FieldError, Problem
from domain.event import Command
from domain.streams import StreamKind, kind_of, qualified
from eventlog.codec import EventCodec, decode_frame
from eventlog.record import KEY_BYTES, Commit, Recorded, Trace
from eventlog.registry import UnknownEventError
from gateways.rpc.generated import minutebook_pb2 as pb

NAME_LENGTH_MAX = 256
WAIT_MS_MAX = 3_600_000

COMMANDS: tuple[type[Command], ...] = (
    conversation.PostMessage, conversation.EditMessage, conversation.RecallMessage, conversation.AddReaction,
    conversation.RemoveReaction, conversation.PinMessage, conversation.UnpinMessage,
    direct.OpenDirect, direct.BlockUser, direct.UnblockUser,
    group.DissolveGroup, group.MuteGroup, group.UnmuteGroup, group.JoinGroup, group.AcceptInvite,
    group_invites.CreateInvite, group_invites.RevokeInvite,
    group_roster.AddMembers, group_roster.RemoveMember, group_roster.LeaveGroup, group_roster.ChangeMember,
    group_roster.TransferOwnership, group_settings.CreateGroup, group_settings.ChangeGroup,
    inbox.MarkRead, inbox.ChangeSettings, inbox.ReflectBlock, inbox.ReflectUnblock, inbox.ReflectProfile,
    inbox.ReflectSessionOpened, inbox.ReflectSessionClosed,
    tenant.CreateTenant, tenant.CreateAppKey, tenant.RevokeAppKey, tenant.DisableTenant, tenant.EnableTenant,
    user.RegisterUser, user.ChangeProfile, user.OpenSession, user.CloseSession, user.ChangePassword, user.Repeat,
)  # fmt: skip
"""What may travel. A shard is opened by its node alone, never by a command from elsewhere."""

_encode = msgspec.json.Encoder().encode
_any_command: Any = reduce(or_, COMMANDS)
_decode = msgspec.json.Decoder(_any_command).decode
_KIND_OF_LOOK = {
    LookKind.PEEK: pb.Look.PEEK,
    LookKind.PEEK_AS: pb.Look.PEEK_AS,
    LookKind.OUTLINE: pb.Look.OUTLINE,
    LookKind.USER_EXISTS: pb.Look.USER_EXISTS,
}
_LOOK_OF_KIND = {kind: look for look, kind in _KIND_OF_LOOK.items()}
Result = Answer | Problem | State | pb.State | Outline | bool
"""What an owner says. A state is packed as soon as it is known: it may be gone when its turn to be written comes."""


def command_bytes(command: Command) -> bytes:
    """The command as JSON; content of messages goes as it is."""
    return _encode(command)


def command_of(data: bytes) -> Command:
    """The command. Raises Problem(`malformed`) for whatever is not exactly one of those that may travel."""
    try:
        data.decode()  # Raw content is only skipped by the decoder: nothing but UTF-8 may get to those who read it later.
        command: Command = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # Without the text: it may quote what was sent.
        raise Problem("malformed", f"the owner cannot read this command ({type(error).__name__})") from None
    return command


# --- face to owner ---


def pack_call(batch: pb.Batch, call: Call, number: int, now: float) -> None:
    """Add a call to a batch; `now` in loop seconds. `call.encoded` must be there."""
    packed = batch.commands.add(
        number=number,
        tenant=call.tenant,
        actor=call.actor,
        name=call.name,
        command=call.encoded,
        key=call.key,
        payload_digest=call.payload_digest,
        keyed=call.keyed,
        importing=call.importing,
        wait_ms=min(max(1, int((call.deadline - now) * 1_000)), WAIT_MS_MAX),
    )
    trace = call.trace
    if trace is not None:
        packed.trace.CopyFrom(
            pb.Trace(
                correlation_id=trace.correlation_id,
                causation_id=trace.causation_id,
                trace_id=trace.trace_id,
            )
        )


def order_of(packed: pb.Command, now: float, done: Done) -> Order:
    """The order of a call. Raises Problem(`malformed`)."""
    key, digest = packed.key, packed.payload_digest
    if len(key) != KEY_BYTES or len(digest) != KEY_BYTES:
        raise Problem("malformed", "a command needs a key and a digest of 16 bytes each")
    tenant_id, name, actor = packed.tenant, packed.name, packed.actor
    _check_names(tenant_id, name, actor)
    order = Order(
        tenant=tenant_id,
        actor=actor,
        stream=qualified(tenant_id, name),
        command=command_of(packed.command),
        key=key,
        client_keyed=packed.keyed,
        payload_digest=digest,
        done=done,
        importing=packed.importing,
        trace=_trace_of(packed.trace) if packed.HasField("trace") else None,
    )
    order.deadline = now + min(packed.wait_ms, WAIT_MS_MAX) / 1_000
    return order


def _trace_of(packed: pb.Trace) -> Trace:
    return Trace(
        packed.correlation_id if packed.HasField("correlation_id") else None,
        packed.causation_id if packed.HasField("causation_id") else None,
        packed.trace_id if packed.HasField("trace_id") else None,
    )


def _check_names(tenant_id: str, name: str, actor: str) -> None:
    """A slash would lead to another tenant's streams."""
    if not tenant_id or not name or not actor or "/" in tenant_id or "/" in name:
        raise Problem("malformed", "a command needs a tenant, a stream and an actor")
    if max(len(tenant_id), len(name), len(actor)) > NAME_LENGTH_MAX:
        raise Problem("malformed", f"names have at most {NAME_LENGTH_MAX} characters")


def pack_look(batch: pb.Batch, look: Look, number: int) -> None:
    """Add a look to a batch."""
    batch.looks.add(
        number=number,
        kind=_KIND_OF_LOOK[look.kind],
        tenant=look.tenant,
        name=look.name,
        user_id=look.user_id,
    )


def look_of(packed: pb.Look) -> Look:
    """The look. Raises Problem(`malformed`)."""
    kind = _LOOK_OF_KIND.get(packed.kind)
    if kind is None:
        raise Problem("malformed", "the owner does not know this kind of look")
    _check_names(packed.tenant, packed.name, packed.user_id or packed.name)
    return Look(kind, packed.tenant, packed.name, packed.user_id)


# --- owner to face ---


def pack_answer(answers: pb.Answers, number: int, result: Result) -> None:
    """Add an answer to a message."""
    add = answers.answers.add
    if isinstance(result, Answer):
        if result.commit is not None:
            add(number=number, frame=result.commit.frame, replayed=result.replayed)
        else:
            add(number=number, nothing=pb.Nothing(stream=result.stream, shard=result.shard))
    elif isinstance(result, Problem):
        add(number=number, problem=_packed_problem(result))
    elif isinstance(result, pb.State):
        add(number=number, state=result)
    elif isinstance(result, Outline):
        outline = pb.Outline(version=result.version, members=result.members, blocked=result.blocked)
        add(number=number, outline=outline)
    else:
        add(number=number, user_exists=bool(result))


def _packed_problem(problem: Problem) -> pb.Problem:
    packed = pb.Problem(
        code=problem.code,
        detail=problem.detail,
        errors=[pb.FieldError(field=error.field, message=error.message) for error in problem.errors],
        retry_after_ms=problem.retry_after_ms,
    )
    if isinstance(problem, NotOwner):
        packed.not_owner.CopyFrom(
            pb.NotOwner(shard=problem.shard, owner=problem.owner or "", epoch=problem.epoch)
        )
    return packed


def packed_state(state: State, bytes_max: int) -> pb.State | Problem:
    """A state for the wire, in the parts of a snapshot; a Problem for one that is too much to carry."""
    kind = kind_of(getattr(state, "stream", ""))
    if kind is None:
        return Problem("not_found", "there is no such conversation")
    schema, parts = snapshot_parts(kind, state)
    if sum(map(len, parts.values())) > bytes_max:
        return Problem("unavailable", "this is too much to ask of another node", retry_after_ms=1_000)
    return pb.State(kind=kind.value, schema=schema, parts=parts)


def result_of(packed: pb.Answer, codec: EventCodec) -> Result:
    """What the owner said. What this node cannot read is a Problem: `outcome_unknown` for a commit, which did happen."""
    match packed.WhichOneof("result"):
        case "frame":
            return _done_of(packed.frame, packed.replayed, codec)
        case "nothing":
            return Answer(packed.nothing.stream, False, packed.nothing.shard)
        case "problem":
            return _problem_of(packed.problem)
        case "state":
            return _state_of(packed.state)
        case "outline":
            outline = packed.outline
            return Outline(outline.version, outline.members, outline.blocked)
        case "user_exists":
            return packed.user_exists
    return Problem("unavailable", "the owner answers what this server cannot read", retry_after_ms=1_000)


def _done_of(frame: bytes, replayed: bool, codec: EventCodec) -> Answer | Problem:
    try:
        return _answer_of(frame, replayed, codec)
    except UnknownEventError:
        return Problem(
            "outcome_unknown", "it was done, but this server cannot read what the owner says of it"
        )


def _answer_of(frame: bytes, replayed: bool, codec: EventCodec) -> Answer:
    stored = decode_frame(frame)
    stream, shard, position, at = stored.stream, stored.shard, stored.position, stored.at
    try:
        key = bytes.fromhex(stored.key)
        digest = bytes.fromhex(stored.payload_digest)
    except ValueError as error:
        raise UnknownEventError(f"not a frame: {error}") from error
    version, number = stored.first_version, stored.first_number
    rows = [
        Recorded(
            stream, version + index, event.seq, number + index, codec.event_of(event, at), shard, position, key,
            event.correlation_id, event.causation_id, event.trace_id,
        )
        for index, event in enumerate(stored.events)
    ]  # fmt: skip
    commit = Commit(shard, position, stored.epoch, stream, version, number, key, digest, at, len(rows), frame)
    return Answer(stream, True, shard, position, at, replayed, tuple(rows), commit)


def _problem_of(packed: pb.Problem) -> Problem:
    retry_after_ms = packed.retry_after_ms if packed.HasField("retry_after_ms") else None
    if packed.HasField("not_owner"):
        refusal = packed.not_owner
        return NotOwner(
            refusal.shard,
            refusal.owner or None,
            refusal.epoch,
            detail=packed.detail,
            retry_after_ms=retry_after_ms or 500,
        )
    if packed.code not in STATUS_BY_CODE:
        return Problem("unavailable", packed.detail, retry_after_ms=retry_after_ms)
    errors = tuple(FieldError(error.field, error.message) for error in packed.errors)
    return Problem(packed.code, packed.detail, errors=errors, retry_after_ms=retry_after_ms)


def _state_of(packed: pb.State) -> State | Problem:
    try:
        state = restore(StreamKind(packed.kind), packed.schema, dict(packed.parts))
    except ValueError:
        state = None
    if state is None:
        return Problem("unavailable", "the owner runs another version of the server", retry_after_ms=1_000)
    return state
