"""Two people in two real browser tabs against a real server: from sign-up to a server killed under them."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Locator, Page, async_playwright, expect
from typing_extensions import override

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_TIMEOUT_S = 30
BYTES_KEPT = 16_384
WAIT_MS = 15_000
PASSWORD = "a quiet afternoon"
HOSTILE_NAME = "<img src=x onerror=alert(1)>"
HOSTILE_TEXT = "<script>alert(2)</script> <b>bold?</b> javascript:alert(3)"


def browser_path() -> str:
    for name in BROWSERS:
        found = shutil.which(name)
        if found is not None:
            return found
    pytest.fail(f"none of {', '.join(BROWSERS)} is installed; install one: apt-get install -y chromium")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Output(asyncio.SubprocessProtocol):
    """Takes all that a process says, so that it never waits for a full pipe; notes when the address came."""

    def __init__(self, address: str) -> None:
        self._address = address.encode()
        self._said = b""
        self.told = asyncio.Event()
        self.ended = asyncio.Event()

    @override
    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._said = (self._said + data)[-BYTES_KEPT:]
        if self._address in self._said:
            self.told.set()

    @override
    def process_exited(self) -> None:
        self.ended.set()
        self.told.set()

    @property
    def text(self) -> str:
        return self._said.decode(errors="replace")


class Server:
    """`minutebook serve` as a process of its own, always at the same address over the same data folder."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._running: tuple[asyncio.SubprocessTransport, Output] | None = None

    async def start(self) -> None:
        """Start the process and wait until it has told its address."""
        command = Path(sys.executable).with_name("minutebook")
        arguments = ("serve", "--port", str(self._port), "--data", str(self._data))
        transport, output = await asyncio.get_running_loop().subprocess_exec(
            lambda: Output(self.url), command, *arguments, stdin=None
        )
        self._running = transport, output
        async with asyncio.timeout(START_TIMEOUT_S):
            await output.told.wait()
        if output.ended.is_set():
            pytest.fail(f"the server ended before it told its address:\n{output.text}")

    async def kill(self) -> None:
        """SIGKILL, and wait until the process is gone; nothing if there is none."""
        if self._running is None:
            return
        transport, output = self._running
        self._running = None
        if not output.ended.is_set():
            transport.kill()
        await output.ended.wait()
        transport.close()


