"""Users and sessions."""

from __future__ import annotations

from typing import Any, NoReturn

from fastapi import APIRouter
from fastapi.responses import Response
from msgspec import UNSET

from commands.accounts import Device, Grant, user_name
from commands.caller import Answer
from domain import user
from domain.errors import Problem, invalid
from domain.user import UserRegistered
from gateways.rest import answers, bodies
from gateways.rest.call import Call, Changing, Plain, ReadingState, marked
from gateways.rest.fields import PAGE_DEFAULT, Cursor, IdPath, Limit
from gateways.rest.groups import given_fields
from gateways.rest.routing import MemberRoute, RegistrationRoute, SignedRoute, StrictRoute
from projections.wire import wire_time

anybody = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["accounts"])
registration = APIRouter(prefix="/v1", route_class=RegistrationRoute, tags=["accounts"])
signed = APIRouter(prefix="/v1", route_class=SignedRoute, tags=["accounts"])
router = APIRouter(prefix="/v1", route_class=MemberRoute, tags=["accounts"])


@registration.post(
    "/users",
    status_code=201,
    response_model=answers.Envelope[answers.NewUser],
    responses=answers.OPEN | answers.problems(403),
    operation_id="register_user",
)
async def register_user(call: Changing, body: bodies.RegisterUser) -> Response:
    """Register.

    A call signed by the tenant may leave the password out; then only the tenant opens sessions for the user.
    """
    if call.app_key is None:
        await call.services.limits.registration(call.address)
        if not call.services.settings.registration_open:
            raise Problem("forbidden", "registration is closed")
        if body.password is None:
            raise invalid("password", "is required")
    payload = body.model_dump(exclude={"password"}, exclude_none=True)
    answer = await call.services.accounts.register(
        call.tenant, body.user_id, body.password, body.name, call.keyed(payload)
    )
    data: dict[str, Any] = {"user_id": body.user_id, "name": body.user_id, "created_at": wire_time(answer.at)}
    for row in answer.events:
        if isinstance(row.event, UserRegistered):
            data["name"] = row.event.name
    return call.answer(marked(data | {"position": answer.token}, answer), 201)


def _granted(call: Call, grant: Grant, status: int = 201) -> Response:
    refresh = grant.refresh
    token, expires_at = call.services.sessions.issue(
        refresh.tenant, refresh.user_id, refresh.session_id, grant.scope
    )
    data = {
        "session_id": refresh.session_id,
        "user_id": refresh.user_id,
        "access_token": token,
        "expires_at": wire_time(expires_at),
        "refresh_token": refresh.token,
        "refresh_expires_at": wire_time(refresh.expires_at),
    }
    if grant.position is not None:
        data["position"] = grant.position
    return call.answer(data, status)


@anybody.post(
    "/sessions",
    status_code=201,
    response_model=answers.Envelope[answers.Session],
    responses=answers.OPEN,
    operation_id="open_session",
)
async def open_session(call: Plain, body: bodies.OpenSession) -> Response:
    """Log in. A new session of the same device ends the old one."""
    await call.services.limits.login(call.tenant, body.user_id, call.address)
    device = Device(device_id=body.device_id, device_kind=body.device_kind, device_name=body.device_name)
    return _granted(
        call, await call.services.accounts.log_in(call.tenant, body.user_id, body.password, device)
    )


@anybody.post(
    "/sessions/refresh",
    response_model=answers.Envelope[answers.Session],
    responses=answers.OPEN,
    operation_id="refresh_session",
)
async def refresh_session(call: Plain, body: bodies.RefreshSession) -> Response:
    """Both tokens anew; the same token again within 60 s gives the same successor, later it ends the
    session.
    """
    return _granted(call, await call.services.accounts.refresh(body.refresh_token), 200)


@signed.post(
    "/tokens",
    status_code=201,
    response_model=answers.Envelope[answers.Session],
    responses=answers.OPEN | answers.problems(404),
    operation_id="issue_token",
)
async def issue_token(call: Plain, body: bodies.IssueToken) -> Response:
    """A session for a user whom the tenant has authenticated."""
    device = Device(
        device_id=body.device_id, device_kind=body.device_kind, device_name=body.device_name, scope=body.scope
    )
    return _granted(call, await call.services.accounts.open_session(call.tenant, body.user_id, device))


