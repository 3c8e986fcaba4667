"""All REST calls of the contract in one class."""

from __future__ import annotations

from typing import Self

from client.accounts import AccountCalls
from client.conversations import ConversationCalls
from client.groups import GroupCalls
from client.people import PeopleCalls


class RestClient(AccountCalls, PeopleCalls, GroupCalls, ConversationCalls):
    """Typed REST calls with retries; use as `async with RestClient(url) as rest`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def as_user(self, token: str) -> RestClient:
        """The same server and connections for another user."""
        return RestClient(
            self.url,
            token=token,
            app_key=self.app_key,
            clock=self.clock,
            jitter=self.jitter,
            deadline_s=self.deadline_s,
            pool=self.pool,
        )
