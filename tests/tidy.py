"""The rules of the house as functions: a module in, what is wrong with it out.

A rule yields (line, sentence) pairs. `tests/test_tidy.py` runs every rule over every file, and proves that
each catches a sample. What ruff already knows is not repeated here, except where a `noqa` must not help.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from shutil import which

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("domain", "eventlog", "commands", "projections", "gateways", "arb", "client", "ops")

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400
TEST_MODULE_LINES_MAX = 800

# Modules that may start a bare task, each with the reason why its task cannot be lost.
TASK_OWNERS = {
    "client/session.py": "`ChatSession` keeps its one task, and `close` cancels and awaits it.",
    "projections/runner.py": "`Runner` keeps its one task, the pump, and `close` drains and awaits it.",
    "gateways/redis_driver.py": "`FastStore` keeps the task of every call until it ends, and `close` awaits them.",
    "projections/elsewhere.py": "`ViewsElsewhere` keeps its one task, and `close` cancels and awaits it.",
    "eventlog/feed.py": "`Feed` keeps its one task, and `close` awaits it.",
    "eventlog/kafka_source.py": "`KafkaSource` keeps its one task, the probe, and `close` cancels and awaits it.",
    "eventlog/relay.py": "`Relay` keeps its one task; `close` drains it, cancels it after `drain_s` and awaits it.",
    "commands/tasks.py": "The owner: keeps every task it starts, reports its failure, closes them.",
}

# Modules that nothing imports because somebody starts them by name.
ENTRY_POINTS = {
    "ops/cli/__init__.py": "The command `minutebook` (pyproject.toml).",
    "ops/cli/__main__.py": "`python -m ops.cli`.",
}

Findings = Iterator[tuple[int, str]]


@dataclass(frozen=True)
class Module:
    """One Python file: its path relative to the root, its text, and every node of its tree."""

    path: str
    text: str
    nodes: tuple[ast.AST, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(ast.walk(ast.parse(self.text, self.path))))

    @property
    def is_test(self) -> bool:
        return self.path.startswith("tests/")

    @property
    def calls(self) -> Iterator[ast.Call]:
        return (node for node in self.nodes if isinstance(node, ast.Call))


Rule = Callable[[Module], Findings]


# --- files -----------------------------------------------------------------------------------------


@cache
def files() -> tuple[str, ...]:
    """Every file that git knows or would know; without git, every file outside hidden folders."""
    names = _named_by_git() or [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    hidden = re.compile(r"(^|/)(\.(?!ci/)[^/]*|__pycache__)/")
    return tuple(sorted(name for name in names if not hidden.search(name) and (ROOT / name).is_file()))


def _named_by_git() -> list[str]:
    git = which("git")
    if git is None:
        return []
    command = [git, "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return listing.stdout.splitlines() if listing.returncode == 0 else []


@cache
def modules() -> tuple[Module, ...]:
    return tuple(
        Module(name, (ROOT / name).read_text(encoding="utf-8")) for name in files() if name.endswith(".py")
    )


# --- helpers ---------------------------------------------------------------------------------------


def dotted(node: ast.expr) -> str:
    """`a.b.c` for names and attributes; a call stands as `name()`; anything else is `?`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return f"{dotted(node.func)}()"
    return "?"


