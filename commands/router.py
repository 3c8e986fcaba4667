"""The router: brings each command to the node that owns its shard, in this process or another, until it has an answer or no time left."""

from __future__ import annotations

import asyncio
import random
from bisect import insort
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from operator import attrgetter

import structlog
from typing_extensions import override

from commands.caller import Answer, Caller, Keyed
from commands.calls import Call, Lane, Lost, RouterCounters
from commands.desk import Desk
from commands.flushing import OUTCOME_UNKNOWN
from commands.looks import Look, LookKind, answer_look
from commands.order import Done, Order, outcome_of
from commands.ownership import NotOwner, OwnershipMap
from commands.peers import PeerLostError, Peers
from commands.port import CommandPort, Outline
from commands.settings import RouterSettings
from commands.tasks import TaskOwner
from domain.aggregates import State
from domain.errors import Problem
from domain.event import Command
from domain.streams import qualified, shard_of, user_stream
from eventlog.record import Trace

_UNDECIDED = frozenset({"unavailable", "overloaded"})
"""Refusals that say nothing about an earlier try."""
NO_OWNER = Problem("unavailable", "the owner of this shard cannot be reached; try again", retry_after_ms=500)
_CLOSED = Problem("unavailable", "the server is shutting down; try again", retry_after_ms=2_000)
_FAILED = Problem("unavailable", "something went wrong here", retry_after_ms=1_000)
_number = attrgetter("number")
_log = structlog.get_logger(__name__)


