"""One kind of fault after the other: hurt, recover, check; and what came of it as a table."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import msgspec

from client.problem import ProblemError
from docker.local.failures import ServicesError
from tests.faults.checker import Verdict
from tests.faults.kinds import Kind, now
from tests.faults.stage import Stage
from tests.faults.waiting import NotReachedError

Say = Callable[[str], None]
BETWEEN_ACKS = range(10, 60)
"""Sends that are acknowledged before a fault comes: some number of these, by chance."""
AFTER_ACKS = 10
COLUMNS = (
    "kind",
    "faults",
    "sends acked",
    "lost",
    "recovered",
    "unexpected",
    "duplicated",
    "views equal",
    "slowest recovery s",
)

WRONG = (NotReachedError, ServicesError, ProblemError, OSError, AssertionError)
"""What ends a kind, with its words as a finding."""
LEGEND = (
    "Recovered: events that came by sync or by the pages after hello instead of live. Slowest recovery: from the fault "
    "(of one that lasts, from its end) until everything sent was acknowledged and had reached every reader."
)


class Outcome(msgspec.Struct):
    """What came of one kind. `recovered` events came by sync or by the pages after hello instead of live."""

    kind: str
    faults: int = 0
    verdict: Verdict = msgspec.field(default_factory=Verdict)
    views_equal: bool | None = None
    slowest_s: float = 0.0

    @property
    def good(self) -> bool:
        """Whether everything held."""
        return self.verdict.good and self.views_equal is True

    def row(self) -> Sequence[str]:
        """Its line of the table."""
        found, equal = self.verdict, {True: "yes", False: "NO", None: "not compared"}[self.views_equal]
        numbers = (found.lost, found.recovered, found.unexpected, found.duplicated)
        return (
            *(self.kind, str(self.faults), f"{found.acked:,}", *map(str, numbers)),
            *(equal, f"{self.slowest_s:.1f}"),
        )


async def run_kinds(stage: Stage, wanted: Sequence[tuple[Kind, int]], say: Say) -> list[Outcome]:
    """So many faults of each kind. After a kind that went wrong the others go on, if everything can be mended before."""
    outcomes: list[Outcome] = []
    for kind, count in wanted:
        outcomes.append(await run_kind(stage, kind, count, say))
        if not outcomes[-1].good:
            try:
                await stage.mend()
            except WRONG as error:
                say(f"  ! the run ends here, since nothing can be built upon what is left: {error}")
                break
    return outcomes


async def run_kind(stage: Stage, kind: Kind, count: int, say: Say) -> Outcome:
    """So many faults of a kind, and then the comparison of all views. What goes wrong ends the kind and stands in its outcome."""
    outcome = Outcome(kind.name)
    rounds = -(-count // kind.sends_each)
    begun = time.monotonic()
    try:
        for number in range(1, rounds + 1):
            await one_fault(stage, kind, outcome)
            say(f"{kind.name} {number}/{rounds}: {_told(outcome)}")
            if not outcome.verdict.good:
                break
        for difference in await _differences(stage, kind):
            outcome.views_equal = False
            outcome.verdict.find(difference)
        outcome.views_equal = outcome.views_equal is None
    except WRONG as error:
        outcome.verdict.find(f"{type(error).__name__}: {error}")
    for finding in outcome.verdict.findings:
        say(f"  ! {finding}")
    say(
        f"{kind.name}: {outcome.faults} faults in {time.monotonic() - begun:.0f} s, {'good' if outcome.good else 'BAD'}"
    )
    return outcome


async def one_fault(stage: Stage, kind: Kind, outcome: Outcome) -> None:
    """Under load at a moment by chance; then everything is acknowledged, read and compared."""
    load = stage.load
    load.go()
    await load.more(stage.chance.choice(BETWEEN_ACKS))
    since = await kind.hurt(stage)
    await load.more(AFTER_ACKS)
    await load.settle()
    outcome.slowest_s = max(outcome.slowest_s, now() - since)
    outcome.faults += kind.sends_each
    outcome.verdict.add(await stage.check())


async def _differences(stage: Stage, kind: Kind) -> list[str]:
    found = await stage.views_differ()
    if kind.hurts_kafka:
        found += await stage.kafka_differs()
    return found


def _told(outcome: Outcome) -> str:
    found = outcome.verdict
    return (
        f"{found.acked} acked, {found.recovered} recovered, lost {found.lost}, unexpected {found.unexpected}, "
        f"duplicated {found.duplicated}, slowest {outcome.slowest_s:.1f} s"
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(outcome.row() for outcome in outcomes)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def report(outcomes: Sequence[Outcome], seed: int, minutes: float, rss_mb: dict[str, int]) -> str:
    """The whole report in Markdown."""
    largest = ", ".join(f"{node} {mb} MB" for node, mb in sorted(rss_mb.items()))
    findings = [
        f"- {outcome.kind}: {finding}" for outcome in outcomes for finding in outcome.verdict.findings
    ]
    return "\n".join(
        [
            table(outcomes),
            LEGEND,
            "",
            f"Seed {seed}, {minutes:.0f} minutes. Most memory held: {largest}.",
            *(["", "Findings:", *findings] if findings else []),
            "",
        ]
    )


def new_seed() -> int:
    """For a run that is given none."""
    return random.SystemRandom().randrange(1 << 32)
