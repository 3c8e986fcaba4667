"""A stream's state as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ops.audit.state import StateAt
from ops.audit.transcript import Said
from ops.cli.output import facts, say, table

_LISTED = frozenset({"members", "former_members"})


def print_state(found: StateAt, version: int | None = None) -> None:
    """On stdout: what it is, its settings, its people, its messages. `version`: the one that was asked for."""
    moment = "now" if version is None else f"version {version}"
    if found.as_of is not None:
        moment = f"{found.as_of}, by the clock of the {found.clock}"
    facts(
        [
            ("stream", f"{found.stream} ({found.kind}, shard {found.shard})"),
            ("as of", moment),
            ("version", f"{found.version}, seq {found.seq}"),
            ("last event", None if found.last_at is None else f"{found.last_at} at {found.position}"),
        ]
    )
    scalars = {name: value for name, value in found.state.items() if name not in _LISTED}
    say("")
    facts(_flat(scalars))
    if "members" in found.state:
        _print_members(found.state["members"], found.state["former_members"])
    if found.messages is not None:
        _print_messages(found.messages)


def _print_members(members: list[dict[str, Any]], former: list[dict[str, Any]]) -> None:
    columns = ("user_id", "role", "alias", "muted_until", "joined_seq")
    rows = [[row[name] for name in columns] for row in members]
    table(("user", "role", "alias", "muted until", "since seq"), rows, f"Members ({len(members)})")
    if former:
        gone = [(row["user_id"], row["left_seq"]) for row in former]
        table(("user", "until seq"), gone, f"Former members ({len(former)})")


def _print_messages(messages: list[Said]) -> None:
    table(
        ("seq", "said at", "author", "message", "marks"),
        [row for said in messages for row in _message_rows(said)],
        f"Messages ({len(messages)})",
    )


def _message_rows(said: Said) -> Iterator[tuple[Any, ...]]:
    moment = said.at if said.origin is None else said.origin["at"]
    text = text_of(said.content)
    marks = "; ".join(_marks(said))
    if not said.edits:
        yield said.seq, moment, said.author, text, marks
        return
    yield said.seq, moment, said.author, text, "; ".join(("first version", *_marks(said)))
    for edit in said.edits:
        yield said.seq, edit.at, said.author, text_of(edit.content), "edited"


def _marks(said: Said) -> Iterator[str]:
    if said.reply_to is not None:
        yield f"reply to {said.reply_to}"
    if said.mentions:
        yield f"mentions {', '.join(said.mentions)}"
    if said.pinned:
        yield "pinned"
    for emoji, users in said.reactions.items():
        yield f"{emoji} {', '.join(users)}"
    if said.recalled is not None:
        yield f"RECALLED by {said.recalled.by} at {said.recalled.at}"


def text_of(content: msgspec.Raw) -> str:
    """A content as text: that of a text, the JSON of anything else."""
    try:
        value = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return bytes(content).decode(errors="replace")
    if isinstance(value, dict) and value.get("kind") == "text" and isinstance(value.get("text"), str):
        return str(value["text"])
    return bytes(content).decode(errors="replace")


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, list):
            yield f"{before}{name}", ", ".join(map(str, value)) or "-"
        else:
            yield f"{before}{name}", "-" if value is None or value == {} else value
