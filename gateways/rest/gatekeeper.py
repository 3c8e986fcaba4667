"""Who may enter: limits first, then the token or the signature."""

from __future__ import annotations

from fastapi import Request

from domain.errors import Problem
from gateways.rest.call import Call
from gateways.rest.services import RestServices
from gateways.tokens import unauthenticated


class Gatekeeper:
    """Sets `request.state.call`. Raises Problem."""

    def __init__(self, services: RestServices) -> None:
        self._services = services

    def admit_anybody(self, request: Request) -> None:
        """A call that needs no user; limited by address."""
        self._services.sessions.refuse_stale()
        self.admit_unlimited(request)
        call: Call = request.state.call
        self._services.limits.anonymous(call.address)

    def admit_unlimited(self, request: Request) -> None:
        """A call of a machine that watches."""
        request.state.call = Call(request, self._services, self._services.settings.tenant, None)

    async def admit_user(self, request: Request) -> None:
        """A call with an access token.

        Wrong tokens are counted against the address, right ones against the user.
        """
        try:
            caller = await self._services.sessions.check(_bearer(request))
        except Problem as problem:
            if problem.code == "unauthenticated":
                self.admit_anybody(request)
            raise
        self._services.limits.rest(caller.tenant, caller.user_id)
        request.state.call = Call(request, self._services, caller.tenant, caller)

    async def admit_tenant(self, request: Request) -> None:
        """A call that a tenant has signed."""
        self.admit_anybody(request)
        tenant, key_id = await self._services.signed_calls.check(request, await request.body())
        request.state.call = Call(request, self._services, tenant, None, app_key=key_id)


def _bearer(request: Request) -> str:
    values = request.headers.getlist("authorization")
    if len(values) != 1:
        raise unauthenticated()
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer":
        raise unauthenticated()
    return token.strip()
