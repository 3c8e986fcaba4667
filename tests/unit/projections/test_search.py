"""Search: any script, all words, and only what one may see."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Problem
from domain.talk import MessageRecalled, Origin
from projections.search import phrases_of, spaced, text_of
from projections.sqlite_words import match_of
from projections.store import TextQuery
from tests.unit.projections.world import START_AT, World, added, rows, views_of

GROUP = "g_1"
TENANT = "default"
TEXTS = (
    "The quick brown fox",
    "今天天气很好，我们去公园吧",
    "東京タワーに行きました",
    "안녕하세요 여러분",
    "mixed 中文 and English words",
    "naïve café",
    "foo-bar_baz 3.14 user@example.org",
    "สวัสดีครับ",
    "Привет, мир",
    "party 🎉 tonight",
)


@pytest.mark.parametrize(
    "query, found",
    [
        ("quick", [0]),
        ("QUI", [0]),
        ("fox brow", [0]),
        ("fox missing", []),
        ("uick", []),
        ("天气", [1]),
        ("公园", [1]),
        ("园吧", [1]),
        ("天园", []),
        ("天", [1]),
        ("東京", [2]),
        ("タワー", [2]),
        ("여러", [3]),
        ("中文 Eng", [4]),
        ("mixed中文", [4]),
        ("café", [5]),
        ("foo-bar", [6]),
        ("bar", [6]),
        ("3.14", [6]),
        ("example.org", [6]),
        ("สวัสดี", [7]),
        ("прив", [8]),
        ("🎉", [9]),
        ('fox" OR "今', []),
        ("fox NOT quick", []),
        ("words:fox", []),
        ("fo*", [6, 0]),
        ("NEAR(fox quick)", []),
        ("fox)", [0]),
    ],
)
async def test_words_of_any_script_are_found(tmp_path: Path, query: str, found: list[int]) -> None:
    world = World()
    await world.group(GROUP, "alice", ["bob"])
    seqs = [await world.say(GROUP, "alice", text) for text in TEXTS]
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        page = await views.search.search(TENANT, "bob", query)
        assert [row["seq"] for row in rows(page)] == [seqs[index] for index in found]
        assert all(row["conversation_id"] == GROUP for row in rows(page))


@pytest.mark.parametrize("query", ["", "   ", '"', "!!! ---", "\x00", "x" * 257, "a " * 17])
async def test_a_query_without_a_word_or_too_long_is_refused(tmp_path: Path, query: str) -> None:
    async with views_of(World(), tmp_path) as views:
        with pytest.raises(Problem, match="validation_failed"):
            await views.search.search(TENANT, "bob", query)


@given(st.text(max_size=20))
def test_no_query_is_an_operator(query: str) -> None:
    for phrase in phrases_of(query.replace("\x00", " ")):
        term = match_of(TextQuery(all_of=(phrase,)))
        inner = term.removeprefix("words : ").removesuffix("*")
        assert inner.startswith('"')
        assert inner.endswith('"')
        assert inner[1:-1].replace('""', "").count('"') == 0
    assert spaced(query).replace(" ", "") == query.replace(" ", "")


async def test_filters_and_ranges_cut_what_is_found(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice", history_visible=False)
    await world.say(GROUP, "alice", "word hidden")
    await world.commit(GROUP, added("bob", "alice"))
    first = await world.say(GROUP, "alice", "word one")
    between = world.now
    second = await world.say(GROUP, "bob", "word two")
    await world.group("g_2", "alice", ["bob"])
    third = await world.say("g_2", "alice", "word three")
    await world.group("g_3", "alice")
    await world.say("g_3", "alice", "word of strangers")
    recalled = await world.say(GROUP, "alice", "word recalled")
    await world.commit(GROUP, MessageRecalled(actor="alice", at=0, target=recalled))
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())

        async def found(**asked: Any) -> list[object]:
            return [row["seq"] for row in rows(await views.search.search(TENANT, "bob", "word", **asked))]

        assert await found() == [third, second, first]
        assert await found(conversation_id=GROUP) == [second, first]
        assert await found(conversation_id="g_3") == []
        assert await found(sender="alice") == [third, first]
        assert await found(after=between) == [third, second]
        assert await found(before=between + 1) == [first]


async def test_a_walk_by_cursor_gives_every_match_once_newest_first(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice", ["bob"])
    seqs = [await world.say(GROUP, "alice", f"common {n}") for n in range(7)]
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        found: list[object] = []
        cursor: str | None = None
        while cursor is not None or not found:
            page = await views.search.search(TENANT, "bob", "common", limit=3, cursor=cursor)
            found += [row["seq"] for row in rows(page)]
            cursor = page.next
        assert found == seqs[::-1]


async def test_imported_messages_are_found_by_their_original_time(tmp_path: Path) -> None:
    world = World()
    await world.group(GROUP, "alice", ["bob"])
    new = await world.say(GROUP, "alice", "word")
    old = await world.say(GROUP, "alice", "word", origin=Origin(at=1_000, id="x"))
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        page = await views.search.search(TENANT, "bob", "word")
        assert [row["seq"] for row in rows(page)] == [new, old]
        page = await views.search.search(TENANT, "bob", "word", before=START_AT)
        assert [row["seq"] for row in rows(page)] == [old]


def test_what_can_be_searched_of_a_content() -> None:
    for content, text in (
        ({"kind": "text", "text": "hello"}, "hello"),
        ({"kind": "image", "media_id": "m", "caption": "a cat"}, "a cat"),
        ({"kind": "html", "html": "<b>bold</b>"}, " bold "),
        (
            {"kind": "vote", "question": "when", "options": ["now", "later"], "multiple": False},
            "when now later",
        ),
        ({"kind": "custom", "data": {"text": 1}}, ""),
        ({"kind": "custom", "text": 1}, ""),
    ):
        assert text_of(msgspec.json.encode(content)) == text


async def test_search_with_many_conversations(tmp_path: Path) -> None:
    world = World()
    chosen = random.Random(1).randrange(300)
    for n in range(300):
        await world.group(f"g_{n}", "alice", ["bob"])
    await world.say(f"g_{chosen}", "alice", "needle")
    async with views_of(world, tmp_path) as views:
        await views.caught_up(world.positions())
        (row,) = rows(await views.search.search(TENANT, "bob", "needle"))
        assert row["conversation_id"] == f"g_{chosen}"
