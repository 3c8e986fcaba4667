"""A wall clock that is set while the server serves: an hour back, a day ahead, and right again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from client.problem import ProblemError
from client.rest import RestClient
from domain.aggregates import EVENT_CLASSES
from domain.talk import MessagePosted
from eventlog.codec import EventCodec
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from eventlog.sqlite import SqliteLog
from ops.audit.verifying import Verification
from ops.folder import DataFolder
from tests.contract.log_samples import whole_log
from tests.e2e.process import ServerProcess
from tests.integration.house import Line, content

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]

PASSWORD = "a quiet afternoon"
HOUR_S, DAY_S = 3_600, 86_400
SHIM = Path(__file__).parents[1] / "shim" / "clock_jump.c"


class Clock:
    """The server's wall clock, that this test sets."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("gcc")
        assert compiler is not None, "gcc is needed to compile tests/shim/clock_jump.c, which sets the clock"
        library = folder / "clock_jump.so"
        words = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SHIM), "-ldl"]
        subprocess.run([compiler, *words], check=True)
        self._file = folder / "offset"
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(self._file)}
        self.set(0)

    def set(self, offset_s: int) -> None:
        """By so much off from now on."""
        partial = self._file.with_suffix(".partial")
        partial.write_text(str(offset_s))
        partial.replace(self._file)


@pytest.fixture
async def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
async def server(tmp_path: Path, clock: Clock) -> AsyncIterator[ServerProcess]:
    process = ServerProcess(tmp_path / "data", environment=clock.environment)
    await process.start()
    yield process
    await process.kill()


async def say(line: Line, text: str) -> None:
    """A message to bob, acknowledged."""
    answer = await line.ask("send", to="bob", client_msg_id=text, content=content(text))
    assert answer["op"] == "ack", answer


async def line_of(server: ServerProcess, token: str) -> Line:
    """A socket that is welcome."""
    line = Line(None)
    await line.connect(server.socket_url)
    line.say("hello", token=token)
    await line.next("welcome")
    return line


async def times_of(folder: DataFolder) -> dict[str, int]:
    """When each message was posted, as the log says, by its client's id."""
    codec = EventCodec(Registry(EVENT_CLASSES), PlainSealing())
    log = await SqliteLog.open_read_only(folder.log)
    commits = [commit for found in (await whole_log(log)).values() for commit in found]
    await log.close()
    rows = [row for commit in commits for row in codec.decode(commit).events]
    return {row.event.client_msg_id: row.event.at for row in rows if isinstance(row.event, MessagePosted)}


async def test_a_clock_that_jumps_orders_nothing(server: ServerProcess, clock: Clock) -> None:
    async with RestClient(server.url) as rest:
        for user_id in ("ann", "bob"):
            await rest.create_user(user_id, PASSWORD)
        tokens = await rest.log_in("ann", PASSWORD, "d1")
        line = await line_of(server, tokens.access_token)
        await say(line, "now")

        clock.set(-HOUR_S)
        await say(line, "an hour back")
        # A token of later than now is one of ours all the same.
        await rest.as_user(tokens.access_token).me()
        await rest.log_in("bob", PASSWORD, "d1")

        clock.set(DAY_S)
        await say(line, "a day ahead")
        with pytest.raises(ProblemError) as told:
            await rest.as_user(tokens.access_token).me()
        assert told.value.code == "unauthenticated"
        tokens = await rest.refresh(tokens.refresh_token)
        await rest.as_user(tokens.access_token).me()

        clock.set(0)
        await say(line, "right again")
        tokens = await rest.refresh(tokens.refresh_token)
        await rest.as_user(tokens.access_token).me()
        await say(await line_of(server, tokens.access_token), "over another socket")
    # Killed, so that nothing but the log tells the next one what time it was.
    await server.kill()
    await server.start()
    line = await line_of(server, tokens.access_token)
    await say(line, "after a start")
    assert await server.stop() == 0
    folder = DataFolder(server.data)
    at = await times_of(folder)
    assert at["now"] <= at["an hour back"] < at["now"] + HOUR_S * 1_000
    assert at["a day ahead"] >= at["now"] + DAY_S * 1_000
    later = [at[text] for text in ("a day ahead", "right again", "over another socket", "after a start")]
    assert later == sorted(later)
    assert later[-1] < at["a day ahead"] + HOUR_S * 1_000
    assert list(Verification(folder).faults()) == []
