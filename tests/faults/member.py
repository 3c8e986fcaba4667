"""A user of the load: connected to one gateway or the other, writing at a steady pace, reading all the time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from client.clock import backoff_s
from client.frames import Behind, Event, EventsPage, Welcome
from client.problem import ConnectionLostError, ProblemError, plain_error
from client.rest import RestClient
from client.socket import Push, SocketClient
from tests.faults.ledger import Counts, Reader, Sent
from tests.faults.waiting import Bell, pause

PASSWORD = "a quiet afternoon"
IN_FLIGHT_MAX = 32
"""Messages of one user that wait for their acknowledgement; then its writer waits."""
ATTEMPTS_MAX = 1_000
ANSWER_S_MAX = 15.0
"""For one try of a send: longer than any deadline of the server's."""
CONNECT_S_MAX = 15.0
PING_S = 2.0
PONG_S_MAX = 8.0
RECONNECT_S = 0.2
REPAIR_S = 0.1
SYNC_LIMIT = 1_000
_BAD_TOKEN = 4401
_LOST = (ConnectionLostError, ProblemError, TimeoutError, OSError)


class Member:
    """One user with one session. `gateways`: addresses `http://…`, taken in turn whenever a connection ends.

    `run` and `write` belong to the load's tasks; both end by cancellation only.
    """

    def __init__(
        self,
        user_id: str,
        conversations: Sequence[str],
        gateways: Sequence[str],
        counts: Counts,
        bell: Bell,
        chance: random.Random,
    ) -> None:
        self.user_id = user_id
        self.reader = Reader(user_id, dict.fromkeys(conversations, 0), counts)
        self.open: dict[str, Sent] = {}
        self.sent: list[Sent] = []
        """Acknowledged and not yet compared with the log."""
        self.acked = 0
        self.connections = 0
        self.log_id = ""
        self.refusals: list[str] = []
        self.close_codes: list[int] = []
        """How its last connections ended."""
        self._conversations = list(conversations)
        self._gateways = list(gateways)
        self.counts = counts
        self._bell = bell
        self._chance = chance
        self._number = 0
        self._token = ""
        self._socket: SocketClient | None = None
        self._pages_void = False
        self._repair = asyncio.Event()
        self._in_flight = asyncio.Semaphore(IN_FLIGHT_MAX)

    @property
    def connected(self) -> bool:
        """Whether it has a socket that is welcome, and nothing to ask for."""
        return self._socket is not None and not self.reader.stale

    # Being there

    async def run(self) -> None:
        """Stay connected."""
        while True:
            try:
                await self._connect_once()
            except ConnectionLostError as error:
                self.close_codes = [*self.close_codes[-9:], error.close_code]
                if error.close_code == _BAD_TOKEN:
                    self._token = ""
            except ProblemError as error:
                if error.code == "unauthenticated":
                    self._token = ""
            except (OSError, TimeoutError):
                pass  # The gateway is away: the next one is tried.
            self._gateways.append(self._gateways.pop(0))
            self._bell.ring()
            await pause(RECONNECT_S)

    async def _connect_once(self) -> None:
        url = self._gateways[0]
        if not self._token:
            async with RestClient(url, deadline_s=CONNECT_S_MAX) as rest:
                self._token = (await rest.log_in(self.user_id, PASSWORD, "d1")).access_token
        socket = await SocketClient.connect(
            url.replace("http", "ws", 1) + "/v1/ws",
            on_push=self._push,
            on_welcome=self._welcome,
            on_end=lambda _: self._ended(),
            deadline_s=CONNECT_S_MAX,
        )
        async with socket:
            # Whatever waited for a page of the former connection is asked for by this hello.
            self.reader.begin()
            self._pages_void = False
            await socket.hello(self._token, self.reader.have)
            self.connections += 1
            self._socket = socket
            self._bell.ring()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(socket.until_end())
                    tasks.create_task(self._ping(socket))
                    tasks.create_task(self._repair_for_ever(socket))
            except ExceptionGroup as errors:
                error = plain_error(errors, _LOST)
                raise (error if error is errors else socket.ended or error) from None
            finally:
                self._socket = None

    def _ended(self) -> None:
        self._socket = None
        self._bell.ring()

    async def _ping(self, socket: SocketClient) -> None:
        """A gateway that hangs is left."""
        while True:
            await pause(PING_S)
            async with asyncio.timeout(PONG_S_MAX):
                await socket.ping()

    # Reading

    def _welcome(self, welcome: Welcome) -> None:
        if self.log_id and self.log_id != welcome.log_id:
            # The pages that follow were asked for by positions of another log.
            self._pages_void = True
            for name in self.reader.have:
                self.reader.forget(name)
            self._repair.set()
        self.log_id = welcome.log_id

    def _push(self, push: Push) -> None:
        reader = self.reader
        if isinstance(push, Event):
            reader.live(push)
        elif self._pages_void:
            # Their events answer another log's positions; but what they cover does not come live, so that a sync must reach their heads.
            if isinstance(push, EventsPage | Behind):
                for name, head in push.heads.items():
                    reader.expect(name, head)
        elif isinstance(push, EventsPage):
            for name, part in push.conversations.items():
                reader.page(name, part, asked=False)
        elif isinstance(push, Behind) and push.conversation_id in reader.have:
            reader.stale.add(push.conversation_id)
        if reader.stale:
            self._repair.set()
        self._bell.ring()

    async def _repair_for_ever(self, socket: SocketClient) -> None:
        """Ask for what is missing until nothing is."""
        while True:
            self._repair.clear()
            if not self.reader.stale:
                await self._repair.wait()
                continue
            asked = {name: self.reader.have[name] for name in self.reader.stale}
            page = await socket.sync(asked, only=True, limit=SYNC_LIMIT)
            for name, part in page.conversations.items():
                self.reader.page(name, part, asked=True)
            self._bell.ring()
            if self.reader.stale:
                await pause(REPAIR_S)  # The view is behind the event that showed the hole.

    # Writing

    async def write(self, pace_s: float, may_write: asyncio.Event) -> None:
        """A message to some conversation every `pace_s` on average, as long as it may."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await pause(pace_s * self._chance.uniform(0.5, 1.5))
                await self._in_flight.acquire()
                if not may_write.is_set():
                    self._in_flight.release()
                    await may_write.wait()
                    continue
                self._number += 1
                key = f"{self.user_id}-{self._number}"
                sent = Sent(self._chance.choice(self._conversations), key, self.user_id)
                self.open[key] = sent
                tasks.create_task(self._deliver(sent))

    async def _deliver(self, sent: Sent) -> None:
        """Until it is acknowledged, always with the same key."""
        try:
            for attempt in range(1, ATTEMPTS_MAX + 1):
                hint_ms = await self._try(sent)
                if sent.ack is not None:
                    return
                await pause(min(1.0, backoff_s(min(attempt, 4), self._chance, hint_ms)))
        finally:
            self._in_flight.release()

    async def _try(self, sent: Sent) -> int | None:
        """One try; the server's hint when to come again."""
        socket = self._socket
        if socket is None:
            return None
        try:
            ack = await socket.send(
                sent.conversation_id,
                client_msg_id=sent.client_msg_id,
                content={"kind": "text", "text": f"{sent.client_msg_id} {'x' * 120}"},
                deadline_s=ANSWER_S_MAX,
            )
        except (ConnectionLostError, TimeoutError):
            return None
        except ProblemError as error:
            if not error.retryable:
                self.refusals.append(f"{sent.client_msg_id}: {error.code}")
            return error.retry_after_ms
        self.acknowledge(sent, (ack.seq, ack.position))
        return None

    def acknowledge(self, sent: Sent, ack: tuple[int, str]) -> None:
        """It is durable, as somebody was told."""
        sent.ack = ack
        self.open.pop(sent.client_msg_id, None)
        self.sent.append(sent)
        self.acked += 1
        self._bell.ring()