@router.get(
    "/sessions",
    response_model=answers.Listing[answers.SessionRow],
    responses=answers.READ,
    operation_id="list_sessions",
)
async def list_sessions(call: ReadingState, limit: Limit = PAGE_DEFAULT, cursor: Cursor = None) -> Response:
    """The caller's sessions, oldest first."""
    caller, sessions = call.caller, call.services.sessions
    rows = []
    for session_id, session in (await call.services.accounts.sessions(caller)).items():
        seen_at = sessions.last_seen(caller.tenant, caller.user_id, session_id) or session.opened_at
        row = {
            "session_id": session_id,
            "device_id": session.device_id,
            "device_kind": session.device_kind,
            "created_at": wire_time(session.opened_at),
            "last_seen": wire_time(seen_at),
            "current": session_id == caller.session_id,
        }
        if session.device_name is not None:
            row["device_name"] = session.device_name
        rows.append(((session.opened_at, session_id), row))
    return call.part("sessions", rows, limit, cursor)


@router.delete(
    "/sessions/{session_id}",
    response_model=answers.Envelope[answers.Changed],
    responses=answers.CHANGE,
    operation_id="end_session",
)
async def end_session(call: Changing, session_id: IdPath) -> Response:
    """End one of the caller's sessions; `current` is the one of this call."""
    wanted = call.caller.session_id if session_id == "current" else session_id
    answer = await call.services.accounts.end_session(call.caller, wanted or "", call.keyed(None))
    return call.answer(marked({"session_id": wanted, "position": answer.token}, answer))


@router.put(
    "/users/me/password",
    response_model=answers.Envelope[answers.Changed],
    responses=answers.CHANGE,
    operation_id="change_password",
)
async def change_password(call: Changing, body: bodies.ChangePassword) -> Response:
    """Another password; every other session ends."""
    await call.services.limits.login(call.caller.tenant, call.user_id, call.address)
    answer = await call.services.accounts.change_password(
        call.caller, body.old_password, body.new_password, call.keyed(None)
    )
    if answer is None or not answer.changed:
        return call.answer({"changed": False})
    return call.answer(marked({"position": answer.token}, answer))


@router.get(
    "/users/me",
    response_model=answers.Envelope[answers.OwnProfile],
    responses=answers.READ,
    operation_id="get_own_profile",
)
async def get_own_profile(call: ReadingState) -> Response:
    """The caller's profile."""
    return call.answer(await _profile(call))


async def _profile(call: Call) -> dict[str, Any]:
    return profile_data(call.user_id, await call.services.accounts.state(call.caller.tenant, call.user_id))


def profile_data(user_id: str, state: user.UserState) -> dict[str, Any]:
    """A profile as its owner sees it."""
    data: dict[str, Any] = {
        "user_id": user_id,
        "name": state.name,
        "friend_policy": state.friend_policy,
        "created_at": wire_time(state.registered_at or 0),
    }
    return data | {name: value for name in ("avatar", "bio") if (value := getattr(state, name)) is not None}


@router.patch(
    "/users/me",
    response_model=answers.Envelope[answers.OwnProfile],
    responses=answers.CHANGE,
    operation_id="change_profile",
)
async def change_profile(call: Changing, body: bodies.ChangeProfile) -> Response:
    """Change the caller's profile; answers with it."""
    given = given_fields(body)
    command = user.ChangeProfile(
        **{name: given.get(name, UNSET) for name in bodies.ChangeProfile.model_fields}
    )
    answer = await call.change(user_name(call.user_id), command, given)
    return call.answer(profile_change(await _profile(call), answer))


def profile_change(profile: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """The profile with what became of the call."""
    if not answer.changed:
        return profile | {"changed": False}
    return marked(profile | {"position": answer.token}, answer)


@router.delete("/users/me", responses=answers.CHANGE, operation_id="erase_user", response_model=None)
async def erase_user(call: Plain, body: bodies.DeleteUser) -> NoReturn:
    """Erasure is not built yet: `unavailable` once the password has been checked."""
    await call.services.limits.login(call.caller.tenant, call.user_id, call.address)
    await call.services.accounts.check_own_password(call.caller, body.password)
    raise Problem("unavailable", "erasure is not available yet")
