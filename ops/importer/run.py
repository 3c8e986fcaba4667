"""The import of whole files: accounts first, then many rooms side by side, each strictly in its file's order.

Why one call in flight a room and no sockets: a log's order is the order in which the server takes its lines,
and consecutive lines are mostly by different people, whose sockets do not order one against the other. A
socket would also be told every line of its room, a hundred times the work of a call. So a room goes at the
pace of one answer after the other, and the speed comes from the number of rooms, whose calls share a few
pipelined connections: what is ready at one moment leaves in one write, for both sides.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from client.caller import AppKey
from client.rest import RestClient
from ops.importer.irc import read_annotations, read_log
from ops.importer.people import People, read_secret
from ops.importer.plan import Person, Plan, make_plan, owner_id
from ops.importer.room import Room

T = TypeVar("T")
ROOMS_AT_ONCE = 192
ACCOUNTS_AT_ONCE = 32
DEADLINE_S = 120.0
ACCOUNT_DEADLINE_S = 900.0
NAME_LENGTH_MAX = 80
REPORT_EVERY_STEPS = 256
ENDINGS = (".raw.txt", ".txt", ".log")


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What to import, where, and as whom.

    Without `app_key` people register with passwords from `secret_file`.
    """

    url: str
    files: Sequence[Path]
    group: str | None = None
    app_key: AppKey | None = None
    secret_file: Path = Path("minutebook-import.secret")
    rooms_at_once: int = ROOMS_AT_ONCE
    accounts_at_once: int = ACCOUNTS_AT_ONCE
    deadline_s: float = DEADLINE_S


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: `phase` is `accounts` or `lines`."""

    phase: str
    done: int
    total: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What became of every line, and how long it took; `lines` = the sum of the kinds and of `skipped`.

    `joins_untold` are additions of people who spoke after they had left, `replies_dropped` links beyond the
    one that a message can hold or to lines that are no messages, `replayed` steps that an earlier run had
    done.
    """

    files: int = 0
    lines: int = 0
    messages: int = 0
    actions: int = 0
    members: int = 0
    joins: int = 0
    joins_untold: int = 0
    leaves: int = 0
    renames: int = 0
    modes: int = 0
    replies: int = 0
    replies_dropped: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    accounts_made: int = 0
    replayed: int = 0
    repeats: int = 0
    accounts_seconds: float = 0.0
    lines_seconds: float = 0.0
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def lines_per_second(self) -> float:
        """Without the making of accounts."""
        return self.lines / self.lines_seconds if self.lines_seconds else 0.0


def app_key_from_environment(environment: Mapping[str, str] = os.environ) -> AppKey | None:
    """MINUTEBOOK_APP_KEY and MINUTEBOOK_APP_SECRET, or None if one is missing."""
    key, secret = environment.get("MINUTEBOOK_APP_KEY"), environment.get("MINUTEBOOK_APP_SECRET")
    return AppKey(key, secret) if key and secret else None


def log_name(path: Path) -> str:
    """The name of a log without its ending: what ids and keys are made of, at most 80 characters."""
    name = next((path.name.removesuffix(end) for end in ENDINGS if path.name.endswith(end)), path.name)
    if len(name) > NAME_LENGTH_MAX:
        digest = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
        name = f"{name[: NAME_LENGTH_MAX - 13]}-{digest}"
    return name


def load_plan(path: Path) -> Plan:
    """Reads a log and, if there is one, the `NAME.annotation.txt` beside it."""
    name = log_name(path)
    beside = path.with_name(f"{name}.annotation.txt")
    annotations = beside.read_text("utf-8", "replace") if beside.exists() else ""
    return make_plan(name, read_log(path.read_bytes()), read_annotations(annotations))


async def import_irc(options: ImportOptions, report: Callable[[Progress], None]) -> ImportSummary:
    """Brings the files in; running it again, or after it was killed, adds only what is missing.

    ProblemError or ConnectionError if the server refuses or stays away beyond the deadline;
    FileNotFoundError, ValueError (two files of one name). What was done until then stays, and the next run
    goes on from there.
    """
    names = Counter(log_name(path) for path in options.files)
    doubled = sorted(name for name, count in names.items() if count > 1)
    if doubled:
        raise ValueError(f"two files are called {doubled[0]}")
    plans = [await asyncio.to_thread(load_plan, path) for path in options.files]
    async with RestClient(
        options.url,
        app_key=options.app_key,
        connections_max=max(options.rooms_at_once, options.accounts_at_once),
        deadline_s=options.deadline_s,
    ) as rest:
        secret = None if options.app_key else await asyncio.to_thread(read_secret, options.secret_file)
        people = People(rest, secret, max(options.deadline_s, ACCOUNT_DEADLINE_S))
        try:
            return await _Import(options, plans, rest, people, report).run()
        except ExceptionGroup as group:
            raise _first(group) from group


