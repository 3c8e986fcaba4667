"""What a channel log asks for, step by step: pure and deterministic, the same file gives the same plan.

A log tells nicknames; a group has persons. A person is whoever holds a nickname: by its first use, by joining
or by changing to it. Who changes his nickname stays the same person; who uses a nickname that another gave up
is another one. A nickname that does something without having been seen before was there from the start.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ops.importer.irc import Item, Joined, Left, Mode, Renamed, Said, Skipped

ADDED_A_CALL_MAX = 200
FILE_PART_LENGTH_MAX = 24
NICK_PART_LENGTH_MAX = 34
DAY = 24 * 60
HALF_DAY = 12 * 60
BACKWARDS_MINUTES_MAX = 60
"""A clock that goes back by no more was set back; by more, it passed midnight (or noon)."""

_ESCAPES = {"[": ".0", "]": ".1", "\\": ".2", "`": ".3", "^": ".4", "{": ".5", "|": ".6", "}": ".7"}
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)")


@dataclass(frozen=True, slots=True)
class Person:
    """A user to be made; `acts` if it needs a session."""

    user_id: str
    name: str
    acts: bool


@dataclass(frozen=True, slots=True)
class Add:
    """The owner adds members."""

    line: int
    user_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """A member leaves."""

    line: int
    user_id: str


@dataclass(frozen=True, slots=True)
class Rename:
    """A person changes its name."""

    line: int
    user_id: str
    name: str


@dataclass(frozen=True, slots=True)
class SetRole:
    """The owner changes a role; several may stem from one line, `part` numbers them."""

    line: int
    part: int
    user_id: str
    role: str


@dataclass(frozen=True, slots=True)
class Post:
    """A person posts; `reply_line` is an earlier posted line."""

    line: int
    user_id: str
    text: str
    action: bool
    at: datetime
    reply_line: int | None = None


Step = Add | Leave | Rename | SetRole | Post


@dataclass(frozen=True, slots=True)
class Plan:
    """One file: who is made, who is there from the start, what happens, and what became of each line."""

    name: str
    persons: tuple[Person, ...]
    initial: tuple[str, ...]
    steps: tuple[Step, ...]
    lines: int
    counts: Mapping[str, int]
    skipped: Mapping[str, int]


def file_part(name: str) -> str:
    """The part of a user id that names the file: itself where it is short and plain, else with a digest."""
    plain = re.sub(r"[^a-z0-9_.-]", "-", name.lower())
    if plain != name or len(plain) > FILE_PART_LENGTH_MAX or not plain[:1].isalnum():
        digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
        plain = f"x{plain[: FILE_PART_LENGTH_MAX - 10]}-{digest}"
    return plain


def nick_part(nick: str) -> str:
    """A nickname in the letters of a user id; different nicknames give different parts.

    `a-z0-9_-` stay, a capital is `.` and the small letter, `[]\\`^{|}` are `.0`-`.7`, anything else
    `.8<hex>.`; what is too long keeps its beginning and a digest.
    """
    letters: list[str] = []
    for letter in nick:
        if letter in "abcdefghijklmnopqrstuvwxyz0123456789_-":
            letters.append(letter)
        elif "A" <= letter <= "Z":
            letters.append("." + letter.lower())
        else:
            letters.append(_ESCAPES.get(letter) or f".8{ord(letter):x}.")
    part = "".join(letters)
    if len(part) > NICK_PART_LENGTH_MAX:
        digest = hashlib.blake2b(nick.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
        part = f"{part[: NICK_PART_LENGTH_MAX - 14]}@@{digest}"
    return part


def owner_id(room: str) -> str:
    """The user that owns an imported group; no nickname gives this id."""
    return f"{file_part(room)}@@owner"


def make_plan(name: str, items: Iterable[Item], answers: Mapping[int, list[int]]) -> Plan:
    """The plan of the file `name` (without its ending); `answers` as of `irc.read_annotations`."""
    listed = list(items)
    planner = _Planner(name, answers, _Times(name, listed))
    for item in listed:
        planner.take(item)
    return planner.plan(len(listed))


class _Times:
    """Full times from clock readings: they only go on; going back by more than an hour passes midnight.

    A log that never shows an hour above 12 was written with a twelve-hour clock: there it passes noon or
    midnight, and 12 is 0.
    """

    def __init__(self, name: str, items: Iterable[Item]) -> None:
        found = _DATE.search(name)
        start = datetime(2000, 1, 1, tzinfo=UTC)
        if found is not None:
            try:
                start = datetime(int(found[1]), int(found[2]), int(found[3]), tzinfo=UTC)
            except ValueError:
                found = None  # digits that are no date: the year 2000 says as much
        minutes = [
            item.minute for item in items if isinstance(item, Said | Skipped) and item.minute is not None
        ]
        self._start = start
        self._turn = HALF_DAY if minutes and max(minutes) < 13 * 60 else DAY
        self._now = 0
        self._passed = 0
        self._began = False

    def at(self, minute: int | None) -> datetime:
        """The time of a reading; without one, that of the last."""
        if minute is not None:
            reading = minute % self._turn if self._turn == HALF_DAY else minute
            time = self._passed + reading
            if self._began and time < self._now - BACKWARDS_MINUTES_MAX:
                self._passed += self._turn
                time += self._turn
            self._now = max(self._now, time) if self._began else time
            self._began = True
        return self._start + timedelta(minutes=self._now)


@dataclass(slots=True)
class _Member:
    """A person while the log is read."""

    user_id: str
    first_name: str
    name: str
    member: bool = True
    admin: bool = False
    acts: bool = False


@dataclass(slots=True)
class _Planner:
    name: str
    answers: Mapping[int, list[int]]
    times: _Times
    holders: dict[str, _Member] = field(default_factory=dict)
    used: Counter[str] = field(default_factory=Counter)
    persons: list[_Member] = field(default_factory=list)
    initial: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    posted: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    def plan(self, lines: int) -> Plan:
        """What was gathered."""
        persons = tuple(Person(one.user_id, one.first_name, one.acts) for one in self.persons)
        counts = {**self.counts, "members": len(persons)}
        steps = tuple(self.steps)
        return Plan(self.name, persons, tuple(self.initial), steps, lines, counts, dict(self.skipped))

    def take(self, item: Item) -> None:
        """One more line."""
        match item:
            case Said():
                self._said(item)
            case Joined():
                self._joined(item)
            case Left():
                self._left(item)
            case Renamed():
                self._renamed(item)
            case Mode():
                self._mode(item)
            case Skipped():
                self.times.at(item.minute)
                self.skipped[item.reason] += 1

    def _said(self, item: Said) -> None:
        person = self._present(item.nick, item.number)
        person.acts = True
        answered = [line for line in self.answers.get(item.number, ()) if line in self.posted]
        if self.answers.get(item.number):
            self.counts["replies"] += bool(answered)
            self.counts["replies_dropped"] += len(self.answers[item.number]) - bool(answered)
        reply = answered[-1] if answered else None
        at = self.times.at(item.minute)
        self.steps.append(Post(item.number, person.user_id, item.text, item.action, at, reply))
        self.posted.add(item.number)
        self.counts["actions" if item.action else "messages"] += 1

    def _joined(self, item: Joined) -> None:
        person = self.holders.get(item.nick)
        if person is None:
            person = self._new(item.nick)
            person.member = False
        if person.member:  # its going was not told: leaving a network is not leaving a channel
            self.skipped["joined while a member"] += 1
            return
        self._add(person, item.number)
        self.counts["joins"] += 1

    def _left(self, item: Left) -> None:
        person = self.holders.get(item.nick)
        if person is not None and not person.member:
            self.skipped["left while no member"] += 1
            return
        person = self._present(item.nick, item.number)
        person.acts = True
        person.member = person.admin = False
        self.steps.append(Leave(item.number, person.user_id))
        self.counts["leaves"] += 1

    def _renamed(self, item: Renamed) -> None:
        person = self._present(item.old, item.number)
        if item.new != item.old:
            del self.holders[item.old]
        self.holders[item.new] = person
        self.used[item.new] += self.used[item.new] == 0
        if person.name == item.new:
            self.skipped["renamed to the same name"] += 1
            return
        person.name = item.new
        person.acts = True
        self.steps.append(Rename(item.number, person.user_id, item.new))
        self.counts["renames"] += 1

    def _mode(self, item: Mode) -> None:
        before = len(self.steps)
        for part, (nick, on) in enumerate(item.operators):
            person = self._present(nick, item.number)
            if person.admin is not on:
                person.admin = on
                self.steps.append(SetRole(item.number, part, person.user_id, "admin" if on else "member"))
        if any(isinstance(step, SetRole) for step in self.steps[before:]):
            self.counts["modes"] += 1
        else:
            self.skipped["role as it was"] += 1

    def _present(self, nick: str, line: int) -> _Member:
        """Who holds the nickname, as a member.

        From the start, or by an addition that the log does not tell.
        """
        person = self.holders.get(nick)
        if person is None:
            fresh = self.used[nick] == 0
            person = self._new(nick)
            person.member = fresh
            if fresh:
                self.initial.append(person.user_id)
        if not person.member:
            self._add(person, line)
            self.counts["joins_untold"] += 1
        return person

    def _new(self, nick: str) -> _Member:
        self.used[nick] += 1
        number = self.used[nick]
        user_id = f"{file_part(self.name)}@{nick_part(nick)}" + (f"@{number}" if number > 1 else "")
        person = self.holders[nick] = _Member(user_id, nick, nick)
        self.persons.append(person)
        return person

    def _add(self, person: _Member, line: int) -> None:
        person.member = True
        last = self.steps[-1] if self.steps else None
        if isinstance(last, Add) and len(last.user_ids) < ADDED_A_CALL_MAX:
            self.steps[-1] = Add(last.line, (*last.user_ids, person.user_id))
            return
        self.steps.append(Add(line, (person.user_id,)))
