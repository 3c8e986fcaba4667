"""The import's calls: keys that do not change, order in a room, resuming anywhere, both ways to log in."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.caller import AppKey
from client.problem import ProblemError
from ops.importer.people import ForeignUserError
from ops.importer.run import ImportOptions, ImportSummary, Progress, app_key_from_environment, import_irc
from tests.unit.client_peer import Call, Peer, Reply, problem

LOG = """[01:00] <ann> one
[01:00] <bob> two
=== cat [c@h.example]  has joined #x
[01:01]  * cat waves
=== cat is now known as Cat_
[01:02] <Cat_> three
=== mode/#x [+o bob]  by ChanServ
=== bob [b@h.example]  has left #x []
[01:03] <ann>
[01:04] <ann> four
"""
ANSWERS = "0 1 -\n1 5 -\n0 5 -\n0 0 -\n"


@dataclass
class Server:
    """As much of the contract as an import touches: accounts, one answer for each key, seqs by arrival."""

    fail_at: int | None = None
    calls: int = 0
    users: dict[str, str | None] = field(default_factory=dict)
    answers: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    rooms: dict[str, list[tuple[str, Any]]] = field(default_factory=dict)
    bodies: list[tuple[str, str, Any]] = field(default_factory=list)

    def __call__(self, call: Call) -> Reply:
        """Answers one call."""
        self.calls += 1
        if self.fail_at is not None and self.calls >= self.fail_at:
            return problem("forbidden", 403)  # as good as a kill: the run ends here
        if call.target == "/v1/users":
            return self.register(call)
        if call.target in {"/v1/sessions", "/v1/tokens"}:
            return self.session(call)
        return self.change(call)

    def register(self, call: Call) -> Reply:
        """A user."""
        body = call.json()
        assert ("x-signature" in call.headers) is ("password" not in body)
        if body["user_id"] in self.users:
            return problem("conflict", 409)
        self.users[body["user_id"]] = body.get("password")
        return Reply(201, {"data": {"user_id": body["user_id"], "name": body["name"]}, "request_id": "r"})

    def session(self, call: Call) -> Reply:
        """A session whose token is the user's id."""
        body = call.json()
        if self.users.get(body["user_id"], "") != body.get("password"):
            return problem("unauthenticated", 401)
        expires = (datetime.now(UTC) + timedelta(minutes=15)).isoformat()
        data = {
            "session_id": "s",
            "access_token": body["user_id"],
            "expires_at": expires,
            "refresh_token": "r",
        }
        return Reply(201, {"data": data, "request_id": "r"})

    def change(self, call: Call) -> Reply:
        """A change of a room, once for each key."""
        user = call.headers["authorization"].removeprefix("Bearer ")
        body = call.json()
        key = call.headers.get("idempotency-key") or body["client_msg_id"]
        known = self.answers.get((user, call.target, key))
        if known is not None:
            assert known["body"] == body
            return Reply(200, {"data": {**known["data"], "replayed": True}, "request_id": "r"})
        self.bodies.append((user, f"{call.method} {call.target}", body))
        if call.target == "/v1/groups":
            name = body["name"]
            self.rooms[name] = []
        else:
            name = (
                unquote(call.target.split("/")[3])
                if call.target != "/v1/users/me"
                else next(iter(self.rooms))
            )
        self.rooms[name].append((user, body))
        seq = len(self.rooms[name])
        data = {
            "conversation_id": name,
            "seq": seq,
            "message_id": f"m{seq}",
            "ordinal": seq,
            "at": "t",
            "position": "1",
        }
        self.answers[user, call.target, key] = {"data": data, "body": body}
        return Reply(201, {"data": data, "request_id": "r"})


def written(folder: Path, *names: str) -> list[Path]:
    """Log files of that content."""
    paths = []
    for name in names:
        path = folder / f"{name}.raw.txt"
        path.write_text(LOG)
        (folder / f"{name}.annotation.txt").write_text(ANSWERS)
        paths.append(path)
    return paths


async def imported(
    server: Server, folder: Path, *names: str, signed: bool = True, **options: Any
) -> ImportSummary:
    """One run."""
    reports: list[Progress] = []
    async with Peer(server) as peer:
        summary = await import_irc(
            ImportOptions(
                url=peer.url,
                files=written(folder, *names),
                app_key=AppKey("key", "secret") if signed else None,
                secret_file=folder / "secret",
                **options,
            ),
            reports.append,
        )
    assert [report.phase for report in reports][-1] == "lines"
    assert reports[-1].done == reports[-1].total == 10 * len(names)
    return summary