def imported_names(module: Module, *origins: str) -> set[str]:
    """The names under which `from x import y` (as "x.y") is known in this module."""
    return {
        alias.asname or alias.name
        for node in module.nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if f"{node.module}.{alias.name}" in origins
    }


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """Each imported name in full: `from a import b` gives `a` and `a.b`."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


# --- size ------------------------------------------------------------------------------------------


def long_function(module: Module) -> Findings:
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield (
                    node.lineno,
                    f"`{node.name}` has {lines} lines, at most {FUNCTION_LINES_MAX} are allowed",
                )


def long_module(module: Module) -> Findings:
    limit = TEST_MODULE_LINES_MAX if module.is_test else MODULE_LINES_MAX
    lines = module.text.count("\n")
    if lines > limit:
        yield 1, f"{lines} lines, at most {limit} are allowed: split it by noun"


# --- time and tasks --------------------------------------------------------------------------------


def naive_time(module: Module) -> Findings:
    classes = {"datetime", "date"} | imported_names(module, "datetime.datetime", "datetime.date")
    for call in module.calls:
        if not isinstance(call.func, ast.Attribute):
            continue
        owner, method = dotted(call.func.value).rsplit(".", 1)[-1], call.func.attr
        zoned = any(keyword.arg in {"tz", None} for keyword in call.keywords)
        given = len(call.args)
        naive = {
            "now": given < 1 and not zoned,
            "fromtimestamp": given < 2 and not zoned,
            "utcnow": True,
            "utcfromtimestamp": True,
            "today": True,
        }
        if owner in classes and naive.get(method, False):
            yield call.lineno, f"`{owner}.{method}` without a time zone"


def bare_task(module: Module) -> Findings:
    if module.path in TASK_OWNERS:
        return
    names = imported_names(module, "asyncio.create_task", "asyncio.ensure_future")
    for call in module.calls:
        name = dotted(call.func)
        owner, _, method = name.rpartition(".")
        last = owner.rsplit(".", 1)[-1]
        starts = method in {"create_task", "ensure_future"} and (last == "asyncio" or "loop" in last)
        if starts or name in names:
            yield call.lineno, f"`{name}` outside a TaskGroup or an owner (TASK_OWNERS)"


# --- failures --------------------------------------------------------------------------------------

_BROAD = {"Exception", "BaseException"}


def _is_broad(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(dotted(one).rsplit(".", 1)[-1] in _BROAD for one in kinds)


def _does_nothing(body: list[ast.stmt]) -> bool:
    return all(
        isinstance(statement, ast.Pass | ast.Continue)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in body
    )


def _suppresses_all(call: ast.Call) -> bool:
    return dotted(call.func).rsplit(".", 1)[-1] == "suppress" and any(map(_is_broad, call.args))


def swallowed_exception(module: Module) -> Findings:
    for node in module.nodes:
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type) and _does_nothing(node.body):
            yield node.lineno, "a broad `except` that does nothing"
        elif isinstance(node, ast.Call) and _suppresses_all(node):
            yield node.lineno, "`suppress` of everything"


def _interface_bodies(module: Module) -> set[ast.AST]:
    """What stands directly in a Protocol: it has no body by nature."""
    found: set[ast.AST] = set()
    for node in module.nodes:
        if isinstance(node, ast.ClassDef):
            bases = {dotted(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases}
            if bases & {"Protocol", "typing.Protocol"}:
                found.update(node.body)
    return found


def _is_empty(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    last = node.body[-1]
    return isinstance(last, ast.Expr) and isinstance(last.value, ast.Constant) and last.value.value is ...


def stub(module: Module) -> Findings:
    interfaces = _interface_bodies(module)
    for node in module.nodes:
        if isinstance(node, ast.Raise):
            if node.exc is not None and dotted(node.exc).removesuffix("()") == "NotImplementedError":
                yield node.lineno, "NotImplementedError: build it, or leave it out"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node not in interfaces:
            marks = {dotted(mark).rsplit(".", 1)[-1] for mark in node.decorator_list}
            if _is_empty(node) and not marks & {"abstractmethod", "overload"}:
                yield node.lineno, f"`{node.name}` has no body"


# Spelt so that it does not find itself.
_LEFTOVER = re.compile(r"\b(T[O]DO|F[I]XME|X[X]X|H[A]CK)\b")


def leftover(module: Module) -> Findings:
    yield from leftovers(module.text)


def leftovers(text: str) -> Findings:
    """Also for what is not Python."""
    for number, line in enumerate(text.splitlines(), 1):
        if match := _LEFTOVER.search(line):
            yield number, f"a leftover `{match.group()}`"


# Spelt so that it does not find itself.
_SILENCED = re.compile(r"# n[o]qa(?!: [A-Z]+\d+(, [A-Z]+\d+)* - \w)")


def unexplained_silence(module: Module) -> Findings:
    for number, line in enumerate(module.text.splitlines(), 1):
        if _SILENCED.search(line):
            yield number, "the linter is silenced without a reason: write `CODE - why` after it"


# --- output ----------------------------------------------------------------------------------------


def stray_print(module: Module) -> Findings:
    if module.path.startswith(
        ("bench/", "docs/examples/", "ops/cli", "docker/local/__main__", "docker/local/roles")
    ):
        return
    for call in module.calls:
        if dotted(call.func) == "print":
            yield call.lineno, "`print` outside the command lines, the benchmarks and the examples"


_LOGGERS = re.compile(r"(^|\.)_?(log|logger|logging|structlog)(\.\w+\(\)|\(\))*$")
_LOG_METHODS = {
    "bind", "critical", "debug", "error", "exception", "fatal", "info", "log", "new", "warn", "warning",
}  # fmt: skip
_SECRET_WORDS = {
    "authorization", "bodies", "body", "credential", "credentials", "passwd", "password", "passwords",
    "secret", "secrets", "token", "tokens",
}  # fmt: skip
_HARMLESS_ENDS = {"bytes", "count", "id", "kind", "length", "ms", "s", "size"}


def _is_secret(name: str) -> bool:
    words = name.lower().strip("_").split("_")
    return bool(_SECRET_WORDS.intersection(words)) and words[-1] not in _HARMLESS_ENDS


def logged_secret(module: Module) -> Findings:
    for call in module.calls:
        if not isinstance(call.func, ast.Attribute) or call.func.attr not in _LOG_METHODS:
            continue
        if not _LOGGERS.search(dotted(call.func.value)):
            continue
        keywords = [keyword.arg or "" for keyword in call.keywords]
        parts = [*call.args, *(keyword.value for keyword in call.keywords)]
        inside = [node for part in parts for node in ast.walk(part)]
        names = [node.id if isinstance(node, ast.Name) else "" for node in inside]
        names += [node.attr if isinstance(node, ast.Attribute) else "" for node in inside]
        for name in {*keywords, *names}:
            if _is_secret(name):
                yield call.lineno, f"`{name}` goes to a log"


# --- tests -----------------------------------------------------------------------------------------


def sleeping_test(module: Module) -> Findings:
    if not module.is_test:
        return
    names = imported_names(module, "time.sleep", "asyncio.sleep", "anyio.sleep")
    for call in module.calls:
        name = dotted(call.func)
        if name not in {"time.sleep", "asyncio.sleep", "anyio.sleep", *names}:
            continue
        first = call.args[0] if call.args else None
        yields_only = name != "time.sleep" and isinstance(first, ast.Constant) and first.value == 0
        if not yields_only:
            yield call.lineno, f"`{name}` in a test: wait for a condition, or move an injected clock"


def skipped_test(module: Module) -> Findings:
    if not module.is_test:
        return
    banned = re.compile(
        r"^(pytest|unittest|mark)\.(mark\.)?(skip|skipif|xfail|importorskip|skipIf|skipUnless)$"
    )
    names = imported_names(module, "pytest.skip", "pytest.xfail", "pytest.importorskip")
    for node in module.nodes:
        if isinstance(node, ast.Attribute) and banned.match(dotted(node)):
            yield node.lineno, f"`{dotted(node)}`"
        elif isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load):
            yield node.lineno, f"`{node.id}`"


_MOCKS = ("mongomock", "fakeredis", "mock", "unittest.mock", "pytest_mock", "mongomock_motor")


def mocked_store(module: Module) -> Findings:
    if not module.is_test:
        return
    for line, name in imports(module):
        if name in _MOCKS or name.startswith(tuple(f"{mock}." for mock in _MOCKS)):
            yield line, f"`{name}`: use the memory twin or the real thing"


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        long_function,
        long_module,
        naive_time,
        bare_task,
        swallowed_exception,
        stub,
        leftover,
        unexplained_silence,
        stray_print,
        logged_secret,
        sleeping_test,
        skipped_test,
        mocked_store,
    )
}


# --- the tree as a whole ---------------------------------------------------------------------------


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def dead_modules(candidates: tuple[Module, ...]) -> Iterator[str]:
    """Modules of our packages that no other module imports or names (as uvicorn does: "module:attribute")."""
    used: set[str] = set()
    for module in candidates:
        used.update(name for _, name in imports(module) if name != module_name(module.path))
        texts = (node.value for node in module.nodes if isinstance(node, ast.Constant))
        used.update(text.split(":")[0] for text in texts if isinstance(text, str) and "." in text)
    for module in candidates:
        ours = module.path.startswith(tuple(f"{package}/" for package in PACKAGES))
        if not ours or module.path.endswith("__init__.py") or module.path in ENTRY_POINTS:
            continue
        if module_name(module.path) not in used:
            yield module.path
