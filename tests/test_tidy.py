"""The house keeps its own rules, and each rule can fail: it is shown a sample that breaks it."""

from __future__ import annotations

import re
import sys
import tomllib
from itertools import chain
from pathlib import Path
from subprocess import PIPE, STDOUT, run

import pytest

from tests.tidy import (
    ENTRY_POINTS,
    FUNCTION_LINES_MAX,
    MODULE_LINES_MAX,
    PACKAGES,
    ROOT,
    RULES,
    TASK_OWNERS,
    TEST_MODULE_LINES_MAX,
    Module,
    bare_task,
    dead_modules,
    files,
    leftovers,
    modules,
)

MARK = "TO" + "DO"  # Spelt so that it does not find itself.
TEXT_ENDS = (
    ".css",
    ".editorconfig",
    ".html",
    ".js",
    ".json",
    ".md",
    ".sh",
    ".toml",
    ".yaml",
    ".yml",
    "Makefile",
)


# --- the house -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_every_module_keeps_the_rule(name: str) -> None:
    findings = [f"{module.path}:{line}: {what}" for module in modules() for line, what in RULES[name](module)]
    assert not findings, "\n" + "\n".join(findings)


def test_no_leftovers_outside_python() -> None:
    ours = (name for name in files() if name.endswith(TEXT_ENDS) and "/vendor/" not in name)
    findings = [
        f"{name}:{line}: {what}"
        for name in ours
        for line, what in leftovers((ROOT / name).read_text(encoding="utf-8"))
    ]
    assert not findings, "\n" + "\n".join(findings)


def test_no_dead_modules() -> None:
    dead = list(dead_modules(modules()))
    assert not dead, "nothing imports " + ", ".join(dead)


def test_every_script_and_style_of_the_page_is_used() -> None:
    web = ROOT / "gateways" / "web"
    parts = [path for path in web.rglob("*") if path.suffix in {".css", ".html", ".js"}]
    texts = {path: path.read_text(encoding="utf-8") for path in parts}
    unused = [
        str(path.relative_to(ROOT))
        for path in parts
        if path.suffix != ".html"
        and not any(path.name in text for other, text in texts.items() if other != path)
    ]
    assert not unused, "nothing names " + ", ".join(unused)


