"""The contract of the secrets port."""

from __future__ import annotations

import asyncio
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from eventlog.mongo_secrets import MongoSecrets
from eventlog.secrets import LIST_MAX, VALUE_BYTES_MAX, MemorySecrets, Secrets, SecretsUnavailableError
from eventlog.sqlite_secrets import SqliteSecrets

Opener = Callable[[], Awaitable[Secrets]]


@pytest.fixture(params=["memory", "sqlite", pytest.param("mongodb", marks=pytest.mark.services)])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the store of the test."""

    async def open_memory() -> Secrets:
        return MemorySecrets()

    async def open_sqlite() -> Secrets:
        return await SqliteSecrets.open(tmp_path / "secrets.db")

    async def open_mongodb() -> Secrets:
        return await MongoSecrets.open(uri, database)

    if request.param == "mongodb":
        uri: str = request.getfixturevalue("mongodb_uri")
        database: str = request.getfixturevalue("mongodb_database")
        return open_mongodb
    return open_memory if request.param == "memory" else open_sqlite


@pytest.fixture
async def secrets(opener: Opener) -> AsyncIterator[Secrets]:
    """An empty store of each kind."""
    store = await opener()
    yield store
    await store.close()


async def test_put_get_delete(secrets: Secrets) -> None:
    assert await secrets.get("password", "u_1", "main") is None
    await secrets.put("password", "u_1", "main", b"\x00one")
    await secrets.put("password", "u_2", "main", b"")
    assert await secrets.get("password", "u_1", "main") == b"\x00one"
    assert await secrets.get("password", "u_2", "main") == b""
    await secrets.put("password", "u_1", "main", b"two")
    assert await secrets.get("password", "u_1", "main") == b"two"
    assert await secrets.get("refresh", "u_1", "main") is None
    assert await secrets.delete("password", "u_1", "main")
    assert not await secrets.delete("password", "u_1", "main")
    assert await secrets.get("password", "u_1", "main") is None


async def test_put_if_absent_answers_what_stands(secrets: Secrets) -> None:
    assert await secrets.put_if_absent("server", "server", "jwt", b"first") == b"first"
    assert await secrets.put_if_absent("server", "server", "jwt", b"second") == b"first"
    assert await secrets.get("server", "server", "jwt") == b"first"


async def test_only_one_of_many_racers_makes_the_key(secrets: Secrets) -> None:
    made = await asyncio.gather(
        *[secrets.put_if_absent("server", "server", "jwt", b"%d" % n) for n in range(20)]
    )
    assert len(set(made)) == 1


async def test_compare_and_swap(secrets: Secrets) -> None:
    place = ("refresh", "u_1", "s_1")
    assert not await secrets.compare_and_swap(*place, b"a", b"b")
    assert await secrets.compare_and_swap(*place, None, None)
    assert await secrets.compare_and_swap(*place, None, b"a")
    assert not await secrets.compare_and_swap(*place, None, b"x")
    assert not await secrets.compare_and_swap(*place, None, None)
    assert not await secrets.compare_and_swap(*place, b"wrong", b"b")
    assert await secrets.compare_and_swap(*place, b"a", b"b")
    assert await secrets.get(*place) == b"b"
    assert not await secrets.compare_and_swap(*place, b"a", None)
    assert await secrets.compare_and_swap(*place, b"b", None)
    assert await secrets.get(*place) is None


async def test_a_token_is_rotated_by_one_of_many_racers(secrets: Secrets) -> None:
    await secrets.put("refresh", "u_1", "s_1", b"old")
    won = await asyncio.gather(
        *[secrets.compare_and_swap("refresh", "u_1", "s_1", b"old", b"new%d" % n) for n in range(20)]
    )
    assert sum(won) == 1
    assert await secrets.get("refresh", "u_1", "s_1") == b"new%d" % won.index(True)


async def test_list_by_kind_and_subject_in_pages(secrets: Secrets) -> None:
    for subject in ("u_2", "u_1"):
        for name in ("s_3", "s_1", "s_2"):
            await secrets.put("refresh", subject, name, f"{subject}{name}".encode())
    await secrets.put("app_key", "k_1", "main", b"other")
    ours = {("u_1", "s_1"): b"u_1s_1", ("u_1", "s_2"): b"u_1s_2", ("u_1", "s_3"): b"u_1s_3"}
    listed = await secrets.list("refresh", "u_1")
    assert listed == ours
    assert list(listed) == list(ours)
    assert list(await secrets.list("refresh", limit=2)) == [("u_1", "s_1"), ("u_1", "s_2")]
    behind = await secrets.list("refresh", after=("u_1", "s_2"))
    assert list(behind) == [("u_1", "s_3"), ("u_2", "s_1"), ("u_2", "s_2"), ("u_2", "s_3")]
    assert await secrets.list("refresh", "u_9") == {}
    assert len(await secrets.list("refresh", limit=LIST_MAX * 10)) == 6


async def test_a_value_has_a_bound(secrets: Secrets) -> None:
    with pytest.raises(ValueError, match="too large"):
        await secrets.put("password", "u_1", "main", bytes(VALUE_BYTES_MAX + 1))


async def test_calls_at_the_same_time_keep_their_order(secrets: Secrets) -> None:
    place = ("refresh", "u_1", "s_1")
    found: Sequence[object] = await asyncio.gather(
        secrets.put(*place, b"one"),
        secrets.get(*place),
        secrets.compare_and_swap(*place, b"one", b"two"),
        secrets.delete(*place),
        secrets.put_if_absent(*place, b"three"),
        secrets.list("refresh"),
    )
    assert list(found) == [None, b"one", True, True, b"three", {("u_1", "s_1"): b"three"}]


async def test_calls_at_the_same_time_share_a_transaction_and_fail_together(tmp_path: Path) -> None:
    store = await SqliteSecrets.open(tmp_path / "secrets.db")
    statements: list[str] = []
    gate = threading.Event()

    async def at_once(size: int) -> Sequence[object]:
        gate.clear()
        held = store._worker.run(lambda _: gate.wait())
        calls = asyncio.gather(
            *[store.put("password", f"u_{number}", "main", bytes(size)) for number in range(50)],
            return_exceptions=True,
        )
        await asyncio.sleep(0)
        gate.set()
        await held
        return await calls

    await store._worker.run(lambda db: db.set_trace_callback(statements.append))
    assert await at_once(10) == [None] * 50
    assert statements.count("COMMIT") == 1
    await store._worker.run(lambda db: db.execute("PRAGMA max_page_count = 1").fetchone())
    assert {type(result) for result in await at_once(9_000)} == {SecretsUnavailableError}
    assert len(await store.get("password", "u_1", "main") or b"") == 10
    await store._worker.run(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())
    assert await at_once(9_000) == [None] * 50
    await store.close()


def modes_in(folder: Path) -> set[int]:
    """The permissions of the files."""
    return {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def bytes_in(folder: Path) -> bytes:
    """All files in one."""
    return b"\n".join(file.read_bytes() for file in folder.iterdir())


async def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "secrets.db"
    path.touch(mode=0o644)
    store = await SqliteSecrets.open(path)
    await store.put("password", "u_1", "main", b"x")
    assert modes_in(tmp_path) == {0o600}
    await store.close()


async def test_a_deleted_secret_leaves_no_trace_in_the_files(tmp_path: Path) -> None:
    store = await SqliteSecrets.open(tmp_path / "secrets.db")
    await store.put("password", "u_1", "main", b"correct horse battery staple")
    await store.delete("password", "u_1", "main")
    assert b"battery" not in bytes_in(tmp_path)
    await store.close()


async def test_secrets_survive_a_restart(tmp_path: Path) -> None:
    store = await SqliteSecrets.open(tmp_path / "secrets.db")
    await store.put("password", "u_1", "main", b"kept")
    await store.close()
    await store.close()
    with pytest.raises(SecretsUnavailableError):
        await store.get("password", "u_1", "main")
    again = await SqliteSecrets.open(tmp_path / "secrets.db")
    assert await again.get("password", "u_1", "main") == b"kept"
    await again.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secrets.db").write_bytes(b"no database" * 1000)
    with pytest.raises(SecretsUnavailableError):
        await SqliteSecrets.open(tmp_path / "secrets.db")


async def test_the_kinds_that_there_are(secrets: Secrets) -> None:
    assert list(await secrets.kinds()) == []
    for kind in ("refresh", "app_key", "password"):
        for subject in ("u_1", "u_2"):
            await secrets.put(kind, subject, "main", b"x")
    await secrets.delete("app_key", "u_1", "main")
    await secrets.delete("app_key", "u_2", "main")
    assert list(await secrets.kinds()) == ["password", "refresh"]