async def test_the_calls_of_a_file(tmp_path: Path) -> None:
    server = Server()
    summary = await imported(server, tmp_path, "2013-10-04")
    owner = "2013-10-04@@owner"
    ann, bob, cat = (f"2013-10-04@{nick}" for nick in ("ann", "bob", "cat"))

    def message(line: int, minute: int, text: str, kind: str = "text", **more: Any) -> dict[str, Any]:
        original = f"2013-10-04:{line}"
        origin = {"at": f"2013-10-04T01:{minute:02}:00.000Z", "id": original}
        return {"client_msg_id": original, "content": {"kind": kind, "text": text}, "origin": origin, **more}

    post, members = "POST /v1/conversations/2013-10-04/messages", "/v1/groups/2013-10-04/members"
    assert server.bodies == [
        (owner, "POST /v1/groups", {"name": "2013-10-04", "join": "closed", "max_members": 100_000}),
        (owner, f"POST {members}", {"user_ids": [ann, bob]}),
        (ann, post, message(0, 0, "one")),
        (bob, post, message(1, 0, "two", reply_to=3)),
        (owner, f"POST {members}", {"user_ids": [cat]}),
        (cat, post, message(3, 1, "waves", "action")),
        (cat, "PATCH /v1/users/me", {"name": "Cat_"}),
        (cat, post, message(5, 2, "three", reply_to=4)),
        (owner, f"PATCH {members}/2013-10-04%40bob", {"role": "admin"}),
        (bob, "POST /v1/groups/2013-10-04/leave", None),
        (ann, post, message(9, 4, "four")),
    ]
    assert (summary.lines, summary.messages, summary.actions, summary.joins) == (10, 4, 1, 1)
    assert (summary.leaves, summary.renames, summary.modes, summary.members) == (1, 1, 1, 3)
    assert (summary.replies, summary.replies_dropped) == (2, 1)
    assert summary.skipped == {"text without a visible character": 1}
    assert (summary.accounts_made, summary.replayed, summary.groups) == (4, 0, {"2013-10-04": "2013-10-04"})
    assert summary.lines_per_second > 0


@pytest.mark.parametrize("signed", [True, False])
async def test_a_second_run_adds_nothing(tmp_path: Path, signed: bool) -> None:
    server = Server()
    await imported(server, tmp_path, "a", "b", signed=signed)
    before = list(server.bodies)
    again = await imported(server, tmp_path, "a", "b", signed=signed)
    assert server.bodies == before
    assert again.accounts_made == 0
    assert again.replayed == len(before) - 2  # all but the groups' making
    assert not any("h.example" in str(body) for _, _, body in server.bodies)


async def test_registered_people_have_derived_passwords_and_no_origin(tmp_path: Path) -> None:
    server = Server()
    await imported(server, tmp_path, "a", signed=False)
    passwords = [password for password in server.users.values() if password is not None]
    assert len(set(passwords)) == len(server.users) == 4
    assert all(8 <= len(password) <= 256 for password in passwords)
    assert not any("origin" in (body or {}) for _, _, body in server.bodies)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    (tmp_path / "secret").unlink()
    with pytest.raises(ForeignUserError):
        await imported(server, tmp_path, "a", signed=False)


async def test_one_group_for_all(tmp_path: Path) -> None:
    server = Server()
    summary = await imported(server, tmp_path, "a", "b", group="Ubuntu help")
    assert list(server.rooms) == ["Ubuntu help"]
    assert summary.groups == {"Ubuntu help": "Ubuntu help"}
    texts = [body["client_msg_id"] for _, _, body in server.bodies if body and "client_msg_id" in body]
    assert texts == [f"{file}:{line}" for file in "ab" for line in (0, 1, 3, 5, 9)]


@pytest.mark.slow
@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40))
async def test_killed_anywhere_and_run_again_is_as_run_once(
    tmp_path_factory: pytest.TempPathFactory, first: int, second: int
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    whole, broken = Server(), Server()
    await imported(whole, folder, "a", "b")
    for fail_at in (first, second):
        broken.fail_at = broken.calls + fail_at
        with suppress(ProblemError):
            await imported(broken, folder, "a", "b")
    broken.fail_at = None
    await imported(broken, folder, "a", "b")
    for name in ("a", "b"):
        assert rooms(broken)[name] == rooms(whole)[name]
    assert Counter(broken.users) == Counter(whole.users)


def rooms(server: Server) -> dict[str, list[tuple[str, Any]]]:
    """What happened in each room, in order, without the profile changes that belong to none."""
    return {
        room: [entry for entry in entries if entry[1] is None or set(entry[1]) != {"name"}]
        for room, entries in server.rooms.items()
    }


async def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (path,) = written(tmp_path, "a")
    with pytest.raises(ValueError, match="two files are called a"):
        await import_irc(ImportOptions("http://127.0.0.1:1", [path, path]), lambda _: None)


def test_the_app_key_comes_from_the_environment() -> None:
    both = {"MINUTEBOOK_APP_KEY": "k", "MINUTEBOOK_APP_SECRET": "s"}
    assert app_key_from_environment(both) == AppKey("k", "s")
    assert app_key_from_environment({"MINUTEBOOK_APP_KEY": "k"}) is None
