"""One line of an IRC channel log as an item: pure and total, every line becomes exactly one item.

Formats met in fourteen years of #ubuntu:

[hh:mm] <nick> text                          a message (also `-nick:#channel- text` and `(nick/#channel)
text`) [hh:mm]  * nick text                         an action; in logs up to 2007 `=== nick text` === nick
[user@host]  has joined #channel === nick [user@host]  has left #channel ["reason"] === nick is now known as
other === mode/#channel [+o nick]  by other

The logger of the early years put a space behind each `]` of a nickname: `bur[n] er` was `bur[n]er`. The host
part is read over and never kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from domain.text import visible

TEXT_BYTES_MAX = 15 * 1024
MODES_A_LINE_MAX = 16

_TIMED = re.compile(r"\[(\d\d):(\d\d)\](?: (.*))?", re.DOTALL)
_SAID = re.compile(r"<([^>]+)>(?: (.*))?", re.DOTALL)
_NOTICE = re.compile(r"-([^:\s]+):#\S*- (.*)", re.DOTALL)
_RELAYED = re.compile(r"\((\S+)/#\S*\) (.*)", re.DOTALL)
_ACTION = re.compile(r" \* (\S+)(?: (.*))?", re.DOTALL)
_MEMBERSHIP = re.compile(r"=== (.+?) +\[[^ ].*\] +has (joined|left) #\S+(?: .*)?", re.DOTALL)
_RENAME = re.compile(r"=== (.+?) +is now known as (.+?) *")
_MODE = re.compile(r"=== mode/#\S+ \[(\S+)(?: (.*?))? *\] +by .*")
_HOST = re.compile(r"\[[^ ].*@.*\] +has (joined|left)")
_TOPIC = re.compile(r"=== (?:\.\.\[topic/|\S+ changed the topic of )")
_NETWORK = re.compile(r"=== (?:netjoined|netsplit): ")
_NICKNAME = re.compile(r"[A-Za-z0-9\[\]\\`_^{|}~-][A-Za-z0-9\[\]\\`_^{|}~.-]*")
_MODES_WITH_NAME = frozenset("ovhbqeIk")


@dataclass(frozen=True, slots=True)
class Said:
    """A message, or an action; `minute` of the day, None where the line has no time."""

    number: int
    nick: str
    text: str
    minute: int | None
    action: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """Somebody came."""

    number: int
    nick: str


@dataclass(frozen=True, slots=True)
class Left:
    """Somebody left."""

    number: int
    nick: str


@dataclass(frozen=True, slots=True)
class Renamed:
    """Somebody goes by another nickname from now on."""

    number: int
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mode:
    """Operators made (True) and unmade (False), in order."""

    number: int
    operators: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line that is not brought in, and why; `minute` still moves the clock."""

    number: int
    reason: str
    minute: int | None = None


Item = Said | Joined | Left | Renamed | Mode | Skipped


def read_log(data: bytes) -> list[Item]:
    """The items of a whole file, one for each line, numbered from 0; bytes that are no UTF-8 are replaced."""
    lines = data.decode("utf-8", "replace").split("\n")
    if lines[-1] == "":
        lines.pop()
    return [read_line(number, line) for number, line in enumerate(lines)]


def read_line(number: int, line: str) -> Item:
    """The item of one line."""
    line = line.removesuffix("\r")
    if not line.strip():
        return Skipped(number, "empty line")
    timed = _TIMED.fullmatch(line)
    if timed is not None:
        return _spoken(number, timed)
    if line.startswith("=== "):
        return _system(number, line)
    return Skipped(number, "unreadable line")


def read_annotations(text: str) -> dict[int, list[int]]:
    """The lines that each line answers, ascending; `A A -` (a start) and unreadable rows answer nothing."""
    answers: dict[int, set[int]] = {}
    for row in text.splitlines():
        match row.split():
            case [first, second, *_] if first.isdecimal() and second.isdecimal() and first != second:
                earlier, later = sorted((int(first), int(second)))
                answers.setdefault(later, set()).add(earlier)
    return {later: sorted(earlier) for later, earlier in answers.items()}


def plain_nick(shown: str) -> str | None:
    """The nickname without the logger's spaces behind `]`; None if it is none."""
    nick = shown.replace("] ", "]").strip()
    return nick if _NICKNAME.fullmatch(nick) and len(nick) <= 128 else None


def _spoken(number: int, timed: re.Match[str]) -> Item:
    hour, minute, rest = int(timed[1]), int(timed[2]), timed[3] or ""
    at = hour * 60 + minute
    if hour > 23 or minute > 59:
        return Skipped(number, "impossible time")
    for pattern, action in ((_SAID, False), (_ACTION, True), (_NOTICE, False), (_RELAYED, False)):
        match = pattern.fullmatch(rest)
        nick = plain_nick(match[1]) if match is not None else None
        if match is not None and nick is not None:
            return _said(number, nick, match[2] or "", at, action=action)
    return Skipped(number, "unreadable line", at)


def _said(number: int, nick: str, text: str, minute: int | None, *, action: bool) -> Item:
    if "\x00" in text:
        return Skipped(number, "text with NUL", minute)
    if not visible(text):
        return Skipped(number, "text without a visible character", minute)
    if len(text.encode("utf-8")) > TEXT_BYTES_MAX:
        return Skipped(number, "text too long", minute)
    return Said(number, nick, text, minute, action)


def _system(number: int, line: str) -> Item:
    membership = _MEMBERSHIP.fullmatch(line)
    if membership is not None and _HOST.search(line):
        nick = plain_nick(membership[1])
        if nick is not None:
            return Joined(number, nick) if membership[2] == "joined" else Left(number, nick)
    if _HOST.search(line):
        return Skipped(number, "unreadable system line")  # whatever it is, it holds a host
    renamed = _RENAME.fullmatch(line)
    if renamed is not None:
        old, new = plain_nick(renamed[1]), plain_nick(renamed[2])
        if old is not None and new is not None:
            return Renamed(number, old, new)
    mode = _MODE.fullmatch(line)
    if mode is not None:
        return _mode(number, mode[1], mode[2] or "")
    if _TOPIC.match(line):
        return Skipped(number, "topic")
    if _NETWORK.match(line) or line.startswith("=== mode/"):
        return Skipped(number, "network notice")
    return _old_action(number, line[4:])


def _mode(number: int, letters: str, names: str) -> Item:
    operators: list[tuple[str, bool]] = []
    left = names.replace("] ", "]").split(" ")
    on = True
    for letter in letters[: 2 * MODES_A_LINE_MAX]:
        if letter in "+-":
            on = letter == "+"
        elif letter in _MODES_WITH_NAME:
            name = left.pop(0) if left else ""
            nick = plain_nick(name)
            if letter == "o" and nick is not None:
                operators.append((nick, on))
    if not operators:
        return Skipped(number, "mode that is no role")
    return Mode(number, tuple(operators))


def _old_action(number: int, rest: str) -> Item:
    """`nick text`, where a nickname with `]` may have a space behind it, and then a second one before the
    text.
    """
    end = rest.find(" ")
    while 0 < end < len(rest) - 1 and rest[end - 1] == "]" and rest[end + 1] != " ":
        end = rest.find(" ", end + 1)
    shown, text = (rest, "") if end < 0 else (rest[:end], rest[end:].removeprefix(" ").removeprefix(" "))
    nick = plain_nick(shown)
    if nick is None:
        return Skipped(number, "unreadable system line")
    return _said(number, nick, text, None, action=True)