@pytest.mark.parametrize("path", TASK_OWNERS)
def test_every_task_owner_still_owns_tasks(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert list(bare_task(Module("elsewhere.py", text))), (
        f"{path} starts no task any more: take it off the list"
    )


def test_every_room_stands_in_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    rooms = {name.split("/")[0] for name in files() if re.fullmatch(r"[a-z]+/__init__\.py", name)}
    assert rooms == {*PACKAGES, "tests", "bench", "docker"}
    assert rooms - {"tests", "docker"} == set(project["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert rooms == set(project["mypy"]["files"])
    assert set(PACKAGES) == set(project["importlinter"]["root_packages"])


def test_the_lock_pins_every_dependency_by_digest_and_names_no_host() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9-]+)==\S+ .*\\\n {4}--hash=sha256:", lock, re.MULTILINE))
    asked = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    assert {re.split(r"[^a-z0-9-]", one)[0] for one in asked} <= pinned
    assert "://" not in lock


def test_the_entry_points_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for target in project["scripts"].values():
        assert target.split(":")[0].replace(".", "/") + "/__init__.py" in ENTRY_POINTS


@pytest.mark.slow
def test_imports_point_one_way() -> None:
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    result = run([sys.executable, "-c", code], cwd=ROOT, stdout=PIPE, stderr=STDOUT, text=True, check=False)
    assert result.returncode == 0, result.stdout


# --- the rules -------------------------------------------------------------------------------------

OURS, TEST, BENCH = "domain/sample.py", "tests/unit/test_sample.py", "bench/sample.py"

BAD: list[tuple[str, str, str]] = [
    ("long_function", OURS, "def long():\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
    ("long_function", TEST, "class C:\n    async def long():\n" + "        x = 1\n" * FUNCTION_LINES_MAX),
    ("long_module", OURS, "x = 1\n" * (MODULE_LINES_MAX + 1)),
    ("long_module", TEST, "x = 1\n" * (TEST_MODULE_LINES_MAX + 1)),
    ("naive_time", OURS, "datetime.now()"),
    ("naive_time", OURS, "import datetime as d\nd.datetime.now()"),
    ("naive_time", OURS, "from datetime import datetime as moment\nmoment.utcnow()"),
    ("naive_time", TEST, "datetime.fromtimestamp(0)"),
    ("naive_time", OURS, "datetime.date.today()"),
    ("bare_task", OURS, "asyncio.create_task(work())"),
    ("bare_task", OURS, "asyncio.ensure_future(work())"),
    ("bare_task", OURS, "self._loop.create_task(work())"),
    ("bare_task", TEST, "asyncio.get_running_loop().create_task(work())"),
    ("bare_task", OURS, "from asyncio import create_task as start\nstart(work())"),
    ("swallowed_exception", OURS, "try:\n    x()\nexcept Exception:\n    pass"),
    ("swallowed_exception", OURS, "while True:\n    try:\n        x()\n    except:\n        continue"),
    ("swallowed_exception", TEST, "try:\n    x()\nexcept (ValueError, BaseException):\n    ..."),
    ("swallowed_exception", OURS, "with contextlib.suppress(Exception):\n    x()"),
    ("stub", OURS, "def f():\n    raise NotImplementedError"),
    ("stub", OURS, "def f():\n    raise NotImplementedError('later')"),
    ("stub", OURS, "def f():\n    ..."),
    ("stub", OURS, "class C:\n    async def f(self):\n        '''Does it.'''\n        ..."),
    ("leftover", OURS, f"x = 1  # {MARK}: think"),
    ("leftover", TEST, "# FIX" + "ME"),
    ("unexplained_silence", OURS, "x = 1  # no" + "qa"),
    ("unexplained_silence", TEST, "x = 1  # no" + "qa: S105"),
    ("unexplained_silence", OURS, "x = 1  # no" + "qa: S105, BLE001 -"),
    ("stray_print", OURS, "print('here')"),
    ("stray_print", "ops/wiring.py", "print('here')"),
    ("logged_secret", OURS, "log.info('in', password=text)"),
    ("logged_secret", OURS, "self._log.warning('bad %s', access_token)"),
    ("logged_secret", OURS, "structlog.get_logger().error(f'no {request.refresh_token}')"),
    ("logged_secret", OURS, "logging.getLogger(__name__).debug('x', extra={'b': event.body})"),
    ("sleeping_test", TEST, "time.sleep(0)"),
    ("sleeping_test", TEST, "async def t():\n    await asyncio.sleep(0.01)"),
    ("sleeping_test", TEST, "from asyncio import sleep\nsleep(pause)"),
    ("skipped_test", TEST, "@pytest.mark.skip\ndef t(): pass"),
    ("skipped_test", TEST, "@pytest.mark.skipif(True, reason='')\ndef t(): pass"),
    ("skipped_test", TEST, "pytest.importorskip('x')"),
    ("skipped_test", TEST, "from pytest import xfail\nxfail()"),
    ("mocked_store", TEST, "import fakeredis"),
    ("mocked_store", TEST, "from unittest import mock"),
    ("mocked_store", TEST, "from mongomock.collection import Collection"),
]

GOOD: list[tuple[str, str, str]] = [
    ("long_function", OURS, "def short():\n" + "    x = 1\n" * (FUNCTION_LINES_MAX - 1)),
    ("long_module", TEST, "x = 1\n" * (MODULE_LINES_MAX + 1)),
    ("naive_time", OURS, "datetime.now(UTC)\ndatetime.fromtimestamp(0, tz=UTC)\nclock.now()"),
    ("bare_task", OURS, "async with TaskGroup() as group:\n    group.create_task(work())"),
    ("bare_task", "commands/tasks.py", "asyncio.create_task(work())"),
    ("swallowed_exception", OURS, "try:\n    x()\nexcept ValueError:\n    pass"),
    ("swallowed_exception", OURS, "try:\n    x()\nexcept Exception:\n    report()"),
    ("stub", OURS, "class P(Protocol):\n    def f(self):\n        ..."),
    ("stub", OURS, "class P(A):\n    @abc.abstractmethod\n    def f(self):\n        ..."),
    ("leftover", OURS, "mastodon = 'hacks'"),
    ("unexplained_silence", OURS, "x = 1  # no" + "qa: S105 - guards nothing"),
    ("stray_print", BENCH, "print('figures')"),
    ("stray_print", "ops/cli/app.py", "print('done')"),
    ("stray_print", "docker/local/__main__.py", "print('up')"),
    ("logged_secret", OURS, "log.info('token_refreshed', token_id=token_id)\nissue(token)"),
    ("sleeping_test", TEST, "async def t():\n    await asyncio.sleep(0)"),
    ("sleeping_test", OURS, "async def t():\n    await asyncio.sleep(pause_s)"),
    ("skipped_test", TEST, "@pytest.mark.slow\ndef t(): pass"),
    ("mocked_store", TEST, "from eventlog.memory import MemoryLog"),
]


@pytest.mark.parametrize("name,path,text", BAD)
def test_the_rule_catches(name: str, path: str, text: str) -> None:
    assert list(RULES[name](Module(path, text)))


@pytest.mark.parametrize("name,path,text", GOOD)
def test_the_rule_lets_pass(name: str, path: str, text: str) -> None:
    assert not list(RULES[name](Module(path, text)))


def test_every_rule_has_samples_of_both_kinds() -> None:
    assert {name for name, _, _ in BAD} == set(RULES) == {name for name, _, _ in GOOD}


def test_a_module_that_only_names_itself_is_dead() -> None:
    parts = (
        Module("domain/used.py", "import domain.used"),
        Module("domain/dead.py", "import domain.dead"),
        Module("domain/named.py", ""),
        Module("ops/cli/__init__.py", "from domain import used\nserve('domain.named:application')"),
    )
    assert list(dead_modules(parts)) == ["domain/dead.py"]


def test_the_walk_sees_this_file() -> None:
    names = set(files())
    assert str(Path(__file__).relative_to(ROOT)) in names
    assert not any(name.startswith(".venv") for name in names)
