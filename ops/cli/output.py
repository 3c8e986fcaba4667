"""What commands print: JSON for programs, tables for people, progress for whoever waits.

Colours and bars are for terminals only; what came from users cannot move a terminal's cursor.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS = 10_000
"""A pipe has no width; nothing is cut there."""
_ENCODER = msgspec.json.Encoder()
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LINE_ENDS = re.compile(r"[\t\n]+")

Step = Callable[[int, int], None]
"""(done, altogether)"""


def console() -> Console:
    """stdout for people."""
    is_terminal = sys.stdout.isatty()
    return Console(
        file=sys.stdout,
        width=None if is_terminal else PIPE_COLUMNS,
        force_terminal=is_terminal,
        highlight=False,
        markup=False,
        emoji=False,
    )


def safe(text: str) -> str:
    """Text on one line, without anything that steers a terminal or turns its direction."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", _LINE_ENDS.sub(" ⏎ ", text))


def say(text: str) -> None:
    """A line on stdout."""
    sys.stdout.write(f"{text}\n")


def emit(value: object) -> None:
    """One JSON document, on one line."""
    sys.stdout.buffer.write(_ENCODER.encode(value) + b"\n")


def emit_indented(value: object) -> None:
    """One JSON document for people and programs alike."""
    sys.stdout.buffer.write(msgspec.json.format(_ENCODER.encode(value), indent=2) + b"\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """A table on stdout; None stands empty, numbers to the right."""
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    listed = [list(row) for row in rows]
    for index, name in enumerate(columns):
        is_number = bool(listed) and all(isinstance(row[index], int | float) for row in listed)
        drawn.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in listed:
        drawn.add_row(*[Text("" if cell is None else safe(str(cell))) for cell in row])
    screen = console()
    if title is not None:
        screen.print(Text(f"\n{title}", style="bold"))
    if listed:
        screen.print(drawn)
    else:
        say("none")


def facts(rows: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one a line."""
    listed = [(name, "" if value is None else safe(str(value))) for name, value in rows]
    width = max((len(name) for name, _ in listed), default=0)
    for name, value in listed:
        say(f"{name:<{width}}  {value}".rstrip())


@contextmanager
def progress(title: str) -> Iterator[Step]:
    """A bar on stderr while it is a terminal, otherwise nothing."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def step(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None)

        yield step
