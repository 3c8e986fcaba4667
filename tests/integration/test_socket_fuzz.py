"""Hostile frames over a real socket: whatever comes, the server answers or closes by the contract, and its log stays quiet."""

from __future__ import annotations

import json
import logging
import random
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.integration.house import House, Line, content

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

FRAMES = 3_000
SOUND = 0.85
"""How often a value is one that could be right: a frame that is wrong everywhere is refused at the first."""
ALLOWED_CLOSES = {4400, 4401}
NAMES = (
    "", "g_", "d_", "me", "other/g_1", "user:ann", "inbox:ann", "tenant:default", "shard-0", "cluster", "a\u0000b",
    "g_\ud7ff", "../g_1", "x" * 300, "g_" + "0" * 32,
)  # fmt: skip
NUMBERS = (0, -1, 1, 2, 3, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 1.0, 1.5, 1e308, True, None, "3")
TEXTS: tuple[object, ...] = (
    "",
    "x",
    "\u0000",
    "\u202e",
    "👍",
    "👍" * 20,
    "x" * 129,
    "x" * 20_000,
    5,
    None,
    [],
    {},
    "\u200b",
)
OPS: dict[str, tuple[str, ...]] = {
    "hello": ("token", "have"),
    "sync": ("have", "limit", "recent", "only", "cursor"),
    "send": ("conversation_id", "to", "client_msg_id", "content", "reply_to", "mentions", "origin"),
    "edit": ("conversation_id", "seq", "content", "key"),
    "recall": ("conversation_id", "seq", "key"),
    "react": ("conversation_id", "seq", "emoji", "key"),
    "unreact": ("conversation_id", "seq", "emoji"),
    "pin": ("conversation_id", "seq"),
    "unpin": ("conversation_id", "seq"),
    "read": ("conversation_id", "seq"),
    "received": ("conversation_id", "seq"),
    "typing": ("conversation_id", "on"),
    "presence": ("users",),
    "ping": (),
    "welcome": (),
}


class Chaos:
    """Frames of the right shape with wrong values, and of no shape at all."""

    def __init__(self, seed: int, group: str) -> None:
        self.chance = random.Random(seed)
        self.group = group

    def value(self, field: str) -> Any:
        """Something for a field, mostly of the right kind."""
        pick = self.chance.choice
        if self.chance.random() < SOUND:
            return self.sound(field)
        if field == "conversation_id":
            return pick(NAMES)
        if field in {"seq", "reply_to", "limit", "recent"}:
            return pick(NUMBERS)
        if field == "content":
            texts = ({"kind": "text", "text": pick(TEXTS)}, {"kind": "custom", "data": pick(NUMBERS)})
            return pick(
                (content("x"), *texts, {"kind": pick(("vote", "call", "system", "", 5))}, pick(TEXTS))
            )
        if field == "have":
            return pick(({}, {self.group: pick(NUMBERS)}, {pick(NAMES): 1}, {"me": 0}, [], None))
        if field in {"mentions", "users"}:
            return pick(([], ["bob"], ["all"], ["bob", "NO"], ["ann"] * 300, [5], "bob", None))
        if field == "to":
            return pick(("bob", "ann", "nobody", "me", "NO", "", "x" * 5_000))
        if field == "origin":
            return pick((None, {"at": "2004-01-01T00:00:00Z", "id": "x"}, {"at": "", "id": ""}, 5))
        if field in {"on", "only"}:
            return pick((True, False, None, 1))
        return pick(TEXTS)

    def sound(self, field: str) -> Any:
        """Something that could be right."""
        pick = self.chance.choice
        return {
            "conversation_id": self.group,
            "seq": pick((2, 3, 4, 5)),
            "reply_to": 3,
            "limit": 10,
            "recent": 2,
            "content": content("x"),
            "have": {self.group: 0},
            "mentions": ["bob"],
            "users": ["bob"],
            "to": "bob",
            "on": True,
            "only": True,
            "emoji": pick("xyz"),
            "client_msg_id": str(self.chance.random()),
        }.get(field)

    def frame(self) -> bytes:
        """One frame."""
        op = self.chance.choice(tuple(OPS))
        frame: dict[str, Any] = {"op": op, "ref": self.chance.choice(("r", None, "x" * 256, "é", ""))}
        for field in OPS[op]:
            value = self.value(field)
            if value is not None or self.chance.random() < 0.1:
                frame[field] = value
        if op == "send":
            frame.pop(self.chance.choice(("to", "conversation_id")), None)
        text = json.dumps(frame, ensure_ascii=self.chance.random() < 0.5)
        if self.chance.random() < 0.03:
            cut = self.chance.randrange(len(text))
            text = (
                text[:cut] + self.chance.choice(('"', "{", "}", "\\ud800", "[" * 40, "NaN", "")) + text[cut:]
            )
        return text.encode("utf-8", "surrogatepass")


async def fresh_line(house: House, token: str, lines: list[Line]) -> Line:
    line = await house.line()
    line.say("hello", token=token)
    await line.next("welcome")
    lines.append(line)
    return line


async def test_no_frame_breaks_anything(house: House, caplog: pytest.LogCaptureFixture) -> None:
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    await ann.post(group)
    seed = random.randrange(2**32)
    chaos = Chaos(seed, group)
    lines: list[Line] = []
    watching = await bob.line({group: 0})
    with capture_logs() as said, caplog.at_level(logging.WARNING, "minutebook.socket"):
        line = await fresh_line(house, ann.token, lines)
        for number in range(FRAMES):
            if line.close_code is not None:
                line = await fresh_line(house, ann.token, lines)
            line.raw(chaos.frame())
            if number % 10 == 9:
                await line.until(_quiet(line, number))
        await watching.settle()
    for ended in lines:
        assert ended.close_code in {None, *ALLOWED_CLOSES}, (
            f"{ended.close_code} {ended.close_reason}, seed {seed}"
        )
    bad = [entry for entry in said if entry["log_level"] in {"warning", "error"}]
    assert not bad, f"{bad[:3]}, seed {seed}"
    assert not caplog.records, f"seed {seed}"
    problems = {frame["problem"]["code"] for ended in lines for frame in ended.of("error")}
    assert problems <= {
        "malformed", "validation_failed", "not_found", "forbidden", "too_large", "conflict", "idempotency_conflict",
        "overloaded",
    }, f"{problems}, seed {seed}"  # fmt: skip
    head = await ann.post(group)
    await watching.next("event", conversation_id=group, seq=head)
    assert watching.seqs(group) == list(range(1, head + 1)), f"seed {seed}"


def _quiet(line: Line, number: int) -> Any:
    """A condition: everything before a ping is answered, or the socket is closed."""
    line.say("ping", ref=f"fuzz-{number}") if line.socket.is_open else None
    return lambda: line.close_code is not None or f"fuzz-{number}" in line.answered
