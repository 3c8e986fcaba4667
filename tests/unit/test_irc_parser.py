"""Every line of a log is accounted for: said, membership, names, modes, or skipped with a reason."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.text import is_user_id
from ops.importer.irc import (
    Item,
    Joined,
    Left,
    Mode,
    Renamed,
    Said,
    Skipped,
    plain_nick,
    read_annotations,
    read_line,
    read_log,
)
from ops.importer.plan import (
    Add,
    Leave,
    Plan,
    Post,
    Rename,
    SetRole,
    file_part,
    make_plan,
    nick_part,
    owner_id,
)
from ops.importer.run import load_plan, log_name

CARRIED = Path(__file__).parent.parent / "data" / "irc"
CORPUS = Path(__file__).parents[3] / "shared" / "data" / "irc"

LINES: list[tuple[str, Item]] = [
    ("[12:18] <|trey|> usual :)", Said(7, "|trey|", "usual :)", 738)),
    ("[00:05] <a>  two  spaces ", Said(7, "a", " two  spaces ", 5)),
    ("[05:12] <bur[n] er> hi", Said(7, "bur[n]er", "hi", 312)),
    ("[05:12] <starscream[2] > hi", Said(7, "starscream[2]", "hi", 312)),
    ("[05:12] <Guard] [an> [x] y", Said(7, "Guard][an", "[x] y", 312)),
    ("[05:12] <opteron>", Skipped(7, "text without a visible character", 312)),
    ("[05:12] <opteron>    ", Skipped(7, "text without a visible character", 312)),
    ("[05:12] <o> \x02\x0f", Skipped(7, "text without a visible character", 312)),
    ("[05:12] <o> \x02bold\x0f", Said(7, "o", "\x02bold\x0f", 312)),
    ("[05:12] <o> a\x00b", Skipped(7, "text with NUL", 312)),
    ("[05:12] <o> " + "x" * 16_000, Skipped(7, "text too long", 312)),
    ("[23:59]  * Dr_Willis waves", Said(7, "Dr_Willis", "waves", 1439, action=True)),
    ("[23:59]  * Dr_Willis", Skipped(7, "text without a visible character", 1439)),
    ("[05:12] -spam:#ubuntu- buy", Said(7, "spam", "buy", 312)),
    ("[01:09] (soundray/#ubuntu) thomas: have", Said(7, "soundray", "thomas: have", 69)),
    ("[25:00] <a> b", Skipped(7, "impossible time")),
    ("[05:12] what is this", Skipped(7, "unreadable line", 312)),
    ("[05:12]", Skipped(7, "unreadable line", 312)),
    ("=== Amaranth hides", Said(7, "Amaranth", "hides", None, action=True)),
    ("=== FRET was a fedora user before", Said(7, "FRET", "was a fedora user before", None, action=True)),
    ("=== bur[n] er uses wine", Said(7, "bur[n]er", "uses wine", None, action=True)),
    ("=== starscream[2]  sleeps", Said(7, "starscream[2]", "sleeps", None, action=True)),
    ("=== a has joined the party", Said(7, "a", "has joined the party", None, action=True)),
    ("=== DarthV4der", Skipped(7, "text without a visible character")),
    ("=== carthik [~c@host.example]  has joined #ubuntu", Joined(7, "carthik")),
    ("=== [GuS]  [n=g@host.example]  has joined #Ubuntu", Joined(7, "[GuS]")),
    ("=== Cal[] John [~cal@host.example]  has joined #ubuntu", Joined(7, "Cal[]John")),
    ("=== toxic [[H] -853478@host.example]  has joined #ubuntu", Joined(7, "toxic")),
    ("=== Magilla [i=b@host.example]  has left #ubuntu [] ", Left(7, "Magilla")),
    ('=== N}{N[] O [n=C@host.example]  has left #ubuntu ["Ubuntu]', Left(7, "N}{N[]O")),
    ("=== ? ? ? [x@host.example]  has joined #ubuntu", Skipped(7, "unreadable system line")),
    ("=== Custom is now known as [MUPPETS] Gonzo", Renamed(7, "Custom", "[MUPPETS]Gonzo")),
    ("=== [shorty114]  is now known as shorty114", Renamed(7, "[shorty114]", "shorty114")),
    ("=== mode/#ubuntu [+o Amaranth]  by ChanServ", Mode(7, (("Amaranth", True),))),
    ("=== mode/#ubuntu [-oo a b]  by a", Mode(7, (("a", False), ("b", False)))),
    ("=== mode/#ubuntu [-b+o *!*@host.example b]  by a", Mode(7, (("b", True),))),
    ("=== mode/#ubuntu [+b *!*@host.example]  by a", Skipped(7, "mode that is no role")),
    ("=== mode/#ubuntu [+rR]  by nalioth", Skipped(7, "mode that is no role")),
    ("=== netjoined: irc.example -> irc2.example", Skipped(7, "network notice")),
    ("=== ..[topic/#ubuntu:Seveas] : Official", Skipped(7, "topic")),
    ("=== LjL changed the topic of #ubuntu to: Official", Skipped(7, "topic")),
    ("=== ", Skipped(7, "unreadable system line")),
    ("", Skipped(7, "empty line")),
    ("   \t", Skipped(7, "empty line")),
    ("hello", Skipped(7, "unreadable line")),
]


@pytest.mark.parametrize("line, item", LINES)
def test_lines(line: str, item: Item) -> None:
    assert read_line(7, line) == item


@given(st.text())
def test_any_line_is_an_item(line: str) -> None:
    assert read_line(3, line).number == 3


@given(st.from_regex(r"(\[\d\d:\d\d\] |=== )[ -~]{0,40}(\[.@.\])?(  has (joined|left) #x|is now known as)?"))
def test_any_likely_line_is_an_item_without_a_host(line: str) -> None:
    item = read_line(3, line)
    assert item.number == 3
    if line.startswith("=== ") and re.search(r"@.\]  has joined #x$", line):
        assert not isinstance(item, Said)


@given(st.binary())
def test_any_bytes_are_a_log(data: bytes) -> None:
    items = read_log(data)
    assert [item.number for item in items] == list(range(len(items)))


def test_annotations() -> None:
    text = "5 9 -\n3 9 -\n4 4 -\n9 12 - \n\nnonsense\n12 11 -\nx 3 -\n"
    assert read_annotations(text) == {9: [3, 5], 12: [9, 11]}


# --- names ---


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_nicknames_map_to_different_user_ids(one: str, other: str) -> None:
    parts = nick_part(one), nick_part(other)
    assert (parts[0] == parts[1]) is (one == other)
    assert all(re.fullmatch(r"[a-z0-9_.@-]+", part) and len(part) <= 34 for part in parts)


@given(st.text(min_size=1, max_size=120), st.text(min_size=1, max_size=200))
def test_user_ids_are_user_ids(file: str, nick: str) -> None:
    assert is_user_id(f"{file_part(file)}@{nick_part(nick)}@99")
    assert is_user_id(owner_id(file))


def test_known_ids_stay() -> None:
    assert nick_part("|trey|") == ".6trey.6"
    assert nick_part("[Equilibrium]") == ".0.equilibrium.1"
    assert file_part("2005-06-06.train-c") == "2005-06-06.train-c"
    assert log_name(Path("/x/2005-06-06.train-c.raw.txt")) == "2005-06-06.train-c"
    assert plain_nick("a b") is None


# --- plans ---


def plan_of(*lines: str, name: str = "2013-10-04", answers: str = "") -> Plan:
    """The plan of a few lines."""
    return make_plan(name, read_log("\n".join(lines).encode()), read_annotations(answers))


def accounted(plan: Plan) -> bool:
    """Whether each line is one of the kinds, or skipped."""
    kinds = ("messages", "actions", "joins", "leaves", "renames", "modes")
    return plan.lines == sum(plan.counts.get(kind, 0) for kind in kinds) + sum(plan.skipped.values())


def test_who_speaks_first_was_there() -> None:
    plan = plan_of("[01:00] <Ann> hi", "=== bob [b@h.example]  has joined #x", "[01:01] <bob> hello")
    ann, bob = "2013-10-04@.ann", "2013-10-04@bob"
    assert plan.initial == (ann,)
    assert [step for step in plan.steps if isinstance(step, Add)] == [Add(1, (bob,))]
    assert [(person.name, person.acts) for person in plan.persons] == [("Ann", True), ("bob", True)]


def test_a_change_of_nickname_keeps_the_person_and_frees_the_name() -> None:
    plan = plan_of(
        "[01:00] <ann> hi",
        "=== ann is now known as ann_away",
        "[01:01] <ann_away> bye",
        "[01:02] <ann> I am another",
        "=== ann_away is now known as Ann",
        "=== Ann is now known as ann",
        "[01:03] <ann> back",
    )
    first, second = "2013-10-04@ann", "2013-10-04@ann@2"
    posts = [step.user_id for step in plan.steps if isinstance(step, Post)]
    assert posts == [first, first, second, first]
    assert [step for step in plan.steps if isinstance(step, Rename)] == [
        Rename(1, first, "ann_away"),
        Rename(4, first, "Ann"),
        Rename(5, first, "ann"),
    ]
    assert plan.initial == (first,)
    assert [step for step in plan.steps if isinstance(step, Add)] == [Add(3, (second,))]


def test_leaving_and_coming_back() -> None:
    leave, join = "=== ann [a@h.example]  has left #x []", "=== ann [a@h.example]  has joined #x"
    plan = plan_of(join, join, leave, leave, "[01:00] <ann> untold", leave, join)
    ann = "2013-10-04@ann"
    kinds = [type(step) for step in plan.steps]
    assert kinds == [Add, Leave, Add, Post, Leave, Add]
    assert plan.initial == ()
    assert {step.user_id for step in plan.steps if isinstance(step, Leave)} == {ann}
    assert plan.skipped == {"joined while a member": 1, "left while no member": 1}
    assert plan.counts["joins_untold"] == 1
    assert accounted(plan)


def test_roles_end_with_leaving() -> None:
    plus, minus = "=== mode/#x [+o ann]  by c", "=== mode/#x [-o ann]  by c"
    plan = plan_of(plus, plus, minus, plus, "=== ann [a@h.example]  has left #x []", minus)
    roles = [step.role for step in plan.steps if isinstance(step, SetRole)]
    assert roles == ["admin", "member", "admin"]
    assert plan.skipped == {"role as it was": 2}
    assert accounted(plan)


def test_joins_in_a_row_are_one_call() -> None:
    plan = plan_of(*[f"=== u{number} [a@h.example]  has joined #x" for number in range(450)])
    assert [len(step.user_ids) for step in plan.steps if isinstance(step, Add)] == [200, 200, 50]


def test_replies_go_to_the_latest_earlier_message() -> None:
    lines = ["[01:00] <a> one", "[01:00] <b> two", "=== c [c@h.example]  has joined #x", "[01:01] <a> three"]
    plan = plan_of(*lines, answers="0 3 -\n1 3 -\n2 3 -\n0 1 -\n2 2 -")
    replies = [(step.line, step.reply_line) for step in plan.steps if isinstance(step, Post)]
    assert replies == [(0, None), (1, 0), (3, 1)]
    assert (plan.counts["replies"], plan.counts["replies_dropped"]) == (2, 2)


def times(*readings: str, name: str) -> list[datetime]:
    """The times of messages."""
    plan = plan_of(*[f"[{reading}] <a> x" for reading in readings], name=name)
    return [step.at for step in plan.steps if isinstance(step, Post)]


def test_midnight() -> None:
    assert times("13:00", "23:59", "00:00", "00:30", name="2013-12-31.train") == [
        datetime(2013, 12, 31, 13, 0, tzinfo=UTC),
        datetime(2013, 12, 31, 23, 59, tzinfo=UTC),
        datetime(2014, 1, 1, 0, 0, tzinfo=UTC),
        datetime(2014, 1, 1, 0, 30, tzinfo=UTC),
    ]


def test_a_twelve_hour_clock_passes_noon() -> None:
    got = times("12:58", "12:59", "01:00", "11:59", "12:10", name="2004-11-15_03")
    assert [f"{at:%d %H:%M}" for at in got] == ["15 00:58", "15 00:59", "15 01:00", "15 11:59", "15 12:10"]


def test_a_clock_that_was_set_back_stands_still() -> None:
    got = times("13:10", "13:05", "13:12", name="2013-01-01")
    assert [f"{at:%H:%M}" for at in got] == ["13:10", "13:10", "13:12"]


@given(st.lists(st.integers(0, 1439)))
def test_times_only_go_on(minutes: list[int]) -> None:
    got = times(*[f"{minute // 60:02}:{minute % 60:02}" for minute in minutes], name="2013-01-01")
    assert got == sorted(got)


NICKS = st.sampled_from(["ann", "bob", "Ann", "[x]", "x_"])
LOG_LINES = st.one_of(
    st.builds(
        "[{:02}:{:02}] <{}> {}".format, st.integers(0, 24), st.integers(0, 60), NICKS, st.text(max_size=5)
    ),
    st.builds("=== {} [a@h.example]  has joined #x".format, NICKS),
    st.builds("=== {} [a@h.example]  has left #x []".format, NICKS),
    st.builds("=== {} is now known as {}".format, NICKS, NICKS),
    st.builds("=== mode/#x [{}o {}]  by {}".format, st.sampled_from("+-"), NICKS, NICKS),
    st.builds("=== {} waves".format, NICKS),
    st.text(max_size=10),
)


@given(
    st.lists(LOG_LINES, max_size=40), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=20)
)
def test_plans_are_possible_deterministic_and_complete(
    lines: list[str], links: list[tuple[int, int]]
) -> None:
    data = "\n".join(lines).encode("utf-8", "replace")
    answers = read_annotations("\n".join(f"{one} {other} -" for one, other in links))
    plan = make_plan("f", read_log(data), answers)
    assert plan == make_plan("f", read_log(data), answers)
    assert accounted(plan)
    check_possible(plan)


def check_possible(plan: Plan) -> None:
    """No step asks for what a server would refuse or find done already."""
    names = {person.user_id: person.name for person in plan.persons}
    assert len(names) == len(plan.persons)
    acting = {person.user_id for person in plan.persons if person.acts}
    members, admins, posted = set(plan.initial), set[str](), set[int]()
    for step in plan.steps:
        match step:
            case Add():
                assert members.isdisjoint(step.user_ids)
                assert len(set(step.user_ids)) == len(step.user_ids) <= 200
                members |= set(step.user_ids)
            case Leave():
                members.remove(step.user_id)
                admins.discard(step.user_id)
            case Rename():
                assert names[step.user_id] != step.name
                names[step.user_id] = step.name
            case SetRole():
                assert step.user_id in members
                assert (step.user_id in admins) is (step.role == "member")
                admins ^= {step.user_id}
            case Post():
                assert step.user_id in members
                assert step.reply_line is None or step.reply_line in posted
                posted.add(step.line)
        assert isinstance(step, Add | SetRole) or step.user_id in acting


# --- real files ---

FILES = {
    "2004-11-15_03": 1250,
    "2005-06-06.train-c": 1500,
    "2013-10-04.train-a": 1062,
}


@pytest.mark.parametrize("name", FILES)
def test_carried_files(name: str) -> None:
    plan = load_plan(CARRIED / f"{name}.raw.txt")
    assert plan.lines == FILES[name]
    assert accounted(plan)
    check_possible(plan)
    assert plan.counts["replies"] > 40
    assert plan.counts["actions"] > 0
    assert "unreadable line" not in plan.skipped
    texts = [step.text for step in plan.steps if isinstance(step, Post)]
    assert not any("host.example" in text for text in texts)


@pytest.mark.slow
def test_the_whole_corpus_if_it_is_at_hand() -> None:
    counts: Counter[str] = Counter()
    for path in sorted(CORPUS.glob("*.raw.txt")) or sorted(CARRIED.glob("*.raw.txt")):
        plan = load_plan(path)
        assert accounted(plan), path.name
        check_possible(plan)
        counts.update(plan.counts)
        counts["lines"] += plan.lines
        counts["joined again"] += plan.skipped.get("joined while a member", 0)
    if CORPUS.exists():  # the numbers that its README tells
        assert counts["lines"] == 232_963
        assert counts["joins"] + counts["joined again"] == 16_351
        assert (counts["leaves"], counts["renames"]) == (2_634, 4_696)
        assert 207_000 < counts["messages"] + counts["actions"] < 210_000
