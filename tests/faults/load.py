"""A steady load over both gateways: users who write into several conversations and read all of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from client.rest import RestClient
from tests.faults.ledger import Counts
from tests.faults.member import PASSWORD, Member
from tests.faults.waiting import Bell

USERS = ("ann", "bob", "carl", "dora", "emil", "fay")
GROUPS = 3
PER_SECOND = 60.0
"""Messages of all users together; each comes to four or six readers."""
SETTLE_S_MAX = 180.0
MORE_S_MAX = 180.0


class Load:
    """The users. Between `go` and `settle` they write; what they wrote is then acknowledged and read by all."""

    def __init__(self, members: Sequence[Member], counts: Counts, bell: Bell, per_second: float) -> None:
        self.members = members
        self.counts = counts
        self.bell = bell
        self._pace_s = len(members) / per_second
        self._may_write = asyncio.Event()
        self.heads: dict[str, int] = {}
        """The highest acknowledged seq of each conversation, after `settle`."""

    @property
    def acked(self) -> int:
        """Sends that were acknowledged since the beginning."""
        return sum(member.acked for member in self.members)

    @property
    def open(self) -> int:
        """Sends that wait."""
        return sum(len(member.open) for member in self.members)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everybody connects; nobody writes before `go`."""
        async with asyncio.TaskGroup() as tasks:
            owned = [tasks.create_task(member.run()) for member in self.members]
            owned += [
                tasks.create_task(member.write(self._pace_s, self._may_write)) for member in self.members
            ]
            try:
                await self.connected()
                yield
            finally:
                for task in owned:
                    task.cancel()

    async def connected(self) -> None:
        """Wait until everybody is."""
        await self.bell.until(
            lambda: all(member.connected for member in self.members),
            SETTLE_S_MAX,
            lambda: f"not connected: {[one.user_id for one in self.members if not one.connected]}",
        )

    def go(self) -> None:
        """Write, and go on writing."""
        self._may_write.set()

    async def more(self, count: int) -> None:
        """Wait for so many further acknowledgements. Raises NotReachedError."""
        wanted = self.acked + count
        await self.bell.until(
            lambda: self.acked >= wanted,
            MORE_S_MAX,
            lambda: f"{self.acked + count - wanted} of {count} sends were acknowledged, {self._states()}",
        )

    async def settle(self) -> None:
        """Write no more; return when all is acknowledged and every reader holds all of it. Raises NotReachedError."""
        self._may_write.clear()
        await self.bell.until(
            lambda: not self.open,
            SETTLE_S_MAX,
            lambda: f"{self.open} sends were not acknowledged, {self._states()}",
        )
        for member in self.members:
            for sent in member.sent:
                assert sent.ack is not None
                self.heads[sent.conversation_id] = max(sent.ack[0], self.heads.get(sent.conversation_id, 0))
        await self.bell.until(
            lambda: all(not self._missing(member) for member in self.members),
            SETTLE_S_MAX,
            lambda: (
                "; ".join(
                    f"{one.user_id} lacks {self._missing(one)}" for one in self.members if self._missing(one)
                )
                + f" ({self._states()})"
            ),
        )

    def forget(self) -> None:
        """What was acknowledged so far counts no more: the log was put back to a moment before."""
        self.heads.clear()
        for member in self.members:
            member.sent = []
            member.reader.take_seen()

    def _missing(self, member: Member) -> dict[str, tuple[int, int]]:
        """{conversation: (have, head)} where a reader is behind, or is about to ask for something."""
        return {
            name: (have, self.heads.get(name, 0))
            for name, have in member.reader.have.items()
            if have < self.heads.get(name, 0) or not member.connected
        }

    def _states(self) -> str:
        return ", ".join(
            f"{one.user_id} {'on' if one.connected else f'off after {one.close_codes[-1:]}'}"
            f"{f', refused: {one.refusals[-1]}' if one.refusals else ''}"
            for one in self.members
        )


async def open_load(
    gateways: Sequence[str], chance: random.Random, per_second: float = PER_SECOND, prefix: str = ""
) -> Load:
    """Register everybody, and make groups of all and a pair of each two neighbours; half of the users begin at each gateway."""
    users = [f"{prefix}{user}" for user in USERS]
    conversations: dict[str, list[str]] = {user: [] for user in users}
    async with RestClient(gateways[0]) as rest:
        for user in users:
            await rest.create_user(user, PASSWORD)
        for number, (first, second) in enumerate(zip(users, [*users[1:], users[0]], strict=True)):
            own = rest.as_user((await rest.log_in(first, PASSWORD, "d0")).access_token)
            if number < GROUPS:
                others = [user for user in users if user != first]
                group = str((await own.create_group("room", others)).conversation_id)
                for user in users:
                    conversations[user].append(group)
            pair = await own.open_direct(second)
            conversations[first].append(pair)
            conversations[second].append(pair)
    counts, bell = Counts(), Bell()
    members = [
        Member(
            user,
            conversations[user],
            [*gateways[number % 2 :], *gateways[: number % 2]],
            counts,
            bell,
            random.Random(chance.random()),
        )
        for number, user in enumerate(users)
    ]
    return Load(members, counts, bell, per_second)
