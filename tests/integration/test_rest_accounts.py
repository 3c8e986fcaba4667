"""Accounts through the REST face: registration, log-in, sessions, passwords, signed calls, limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from commands.caller import Caller, Keyed
from domain.inbox import SYSTEM
from domain.tenant import DisableTenant
from gateways.limits import LimitSettings
from gateways.rest.services import RestSettings
from tests.integration.rest_house import PASSWORD, House, data_of, house, problem_of

pytestmark = pytest.mark.slow


@pytest.fixture
async def built(tmp_path: Path) -> AsyncIterator[House]:
    """A house without rate limits."""
    async with house(tmp_path) as opened:
        yield opened


def _log_in(user_id: str, **changes: Any) -> dict[str, Any]:
    return {"user_id": user_id, "password": PASSWORD, "device_id": "d1", "device_kind": "web"} | changes


async def test_registration(built: House) -> None:
    response = await built.client.post(
        "/v1/users", json={"user_id": "ann", "password": PASSWORD, "name": " Ann "}
    )
    assert response.status_code == 201
    data = data_of(response)
    assert (data["user_id"], data["name"]) == ("ann", "Ann")
    assert data["created_at"].endswith("Z")
    assert PASSWORD not in response.text
    again = await built.client.post("/v1/users", json={"user_id": "ann", "password": PASSWORD})
    assert problem_of(again)["code"] == "conflict"
    for wrong in (
        {"user_id": "Ann"},
        {"user_id": "me"},
        {"password": "short"},
        {"password": "x" * 257},
        {"password": None},
    ):
        body = {"user_id": "bob", "password": PASSWORD} | wrong
        assert problem_of(await built.client.post("/v1/users", json=body))["code"] == "validation_failed"
    assert not await built.desk.user_exists("default", "bob")


async def test_of_registrations_at_once_one_wins(built: House) -> None:
    bodies = [{"user_id": "ann", "password": f"password {number}"} for number in range(6)]
    responses = await asyncio.gather(*(built.client.post("/v1/users", json=body) for body in bodies))
    assert sorted(response.status_code for response in responses) == [201] + [409] * 5
    (winner,) = [
        body for body, response in zip(bodies, responses, strict=True) if response.status_code == 201
    ]
    tries = [await built.client.post("/v1/sessions", json=_log_in(**body)) for body in bodies]
    assert [response.status_code == 201 for response in tries] == [body is winner for body in bodies]


async def test_a_repeated_registration_is_the_first_one(built: House) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = await built.client.post(
        "/v1/users", json={"user_id": "ann", "password": PASSWORD}, headers=headers
    )
    again = await built.client.post(
        "/v1/users", json={"user_id": "ann", "password": PASSWORD}, headers=headers
    )
    assert again.status_code == 201
    assert data_of(again) == data_of(first) | {"replayed": True}
    other = {"user_id": "ann", "password": PASSWORD, "name": "Other"}
    response = await built.client.post("/v1/users", json=other, headers=headers)
    assert problem_of(response)["code"] == "idempotency_conflict"
    assert (await built.client.post("/v1/sessions", json=_log_in("ann"))).status_code == 201


async def test_unknown_users_and_wrong_passwords_answer_alike(built: House) -> None:
    await built.person("ann")
    answers = []
    for body in (_log_in("ann", password="wrong one"), _log_in("nobody")):
        problem = problem_of(await built.client.post("/v1/sessions", json=body))
        answers.append({name: value for name, value in problem.items() if name != "request_id"})
    assert answers[0] == answers[1]
    assert answers[0]["code"] == "unauthenticated"


async def test_sessions_are_listed_and_ended(built: House) -> None:
    ann = await built.person("ann")
    built.clock.now += 1
    other = await built.log_in("ann", "phone", "mobile")
    closed: list[tuple[str, ...]] = []
    built.sessions.on_closed(lambda *ended: closed.append(ended))
    rows = await ann.get("/v1/sessions")
    assert [(row["device_id"], row["current"]) for row in rows] == [("d1", True), ("phone", False)]
    await ann.do("DELETE", f"/v1/sessions/{other.session['session_id']}")
    assert closed == [("default", "ann", other.session["session_id"], "ended")]
    assert problem_of(await other.call("GET", "/v1/users/me"))["code"] == "unauthenticated"
    refresh = {"refresh_token": other.session["refresh_token"]}
    assert (
        problem_of(await built.client.post("/v1/sessions/refresh", json=refresh))["code"] == "unauthenticated"
    )
    gone = await ann.call("DELETE", f"/v1/sessions/{other.session['session_id']}")
    assert problem_of(gone)["code"] == "not_found"
    await ann.do("DELETE", "/v1/sessions/current")
    assert problem_of(await ann.call("GET", "/v1/users/me"))["code"] == "unauthenticated"


async def test_a_new_session_of_a_device_ends_the_old_one(built: House) -> None:
    old = await built.person("ann")
    new = await built.log_in("ann")
    assert problem_of(await old.call("GET", "/v1/users/me"))["code"] == "unauthenticated"
    assert len(await new.get("/v1/sessions")) == 1


async def test_the_oldest_session_makes_room(built: House) -> None:
    first = await built.person("ann", device_id="d0")
    people = []
    for number in range(1, 21):
        built.clock.now += 1
        people.append(await built.log_in("ann", f"d{number}"))
    assert problem_of(await first.call("GET", "/v1/users/me"))["code"] == "unauthenticated"
    assert len(await people[0].get("/v1/sessions")) == 20


async def test_tokens_expire_and_are_renewed(built: House) -> None:
    ann = await built.person("ann")
    built.clock.now += 15 * 60_000
    assert problem_of(await ann.call("GET", "/v1/users/me"))["code"] == "unauthenticated"
    body = {"refresh_token": ann.session["refresh_token"]}
    first = await built.client.post("/v1/sessions/refresh", json=body)
    assert first.status_code == 200
    again = data_of(await built.client.post("/v1/sessions/refresh", json=body))
    assert again["refresh_token"] == data_of(first)["refresh_token"]
    ann.session = data_of(first)
    assert (await ann.get("/v1/users/me"))["user_id"] == "ann"
    built.clock.now += 60_001
    late = await built.client.post("/v1/sessions/refresh", json=body)
    assert problem_of(late)["code"] == "unauthenticated"
    assert problem_of(await ann.call("GET", "/v1/users/me"))["code"] == "unauthenticated"
    for wrong in ("", "x" * 513, "x", ann.session["access_token"]):
        response = await built.client.post("/v1/sessions/refresh", json={"refresh_token": wrong})
        assert problem_of(response)["code"] in ("unauthenticated", "validation_failed")


async def test_a_password_change_ends_all_other_sessions(built: House) -> None:
    ann = await built.person("ann")
    other = await built.log_in("ann", "phone")
    change = {"old_password": PASSWORD, "new_password": "battery staple"}
    wrong = await ann.call("PUT", "/v1/users/me/password", change | {"old_password": "not the one"})
    assert problem_of(wrong)["code"] == "forbidden"
    assert (await ann.do("PUT", "/v1/users/me/password", change))["position"]
    assert await ann.do("PUT", "/v1/users/me/password", change) == {"changed": False}
    assert problem_of(await other.call("GET", "/v1/users/me"))["code"] == "unauthenticated"
    assert (await ann.get("/v1/users/me"))["user_id"] == "ann"
    assert (
        problem_of(await built.client.post("/v1/sessions", json=_log_in("ann")))["code"] == "unauthenticated"
    )
    new = _log_in("ann", password="battery staple", device_id="d2")
    assert (await built.client.post("/v1/sessions", json=new)).status_code == 201


async def test_a_repeated_password_change_gives_the_first_answer(built: House) -> None:
    ann = await built.person("ann")
    path, change = "/v1/users/me/password", {"old_password": PASSWORD, "new_password": "battery staple"}
    first = await ann.do("PUT", path, change, key="k")
    assert await ann.do("PUT", path, change, key="k") == first | {"replayed": True}
    wrong = change | {"old_password": "not the one", "new_password": "something else"}
    assert problem_of(await ann.call("PUT", path, wrong, key="other"))["code"] == "forbidden"
    same = {"old_password": "battery staple", "new_password": "battery staple"}
    assert await ann.do("PUT", path, same) == {"changed": False}


async def test_signed_calls(built: House) -> None:
    key = await built.app_keys.create("default")
    body = msgspec.json.encode({"user_id": "irc.ann"})
    headers = built.signature(key, "POST", "/v1/users", body)
    data_of(await built.client.post("/v1/users", content=body, headers=headers))
    again = await built.client.post("/v1/users", content=body, headers=headers)
    assert problem_of(again)["code"] == "unauthenticated"
    body = msgspec.json.encode(
        {"user_id": "irc.ann", "device_id": "d1", "device_kind": "bot", "scope": "import"}
    )
    headers = built.signature(key, "POST", "/v1/tokens", body)
    session = data_of(await built.client.post("/v1/tokens", content=body, headers=headers))
    caller = await built.sessions.check(session["access_token"])
    assert (caller.user_id, caller.importing) == ("irc.ann", True)
    assert built.sessions.device_kind_of(caller) == "bot"
    assert (
        problem_of(await built.client.post("/v1/sessions", json=_log_in("irc.ann")))["code"]
        == "unauthenticated"
    )
    unknown = msgspec.json.encode({"user_id": "nobody", "device_id": "d1", "device_kind": "bot"})
    headers = built.signature(key, "POST", "/v1/tokens", unknown)
    assert (
        problem_of(await built.client.post("/v1/tokens", content=unknown, headers=headers))["code"]
        == "not_found"
    )


async def test_wrong_signatures(built: House) -> None:
    key = await built.app_keys.create("default", expires_at=built.clock.now + 1_000_000)
    revoked = await built.app_keys.create("default")
    await built.app_keys.revoke("default", revoked[0])
    body = msgspec.json.encode({"user_id": "ann"})

    async def refused(headers: dict[str, str], target: str = "/v1/users", content: bytes = body) -> None:
        response = await built.client.post(target, content=content, headers=headers)
        assert problem_of(response)["code"] == "unauthenticated"

    def good() -> dict[str, str]:
        return built.signature(key, "POST", "/v1/users", body)

    await refused(good(), content=b'{"user_id":"bob"}')
    await refused(good(), target="/v1/users?x=1")
    await refused(built.signature(key, "PUT", "/v1/users", body))
    await refused(built.signature((key[0], "x"), "POST", "/v1/users", body))
    await refused(built.signature(("ak_nothing", ""), "POST", "/v1/users", body))
    await refused(built.signature(revoked, "POST", "/v1/users", body))
    for change in (
        {"X-Timestamp": "x"},
        {"X-Timestamp": "1"},
        {"X-Nonce": ""},
        {"X-Signature": "x"},
    ):
        await refused(good() | change)
    stale = good()
    built.clock.now += 300_000
    await refused(good() | {"X-Timestamp": stale["X-Timestamp"]})
    built.clock.now += 1_000
    await refused(stale)
    built.clock.now += 700_000
    await refused(good())
    standing = await built.app_keys.create("default")
    await built.desk.execute(Caller("default", SYSTEM), "tenant:default", DisableTenant(), Keyed("test"))
    await refused(built.signature(standing, "POST", "/v1/users", body))
    assert not await built.desk.user_exists("default", "ann")


async def test_registration_can_be_closed(tmp_path: Path) -> None:
    async with house(tmp_path, settings=RestSettings(shard_count=4, registration_open=False)) as built:
        response = await built.client.post("/v1/users", json={"user_id": "ann", "password": PASSWORD})
        assert problem_of(response)["code"] == "forbidden"


async def test_limits(tmp_path: Path) -> None:
    limits = LimitSettings(
        registrations_per_min_address=2, logins_per_min_user=3, rest_per_s_user=1, rest_burst_user=5
    )
    async with house(tmp_path, limits) as built:
        ann = await built.person("ann")
        await built.person("bob")
        third = await built.client.post("/v1/users", json={"user_id": "cem", "password": PASSWORD})
        problem = problem_of(third)
        assert problem["code"] == "rate_limited"
        assert problem["retry_after_ms"] > 0
        assert int(third.headers["retry-after"]) >= 1
        codes = [
            (await built.client.post("/v1/sessions", json=_log_in("ann", password="x" * 8))).status_code
            for _ in range(3)
        ]
        assert codes == [401, 401, 429]
        reads = [(await ann.call("GET", "/v1/users/me")).status_code for _ in range(6)]
        assert reads == [200] * 5 + [429]
        built.clock.now += 1_000
        assert (await ann.call("GET", "/v1/users/me")).status_code == 200
