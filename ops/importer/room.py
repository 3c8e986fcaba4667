"""Bringing one file's plan into a group: strictly in the file's order, each step once however often it is
run.

Every step carries a key made of the file's name and the line's number, so a step that was done before (by a
run that was killed, or by a whole one) gives its first answer again. That is the only state there is: nothing
is kept locally.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache

from client.problem import ProblemError
from client.records import Posted
from client.rest import RestClient
from ops.importer.people import People
from ops.importer.plan import ADDED_A_CALL_MAX, Add, Leave, Plan, Post, Rename, SetRole, Step

MEMBERS_MAX = 100_000
TIMES_KEPT = 1_024
"""A log says only the minute, so its lines share few times."""
REFUSALS_OF_A_LINE = frozenset({"validation_failed", "too_large"})


class Room:
    """One group and its owner: `enter` first, then `bring` for each of its files, one after the other."""

    def __init__(self, name: str, owner: str, rest: RestClient, people: People) -> None:
        self.name = name
        self.owner = owner
        self.conversation_id = ""
        self.refused: Counter[str] = Counter()
        self.refused_by_kind: Counter[str] = Counter()
        self.replayed = 0
        self._rest = rest
        self._people = people

    async def enter(self) -> None:
        """Makes the group, or finds the one that an earlier run made."""
        change = await self._people.call(
            self.owner,
            lambda token: self._rest.create_group(
                self.name,
                key=f"irc:group:{self.name}"[:128],
                token=token,
                join="closed",
                max_members=MEMBERS_MAX,
            ),
        )
        self.conversation_id = change.conversation_id

    async def bring(self, plan: Plan, done: Callable[[int], None]) -> None:
        """Runs the plan; `done(line)` after each step.

        Cancelling leaves a beginning of the file, in order.
        """
        for first in range(0, len(plan.initial), ADDED_A_CALL_MAX):
            members = plan.initial[first : first + ADDED_A_CALL_MAX]
            await self._add(members, f"irc:{plan.name}:start:{first}")
        seqs: dict[int, int] = {}
        for step in plan.steps:
            await self._step(plan.name, step, seqs)
            done(step.line)

    async def _step(self, file: str, step: Step, seqs: dict[int, int]) -> None:
        key = f"irc:{file}:{step.line}"
        match step:
            case Post():
                await self._post(file, step, seqs)
            case Add():
                await self._add(step.user_ids, f"{key}:add")
            case SetRole():
                change = await self._people.call(
                    self.owner,
                    lambda token: self._rest.change_member(
                        self.conversation_id,
                        step.user_id,
                        key=f"{key}:role:{step.part}",
                        token=token,
                        role=step.role,
                    ),
                )
                self.replayed += change.replayed
            case Leave():
                change = await self._people.call(
                    step.user_id,
                    lambda token: self._rest.leave_group(
                        self.conversation_id, key=f"{key}:leave", token=token, pipelined=True
                    ),
                )
                self.replayed += change.replayed
            case Rename():
                record = await self._people.call(
                    step.user_id,
                    lambda token: self._rest.change_profile(key=f"{key}:name", token=token, name=step.name),
                )
                self.replayed += record.get("replayed") is True

    async def _add(self, user_ids: tuple[str, ...], key: str) -> None:
        change = await self._people.call(
            self.owner,
            lambda token: self._rest.add_members(
                self.conversation_id, user_ids, key=key, token=token, pipelined=True
            ),
        )
        self.replayed += change.replayed

    async def _post(self, file: str, step: Post, seqs: dict[int, int]) -> None:
        original = f"{file}:{step.line}"
        at = _wire_time(step.at)

        async def post(token: str) -> Posted:
            return await self._rest.post(
                self.conversation_id,
                original,
                {"kind": "action" if step.action else "text", "text": step.text},
                reply_to=None if step.reply_line is None else seqs.get(step.reply_line),
                origin={"at": at, "id": original} if self._people.vouched else None,
                token=token,
                pipelined=True,
            )

        try:
            posted = await self._people.call(step.user_id, post)
        except ProblemError as problem:
            if problem.code not in REFUSALS_OF_A_LINE:
                raise
            self.refused[f"refused by the server: {problem.code}"] += 1
            self.refused_by_kind["actions" if step.action else "messages"] += 1
            return
        seqs[step.line] = posted.seq
        self.replayed += posted.replayed


@lru_cache(maxsize=TIMES_KEPT)
def _wire_time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
