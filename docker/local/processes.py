"""A server process, and the handles by which a test hurts it.

Whatever happens to the process that started them, its servers end with it: the kernel kills them.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from docker.local.failures import ServicesError

START_S_MAX = 60.0
KILL_S_MAX = 15.0
POLL_S = 0.02
LOG_TAIL_BYTES = 2_000


def wait_until(true: Callable[[], bool], *, timeout_s: float, failure: Callable[[], str]) -> None:
    """Return as soon as `true()` is; ServicesError with the words of `failure()` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            raise ServicesError(failure())
        time.sleep(POLL_S)


class _Starter:
    """The one thread that starts processes.

    The kernel takes the death of the *thread* that started a process for the death of its parent, and a test may
    restart a server from a thread that soon ends. This one lives as long as its process.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[
            tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]
        ] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="server-starter", daemon=True)
                self._thread.start()
        done: Future[subprocess.Popen[bytes]] = Future()
        self._jobs.put((lambda: _spawn(command, environment, log), done))
        return done.result()

    def _run(self) -> None:
        while True:
            job, done = self._jobs.get()
            try:
                done.set_result(job())
            except OSError as error:
                done.set_exception(error)


_starter = _Starter()


def _spawn(command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        # A session of its own: Ctrl-C reaches only whoever started the servers, and that one stops them in order.
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )


class Server(ABC):
    """One server process: always the same port and data folder, however often it is killed and started again.

    Every method blocks until what it says has happened: from async code call it in a thread (any thread), but not in
    several at once.
    """

    host = "127.0.0.1"
    stop_s_max = 15.0
    """How long an orderly end may take; after it comes SIGKILL."""

    def __init__(self, name: str, port: int, folder: Path) -> None:
        self.name = name
        self.port = port
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What is executed."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it takes requests now; never raises for a server that does not."""

    def environment(self) -> Mapping[str, str]:
        """What its environment has beyond ours."""
        return {}

    def prepare(self) -> None:
        """Lay its data folder, before the first start and before every other one."""
        (self.folder / "data").mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def log(self) -> Path:
        """What it printed, over all its lives."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int | None:
        """Of the process, while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process lives (a paused one does)."""
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process and return at once; `await_ready` waits for it."""
        if self.running:
            return
        self.prepare()
        self._process = _starter.start(self.command(), self.environment(), self.log)

    def await_ready(self, timeout_s: float = START_S_MAX) -> None:
        """Wait until it answers; ServicesError with the end of its log when it does not."""

        def answers_or_is_dead() -> bool:
            return not self.running or self.answers()

        wait_until(answers_or_is_dead, timeout_s=timeout_s, failure=lambda: self._excuse("does not answer"))
        if not self.running:
            raise ServicesError(self._excuse("ended instead of serving"))

    def start(self, timeout_s: float = START_S_MAX) -> None:
        """Start it and wait until it answers; nothing when it runs."""
        self.launch()
        self.await_ready(timeout_s)

    def stop(self, timeout_s: float | None = None) -> None:
        """SIGTERM, and SIGKILL to one that takes longer than `timeout_s` (else `stop_s_max`)."""
        self.ask_to_stop()
        self.await_end(timeout_s)

    def ask_to_stop(self) -> None:
        """SIGTERM, also to a paused one."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def await_end(self, timeout_s: float | None = None) -> None:
        """Wait for the end; SIGKILL after `timeout_s` (else `stop_s_max`)."""
        if self._process is None:
            return
        try:
            self._process.wait(self.stop_s_max if timeout_s is None else timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """kill -9: nothing is flushed, nobody is told."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(KILL_S_MAX)

    def pause(self) -> None:
        """SIGSTOP: the process stands still, its connections stay open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        self._signal(signal.SIGCONT)

    def restart(self, timeout_s: float = START_S_MAX) -> None:
        """On the same port and data; one that still runs is killed first."""
        self.kill()
        self.start(timeout_s)

    def describe(self) -> dict[str, object]:
        """{host, port, pid, data, log}."""
        return {
            "host": self.host,
            "port": self.port,
            "pid": self.pid,
            "data": str(self.folder / "data"),
            "log": str(self.log),
        }

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _excuse(self, what: str) -> str:
        tail = ""
        if self.log.exists():
            tail = self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        return f"{self.name} on {self.address} {what}. The end of {self.log}:\n{tail}"
