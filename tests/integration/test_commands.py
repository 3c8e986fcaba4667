"""Commands as people mistype them: an exit code, and a line that says what to do next; never a stack trace."""

from __future__ import annotations

import asyncio
import http.server
import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner
from typing_extensions import override

import ops.cli
from eventlog.sqlite import SqliteLog
from ops.cli.app import app
from ops.folder import DataFolder, FolderInUseError, FolderLock
from tests.contract.log_samples import SHARD_COUNT
from tests.integration.house import open_house

pytestmark = pytest.mark.slow

LOG = Path(__file__).parents[1] / "data" / "irc" / "2013-10-04.train-a.raw.txt"


class Ran:
    """What came of a command."""

    def __init__(self, *words: str | Path) -> None:
        result = CliRunner().invoke(app, [str(word) for word in words])
        self.code = result.exit_code
        self.out = result.stdout
        self.said = result.stderr
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A data folder that a server has left, with a group of three events."""
    folder = tmp_path_factory.mktemp("commands") / "data"

    async def live() -> str:
        async with open_house(folder) as house:
            ann, _ = await house.people("ann", "bob")
            made = await ann.group("bob")
            await ann.post(made, "hello")
            return made

    return folder, asyncio.run(live())


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without settings."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_wrong_setting_is_named_with_its_place(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = elsewhere / "other.toml"
    file.write_text("port = 'x'\nprot = 3\n[node]\nflush_comits = 5\n")
    monkeypatch.setenv("MINUTEBOOK_NODE__FLUSH_PACE_MS", "soon")
    ran = Ran("serve", "--config", file, "--shards", "5")
    assert (ran.code, ran.out) == (2, "")
    assert f"{file}: port: must be a whole number" in ran.said
    assert f"{file}: prot: there is no such setting" in ran.said
    assert "node.flush_comits: there is no such setting" in ran.said
    assert "MINUTEBOOK_NODE__FLUSH_PACE_MS: node.flush_pace_ms: must be a number" in ran.said


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1", "http://", "127.0.0.1:8080"])
def test_an_import_to_no_address(elsewhere: Path, url: str) -> None:
    ran = Ran("import", "irc", LOG, "--url", url)
    assert ran.code == 2
    assert "is no address; give one as --url http://127.0.0.1:8080" in ran.said


def test_an_import_without_a_server_says_so_at_once(elsewhere: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        ran = Ran("import", "irc", LOG, "--url", f"http://127.0.0.1:{nobody.getsockname()[1]}")
    assert ran.code == 3
    assert "no server answers at" in ran.said
    assert "start one with `minutebook serve`" in ran.said
    assert "`minutebook keys create` makes a key" in ran.said


@pytest.fixture
def stranger() -> Iterator[str]:
    """The address of a web server that is no Minutebook."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        @override
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_an_import_into_something_else(elsewhere: Path, stranger: str) -> None:
    ran = Ran("import", "irc", LOG, "--url", stranger)
    assert ran.code == 3
    assert "is no Minutebook server" in ran.said


@pytest.mark.parametrize("half", ["MINUTEBOOK_APP_KEY", "MINUTEBOOK_APP_SECRET"])
def test_half_an_app_key(elsewhere: Path, monkeypatch: pytest.MonkeyPatch, half: str) -> None:
    monkeypatch.setenv(half, "x")
    ran = Ran("import", "irc", LOG)
    assert ran.code == 2
    assert "set both MINUTEBOOK_APP_KEY and MINUTEBOOK_APP_SECRET" in ran.said


def test_a_question_that_can_find_nothing_is_refused(group: tuple[Path, str]) -> None:
    data, _ = group
    ran = Ran("audit", "log", "--data", data, "--type", "message_post")
    assert ran.code == 2
    assert "no event is called 'message_post'; did you mean message_posted" in ran.said
    ran = Ran("audit", "log", "--data", data, "--stream", "../x")
    assert (ran.code, ran.out) == (1, "")
    assert "'../x' names no stream; write a conversation id, user:ID" in ran.said


def test_a_state_says_which_version_it_is(group: tuple[Path, str]) -> None:
    data, name = group
    ran = Ran("audit", "state", name, "--data", data, "--version", "2")
    assert (ran.code, ran.said) == (0, "")
    assert "as of       version 2" in ran.out
    ran = Ran("audit", "state", name, "--data", data, "--version", "99")
    assert ran.code == 0
    assert "has only 3 versions; this is the newest" in ran.said
    assert "as of       version 3" in ran.out
    assert json.loads(Ran("audit", "state", name, "--data", data, "--json").out)["version"] == 3


def test_output_into_a_pipe_has_no_colours(group: tuple[Path, str]) -> None:
    data, name = group
    for words in (("audit", "state", name), ("audit", "log"), ("audit", "verify"), ("keys", "list")):
        assert "\x1b" not in Ran(*words, "--data", data).out


def test_a_read_model_that_is_none(group: tuple[Path, str]) -> None:
    data, _ = group
    ran = Ran("rebuild", "timelines", "--data", data)
    assert ran.code == 2
    assert "there is no read model 'timelines'; there are timeline, inbox" in ran.said


@pytest.mark.parametrize(
    "words",
    [
        ("audit", "log"),
        ("audit", "verify"),
        ("status",),
        ("parked", "list"),
        ("keys", "list"),
        ("rebuild", "inbox"),
    ],
)
def test_a_folder_without_a_log(elsewhere: Path, words: tuple[str, ...]) -> None:
    ran = Ran(*words, "--data", elsewhere)
    assert (ran.code, ran.out) == (2, "")
    assert "name its folder with --data" in ran.said


def test_the_doctor_looks_at_the_log(elsewhere: Path) -> None:
    folder = DataFolder(elsewhere / "data")
    folder.prepare()

    async def made() -> str:
        log = await SqliteLog.open(folder.log, SHARD_COUNT)
        await log.close()
        return log.log_id

    log_id = asyncio.run(made())
    assert f"{log_id}, {SHARD_COUNT} shards" in Ran("doctor", "--no-port", "--data", folder.root).out
    folder.log.write_bytes(b"nonsense" * 1_000)
    ran = Ran("doctor", "--no-port", "--data", folder.root, "--json")
    assert ran.code == 1
    verdicts = {check["name"]: check["verdict"] for check in map(json.loads, ran.out.splitlines())}
    assert verdicts["event log"] == "bad"


def test_a_folder_in_use_says_by_whom_and_what_to_do(elsewhere: Path) -> None:
    folder = DataFolder(elsewhere)
    lock = FolderLock(folder)
    lock.acquire()
    with pytest.raises(
        FolderInUseError, match=r"process id \d+; stop it, or choose another folder with --data"
    ):
        FolderLock(folder).acquire()
    lock.release()


def test_ctrl_c_before_anything_began(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "ops.cli.app", SimpleNamespace(app=interrupted))
    with pytest.raises(SystemExit) as ended:
        ops.cli.main()
    assert ended.value.code == 130