class Router(CommandPort):
    """The remote side of the command port; with a `desk` also the local one. `close` at the end, after the faces."""

    def __init__(
        self,
        *,
        node: str,
        ownership: OwnershipMap,
        peers: Peers,
        shard_count: int,
        payload_secret: bytes,
        settings: RouterSettings,
        chance: random.Random,
        desk: Desk | None = None,
    ) -> None:
        self._node = node
        self._ownership = ownership
        self._peers = peers
        self._payload_secret = payload_secret
        self._settings = settings
        self._chance = chance
        self._desk = desk
        self._shard_count = shard_count
        self._lanes = [Lane(shard) for shard in range(shard_count + 1)]
        self._calls: dict[int, Call] = {}
        self._call_number = 0
        self._heads: dict[int, int] = {}
        self._known_users: OrderedDict[str, None] = OrderedDict()
        self._sweeping: asyncio.TimerHandle | None = None
        self._tasks = TaskOwner("router", 2 * (shard_count + 1))
        self._closed = False
        self.counters = RouterCounters()

    async def close(self) -> None:
        """Answer what is still open: `outcome_unknown` for what may have happened, else `unavailable`. Idempotent."""
        self._closed = True
        await self._tasks.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for call in tuple(self._calls.values()):
            self._finish(call, OUTCOME_UNKNOWN if call.unsure or call.sent else _CLOSED)

    @property
    def open_calls(self) -> int:
        """Commands without an answer."""
        return len(self._calls)

    # --- commands ----------------------------------------------------------------------------------------------------------------

    @override
    async def execute(
        self,
        caller: Caller,
        name: str,
        command: Command,
        keyed: Keyed,
        *,
        deadline_s: float | None = None,
        trace: Trace | None = None,
    ) -> Answer:
        return await outcome_of(
            lambda done: self.submit(caller, name, command, keyed, done, deadline_s=deadline_s, trace=trace)
        )

    @override
    def submit(
        self,
        caller: Caller,
        name: str,
        command: Command,
        keyed: Keyed,
        done: Done,
        *,
        deadline_s: float | None = None,
        trace: Trace | None = None,
    ) -> None:
        if self._closed or len(self._calls) >= self._settings.calls_max:
            done(_CLOSED if self._closed else self._overloaded())
            return
        stream = qualified(caller.tenant, name)
        self._call_number += 1
        wait_s = self._settings.deadline_s if deadline_s is None else deadline_s
        call = Call(
            number=self._call_number,
            tenant=caller.tenant,
            actor=caller.user_id,
            name=name,
            stream=stream,
            shard=shard_of(stream, self._shard_count),
            command=command,
            # Made once: every try carries the same one.
            key=keyed.key(caller.tenant, caller.user_id),
            client_keyed=keyed.client_key is not None,
            payload_digest=keyed.payload_digest(self._payload_secret),
            deadline=asyncio.get_running_loop().time() + wait_s,
            done=done,
            importing=caller.importing,
            trace=trace,
        )
        self._calls[call.number] = call
        if self._sweeping is None:
            self._sweep_later()
        lane = self._lanes[call.shard]
        if lane.waiting:
            lane.waiting.append(call)
        else:
            self._send(lane, call)

    def _overloaded(self) -> Problem:
        return Problem(
            "overloaded",
            "too many requests are waiting; try again",
            retry_after_ms=self._settings.overloaded_retry_ms,
        )

    def _send(self, lane: Lane, call: Call) -> None:
        place = self._ownership.current().of(lane.shard)
        lane.flying += 1
        lane.asked_epoch = place.epoch
        heard = partial(self._heard, lane, call, place.node)
        if place.node == self._node:
            self._send_here(call, heard)
            return
        try:
            self._peers.peer(place.node, place.address).submit(call, heard)
        except Problem as problem:
            heard(problem)
        except Exception as error:  # noqa: BLE001 - whatever broke before it was sent, nobody may wait for ever
            _log.error("command cannot be sent", owner=place.node, error=type(error).__name__)
            heard(_FAILED)

    def _send_here(self, call: Call, heard: Done) -> None:
        if self._desk is None:
            heard(NotOwner(call.shard))
            return
        order = Order(
            tenant=call.tenant,
            actor=call.actor,
            stream=call.stream,
            command=call.command,
            key=call.key,
            client_keyed=call.keyed,
            payload_digest=call.payload_digest,
            done=heard,
            importing=call.importing,
            trace=call.trace,
        )
        order.deadline = call.deadline
        call.sent = True
        try:
            self._desk.hand_in(order)
        except Exception as error:  # noqa: BLE001 - as the owner's server does
            _log.error("command failed", kind=type(call.command).__name__, error=type(error).__name__)
            order.answer(_FAILED)

    def _heard(self, lane: Lane, call: Call, node: str, result: Answer | Problem | Lost) -> None:
        """A try has ended: so does the call, or it waits for the next one."""
        lane.flying -= 1
        call.sent = False
        if call.done is not None:
            if isinstance(result, Answer):
                lane.failures = 0
                self._finish(call, result)
            elif isinstance(result, Lost):
                self.counters.links_lost += 1
                call.unsure = call.unsure or result.sent
                self._ownership.unreachable(lane.shard, node)
                self._hold(lane, call)
            elif isinstance(result, NotOwner):
                self.counters.not_owner += 1
                self._ownership.told(result)
                self._hold(lane, call)
            elif result.code == "outcome_unknown" or (call.unsure and result.code in _UNDECIDED):
                # The owner stops, or cannot tell: whoever has the shard next finds the commit by its key, if there is one.
                call.unsure = True
                self._hold(lane, call)
            else:
                lane.failures = 0
                self._finish(call, result)
        if lane.waiting and not lane.flying:
            lane.landed.set()

    def _finish(self, call: Call, result: Answer | Problem) -> None:
        done, call.done = call.done, None
        if done is None:
            return
        del self._calls[call.number]
        if isinstance(result, Answer) and result.position > self._heads.get(result.shard, 0):
            self._heads[result.shard] = result.position
        done(result)

    # --- tries -------------------------------------------------------------------------------------------------------------------

    def _hold(self, lane: Lane, call: Call) -> None:
        """Let the call wait, at its place in the order of arrival, for the next round of its shard."""
        if self._closed:
            self._finish(call, OUTCOME_UNKNOWN if call.unsure else _CLOSED)
            return
        first = not lane.waiting
        insort(lane.waiting, call, key=_number)
        if first:
            self._tasks.start(self._find_owner(lane))

    async def _find_owner(self, lane: Lane) -> None:
        """One round: look at the map again, wait a little (not for the first round if somebody told who has it), and send all that waits."""
        await self._refresh()
        if lane.failures or self._ownership.current().of(lane.shard).epoch <= lane.asked_epoch:
            await asyncio.sleep(self._pause_s(lane.failures))
        lane.failures += 1
        if lane.flying:
            lane.landed.clear()
            try:
                async with asyncio.timeout(self._settings.landing_s):
                    await lane.landed.wait()
            except TimeoutError:
                pass  # The former owner hangs: order is given up, not the calls.
        waiting, lane.waiting = lane.waiting, []
        for call in waiting:
            if call.done is None:
                continue
            self.counters.retries += 1
            if lane.waiting:
                lane.waiting.append(call)
            else:
                self._send(lane, call)

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(self._settings.refresh_s):
                await self._ownership.refresh()
        except TimeoutError:
            return  # With the map as it is; the next round asks again.
        except Exception as error:  # noqa: BLE001 - a map that breaks its word must not stop the round
            _log.error("map of owners cannot be refreshed", error=type(error).__name__)

    def _pause_s(self, failures: int) -> float:
        """Doubled each time, and shortened by up to a half, so that gateways do not come all at once."""
        pause_ms = min(self._settings.pause_first_ms * 2.0 ** min(failures, 30), self._settings.pause_max_ms)
        return pause_ms * (0.5 + self._chance.random() / 2) / 1_000

    def _sweep_later(self) -> None:
        self._sweeping = asyncio.get_running_loop().call_later(self._settings.sweep_s, self._sweep)

    def _sweep(self) -> None:
        """End the calls whose deadline passed."""
        self._sweeping = None
        now = asyncio.get_running_loop().time()
        for call in [call for call in self._calls.values() if call.deadline <= now]:
            self.counters.expired += 1
            self._finish(call, OUTCOME_UNKNOWN if call.unsure or call.sent else NO_OWNER)
        if self._calls and not self._closed:
            self._sweep_later()

    # --- looking -----------------------------------------------------------------------------------------------------------------

    @property
    @override
    def sees_hot(self) -> bool:
        return False

    @override
    async def peek(self, tenant: str, name: str) -> State:
        state = await self._look(qualified(tenant, name), Look(LookKind.PEEK, tenant, name))
        assert isinstance(state, State)
        return state

    @override
    async def peek_as(self, tenant: str, name: str, user_id: str) -> State:
        look = Look(LookKind.PEEK_AS, tenant, name, user_id)
        state = await self._look(qualified(tenant, name), look)
        assert isinstance(state, State)
        return state

    @override
    async def outline(self, tenant: str, name: str) -> Outline:
        outline = await self._look(qualified(tenant, name), Look(LookKind.OUTLINE, tenant, name))
        assert isinstance(outline, Outline)
        return outline

    @override
    def peek_hot(self, tenant: str, name: str) -> State | None:
        if self._desk is None:
            return None
        return self._desk.peek_hot(tenant, name)

    @override
    async def user_exists(self, tenant: str, user_id: str) -> bool:
        stream = user_stream(tenant, user_id)
        if stream in self._known_users:
            self._known_users.move_to_end(stream)
            return True
        exists = bool(await self._look(stream, Look(LookKind.USER_EXISTS, tenant, user_id)))
        if exists:
            self.remember_user(tenant, user_id)
        return exists

    @override
    def remember_user(self, tenant: str, user_id: str) -> None:
        self._known_users[user_stream(tenant, user_id)] = None
        if len(self._known_users) > self._settings.known_users_max:
            self._known_users.popitem(last=False)

    async def _look(self, stream: str, look: Look) -> State | Outline | bool:
        """Ask the owner, whoever it is by now, until `look_s` is over or the router is closed. Raises Problem."""
        shard = shard_of(stream, self._shard_count)
        failures = 0
        try:
            async with asyncio.timeout(self._settings.look_s):
                while not self._closed:
                    place = self._ownership.current().of(shard)
                    try:
                        return await self._ask(place.node, place.address, look)
                    except NotOwner as refusal:
                        self._ownership.told(refusal)
                    except PeerLostError:
                        self._ownership.unreachable(shard, place.node)
                    await self._refresh()
                    await asyncio.sleep(self._pause_s(failures))
                    failures += 1
        except TimeoutError:
            raise NO_OWNER from None
        raise _CLOSED

    async def _ask(self, node: str, address: str, look: Look) -> State | Outline | bool:
        if node != self._node:
            return await self._peers.peer(node, address).look(look)
        if self._desk is None:
            raise PeerLostError
        return await answer_look(self._desk, look)

    # --- positions ---------------------------------------------------------------------------------------------------------------

    @override
    def head_positions(self) -> Mapping[int, int]:
        if self._desk is not None:
            self.take_heads(self._desk.head_positions())
        return dict(self._heads)

    def take_heads(self, heads: Mapping[int, int]) -> None:
        """An owner tells where its shards end. What is known never falls."""
        known = self._heads
        for shard, position in heads.items():
            if position > known.get(shard, 0):
                known[shard] = position
