"""`python -m tests.faults`: hurt a whole cluster of real processes, kind by kind, and report what held."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from tests.faults.kinds import Kind, kinds
from tests.faults.load import PER_SECOND
from tests.faults.runner import Outcome, new_seed, report, run_kinds, table
from tests.faults.stage import Stage, open_stage


def say(text: str) -> None:
    """A line of progress."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def run(
    folder: Path, wanted: Sequence[tuple[Kind, int]], seed: int, per_second: float
) -> tuple[list[Outcome], Stage]:
    """Everything that is wanted, over one cluster."""
    async with open_stage(folder, seed) as stage, stage.under_load(per_second):
        say(
            f"{len(stage.roles.processes)} processes run over three MongoDB, three Kafka and a Redis in {folder}"
        )
        return await run_kinds(stage, wanted, say), stage


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 if everything held, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="the counts of a whole run instead of CI's small ones"
    )
    parser.add_argument("--kind", action="append", default=[], help="only this kind (may be repeated)")
    parser.add_argument("--count", type=int, help="so many faults of each kind")
    parser.add_argument("--seed", type=int, help="what chance begins with")
    parser.add_argument("--rate", type=float, default=PER_SECOND, help="messages per second")
    parser.add_argument("--report", type=Path, help="where the table is written, in Markdown")
    parser.add_argument("--keep", type=Path, help="a folder for data and logs, which stay")
    words = parser.parse_args(arguments)
    known = kinds(full=words.full)
    if unknown := set(words.kind) - known.keys():
        parser.error(f"there is no kind {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    chosen = [known[name] for name in words.kind] or [*known.values()]
    wanted = [(kind, words.count or (kind.full if words.full else max(kind.small, 1))) for kind in chosen]
    seed = new_seed() if words.seed is None else words.seed
    say(f"seed {seed}")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="minutebook-faults-") as temporary:
        outcomes, stage = uvloop.run(run((words.keep or Path(temporary)).resolve(), wanted, seed, words.rate))
    say(f"\n{table(outcomes)}")
    if words.report is not None:
        words.report.write_text(report(outcomes, seed, (time.monotonic() - begun) / 60, stage.rss_mb))
    return 0 if len(outcomes) == len(wanted) and all(outcome.good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