class _Import:
    def __init__(
        self,
        options: ImportOptions,
        plans: Sequence[Plan],
        rest: RestClient,
        people: People,
        report: Callable[[Progress], None],
    ) -> None:
        self._options = options
        self._plans = plans
        self._rest = rest
        self._people = people
        self._report = report
        self._made = 0
        self._done = 0
        self._started = 0.0
        self._rooms: list[tuple[Room, list[Plan]]] = []

    async def run(self) -> ImportSummary:
        """Accounts, then lines."""
        self._arrange()
        self._started = perf_counter()
        await self._accounts()
        accounts_seconds = perf_counter() - self._started
        self._started, self._done = perf_counter(), 0
        await self._lines()
        return self._summary(accounts_seconds, perf_counter() - self._started)

    def _arrange(self) -> None:
        """One room a file, or one for all; large ones first, so that none is left alone at the end."""
        named = self._options.group
        if named is not None:
            self._rooms = [
                (Room(named, owner_id(f"group {named}"), self._rest, self._people), list(self._plans))
            ]
            return
        for plan in sorted(self._plans, key=lambda plan: -len(plan.steps)):
            self._rooms.append((Room(plan.name, owner_id(plan.name), self._rest, self._people), [plan]))

    async def _accounts(self) -> None:
        owners = [Person(room.owner, f"importer of {room.name}"[:128], acts=True) for room, _ in self._rooms]
        persons = [*owners, *(person for plan in self._plans for person in plan.persons)]

        async def account(person: Person) -> None:
            made = await self._people.make(person.user_id, person.name)
            self._made += made  # read after the wait: other workers count too
            if person.acts:
                await self._people.open(person.user_id)
            self._done += 1
            if self._done % REPORT_EVERY_STEPS == 0 or self._done == len(persons):
                self._tell("accounts", self._done, len(persons))

        await _side_by_side(iter(persons), account, self._options.accounts_at_once)

    async def _lines(self) -> None:
        total = sum(plan.lines for plan in self._plans)

        async def bring(job: tuple[Room, list[Plan]]) -> None:
            room, plans = job
            await room.enter()
            for plan in plans:
                reached = 0

                def done(line: int) -> None:
                    nonlocal reached
                    self._done += line + 1 - reached
                    reached = line + 1
                    if line % REPORT_EVERY_STEPS == 0:
                        self._tell("lines", self._done, total)

                await room.bring(plan, done)
                self._done += plan.lines - reached
                self._tell("lines", self._done, total)

        await _side_by_side(iter(self._rooms), bring, self._options.rooms_at_once)

    def _tell(self, phase: str, done: int, total: int) -> None:
        self._report(Progress(phase, done, total, perf_counter() - self._started))

    def _summary(self, accounts_seconds: float, lines_seconds: float) -> ImportSummary:
        counts: Counter[str] = Counter()
        skipped: Counter[str] = Counter()
        for plan in self._plans:
            counts.update(plan.counts)
            skipped.update(plan.skipped)
        for room, _ in self._rooms:
            skipped.update(room.refused)
            counts.subtract(room.refused_by_kind)
        return ImportSummary(
            files=len(self._plans),
            lines=sum(plan.lines for plan in self._plans),
            skipped=dict(skipped),
            accounts_made=self._made,
            replayed=sum(room.replayed for room, _ in self._rooms),
            repeats=self._rest.repeats,
            accounts_seconds=accounts_seconds,
            lines_seconds=lines_seconds,
            groups={room.name: room.conversation_id for room, _ in self._rooms},
            **counts,
        )


async def _side_by_side(jobs: Iterator[T], work: Callable[[T], Awaitable[None]], at_once: int) -> None:
    """`work` on every job, `at_once` at a time, begun in order; the first failure cancels the others."""

    async def worker() -> None:
        for job in jobs:
            await work(job)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)
    return error