class Person:
    """Somebody in front of a tab: does what a hand does, and keeps what the page complained about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        page.on("console", self._console)

    def _console(self, message: ConsoleMessage) -> None:
        # What the policy refuses is told on the console. So is a server that is away, but that is no fault.
        if message.type == "error" and "Content Security Policy" in message.text:
            self.complaints.append(message.text)

    async def sign_up(self, url: str, user_id: str, name: str) -> None:
        await self.page.goto(url)
        await self.page.get_by_role("tab", name="Sign up").click()
        await self.page.get_by_label("User id", exact=True).fill(user_id)
        await self.page.get_by_label("Name", exact=True).fill(name)
        await self.page.get_by_label("Password").fill(PASSWORD)
        await self.page.get_by_role("button", name="Create account").click()
        await expect(self.page.get_by_role("navigation", name="Conversations")).to_be_visible()

    async def create_group(self, name: str, members: str) -> None:
        await self.page.get_by_role("button", name="New conversation").click()
        dialog = self.page.get_by_role("dialog")
        await dialog.get_by_role("tab", name="Group").click()
        await dialog.get_by_label("Name", exact=True).fill(name)
        await dialog.get_by_label("Members").fill(members)
        await dialog.get_by_role("button", name="Create group").click()
        await expect(self.page.get_by_role("heading", name=name)).to_be_visible()

    async def open(self, name: str) -> None:
        await self.page.get_by_role("link", name=re.compile(f"^{re.escape(name)}")).click()
        await expect(self.page.get_by_role("heading", name=name)).to_be_visible()

    async def write(self, text: str) -> None:
        box = self.page.get_by_role("textbox", name="Message", exact=True)
        await box.fill(text)
        await box.press("Enter")

    def message(self, text: str) -> Locator:
        """The acknowledged messages with this text (not those that only quote it)."""
        words = self.page.locator(".text", has_text=text)
        return self.page.locator("article.message:not(.pending)").filter(has=words)

    def pending(self, text: str) -> Locator:
        return self.page.locator("article.pending").filter(has_text=text)

    async def act(self, text: str, action: str) -> None:
        """Use one of the tools that appear over a message."""
        await self.message(text).last.hover()
        await self.message(text).last.get_by_role("button", name=action, exact=True).click()


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    running = Server(data=tmp_path / "data")
    await running.start()
    try:
        yield running
    finally:
        await running.kill()


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    expect.set_options(timeout=WAIT_MS)
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=browser_path(), args=list(QUIET))
        try:
            yield running
        finally:
            await running.close()


@pytest_asyncio.fixture
async def pair(browser: Browser, server: Server) -> tuple[Person, Person]:
    """Ana, who owns the group Crew, and the member with the hostile name; both have it open."""
    people = []
    for user_id, name in (("mallory", HOSTILE_NAME), ("ana", "Ana")):
        context = await browser.new_context()
        context.set_default_timeout(WAIT_MS)
        person = Person(await context.new_page())
        await person.sign_up(server.url, user_id, name)
        people.append(person)
    mallory, ana = people
    await ana.create_group("Crew", "mallory")
    await mallory.open("Crew")
    return ana, mallory


async def test_two_tabs_chat(pair: tuple[Person, Person]) -> None:
    ana, mallory = pair
    await mallory.write(HOSTILE_TEXT)
    message = ana.message(HOSTILE_TEXT)
    await expect(message).to_have_count(1)
    await expect(message.locator("header .name")).to_have_text(HOSTILE_NAME)
    assert await ana.page.locator("main img, main script, main b").count() == 0

    await ana.act(HOSTILE_TEXT, "Reply")
    await ana.write("Nice try.")
    await expect(mallory.message("Nice try.").locator(".quote")).to_contain_text(HOSTILE_TEXT[:20])

    await mallory.act("Nice try.", "React")
    await mallory.page.get_by_role("button", name="React with 👍").click()
    reaction = ana.message("Nice try.").locator(".reaction")
    await expect(reaction).to_contain_text("1")
    await reaction.click()
    await expect(mallory.message("Nice try.").locator(".reaction")).to_contain_text("2")

    await ana.page.get_by_role("textbox", name="Message", exact=True).press("ArrowUp")
    await ana.write("Nice try, really.")
    await mallory.message("Nice try, really.").get_by_role("button", name="edited").click()
    await expect(mallory.page.get_by_role("dialog")).to_contain_text("Nice try.")
    await mallory.page.keyboard.press("Escape")

    await mallory.act(HOSTILE_TEXT, "Recall")
    await expect(ana.page.get_by_text("This message was recalled.")).to_be_visible()
    assert ana.complaints == mallory.complaints == []


async def test_marks_hints_and_search(pair: tuple[Person, Person]) -> None:
    ana, mallory = pair
    await mallory.page.get_by_role("textbox", name="Message", exact=True).press_sequentially("Soon", delay=5)
    await expect(ana.page.locator("p.typing")).to_contain_text("is typing")
    await mallory.write("@ana the tide tables are in")
    await expect(ana.page.locator("article.meant .mention.mine")).to_have_text("@ana")
    await expect(ana.page.locator(".sidebar .badge")).to_have_count(0)
    await ana.page.keyboard.press("Escape")
    await ana.page.get_by_role("searchbox", name="Search messages").fill("tid tab")
    result = ana.page.get_by_role("list", name="Search results").get_by_role("button")
    await expect(result).to_contain_text("tide tables")
    await result.click()
    await expect(ana.page.locator("article.focused")).to_contain_text("tide tables")
    await ana.page.get_by_role("button", name="Details and members").click()
    members = ana.page.get_by_role("complementary", name="Details").locator(".member")
    await expect(members).to_have_count(2)
    await expect(members.filter(has_text="mallory").locator(".name")).to_have_text(HOSTILE_NAME)
    assert ana.complaints == mallory.complaints == []


async def test_nothing_is_lost_when_the_server_is_killed(pair: tuple[Person, Person], server: Server) -> None:
    ana, mallory = pair
    for number in range(5):
        await ana.write(f"before {number}")
    await expect(mallory.message("before 4")).to_have_count(1)

    await server.kill()
    banner = ana.page.locator(".banner")
    await expect(banner).to_contain_text("Reconnecting")
    await ana.write("written while it was away")
    await expect(ana.pending("written while it was away")).to_contain_text("sending")

    await server.start()
    await expect(banner).to_be_hidden()
    await expect(ana.message("written while it was away")).to_have_count(1)
    await expect(mallory.message("written while it was away")).to_have_count(1)
    await expect(ana.page.locator("article.pending")).to_have_count(0)
    await mallory.write("and on it goes")
    await expect(ana.message("and on it goes")).to_have_count(1)

    shown = await ana.page.locator("article.message p.text").all_inner_texts()
    expected = [f"before {number}" for number in range(5)]
    assert shown == [*expected, "written while it was away", "and on it goes"]

    await ana.page.reload()
    await expect(ana.message("and on it goes")).to_have_count(1)
    assert await ana.page.locator("article.message p.text").all_inner_texts() == shown
    assert ana.complaints == mallory.complaints == []
