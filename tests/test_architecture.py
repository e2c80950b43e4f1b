"""The gates: who may import what, how long and how wide things may be, who may assign a phase, what `pmx ls` loads.

Every check is a function from one source file to sentences with file, line and rule; the last tests of this file feed
each of them bad code, to prove that it bites. ``PMX_UPDATE_GOLDEN=1 pytest tests/test_architecture.py`` rewrites the
lists of modules in tests/golden.
"""

import ast
import os
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.harness import Pmx

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"


# ── the tables ──────────────────────────────────────────────────────────────────────────────────────────────────


class Right(NamedTuple):
    """What one folder may import. Names include what is below them: `pmx.core` is also `pmx.core.spec`."""

    pmx: tuple[str, ...] = ()
    third: tuple[str, ...] = ()
    stdlib: tuple[str, ...] | None = None  # None: all of it but `never`
    never: tuple[str, ...] = ()
    lazily: tuple[str, ...] = ()  # only inside functions, where only those who need it wait for it
    eager: bool = False  # no import inside functions at all


_DATA = ("collections.abc", "dataclasses", "enum", "fnmatch", "math", "re", "types", "typing")
_LEAF = ("dataclasses", "asyncio", "inspect", "json", "logging", "pathlib", "subprocess", "tempfile", "threading")
_SLOW = ("asyncio", "dataclasses", "inspect", "logging", "pathlib", "subprocess", "threading")  # dear to `pmx ls`
_LEAVES = ("pmx.errors", "pmx.paths", "pmx.units")
_DAEMON = ("pmx.__version__", "pmx.daemon", "pmx.core", "pmx.wire", "pmx.keeper.protocol", *_LEAVES)
_CLI = ("pmx.__version__", "pmx.cli", "pmx.client", "pmx.wire", *_LEAVES)

# The longest path that a file is under holds. A file that no path covers is an error: give its folder a row.
RIGHTS = {
    "pmx/__init__.py": Right(stdlib=()),
    "pmx/__main__.py": Right(stdlib=("sys",), lazily=("pmx.cli.main",)),
    "pmx/errors.py": Right(stdlib=()),
    "pmx/paths.py": Right(("pmx.errors",), never=_LEAF),
    "pmx/units.py": Right(("pmx.errors",), never=_LEAF),
    "pmx/app.py": Right(stdlib=("_socket", "os")),  # programs import it, and should not notice
    "pmx/core/": Right(("pmx.core", "pmx.errors", "pmx.units"), stdlib=_DATA, lazily=("difflib",)),
    "pmx/wire/": Right(("pmx.wire", "pmx.errors"), stdlib=("collections.abc", "json", "typing")),
    "pmx/keeper/": Right(("pmx.keeper",), never=("asyncio", "dataclasses", "logging", "subprocess"), eager=True),
    "pmx/config/": Right(
        ("pmx.config", "pmx.core", "pmx.errors", "pmx.units"), third=("pydantic", "yaml"), never=("asyncio",)
    ),
    # No zmq: the client speaks ZMTP itself, because the import costs more than the rest of `pmx ls`.
    "pmx/client/": Right(("pmx.client", "pmx.wire", "pmx.errors", "pmx.paths"), never=_SLOW),
    "pmx/daemon/": Right(_DAEMON, third=("psutil", "watchfiles", "zmq")),
    "pmx/doctor/": Right(("pmx.doctor", "pmx.keeper", *_LEAVES), never=("asyncio", "logging", "subprocess")),
    "pmx/cli/": Right(_CLI, never=_SLOW, lazily=("difflib", "rich", "typer")),
    "pmx/cli/options.py": Right(_CLI, third=("typer",), never=_SLOW),
    "pmx/cli/commands/": Right(_CLI, third=("typer",), never=_SLOW, lazily=("rich", "pmx.config", "pmx.core.spec")),
    "pmx/cli/commands/doctor.py": Right((*_CLI, "pmx.doctor"), third=("typer",), never=_SLOW),
    "pmx/cli/commands/start.py": Right((*_CLI, "pmx.config", "pmx.core.spec"), third=("typer",), never=_SLOW),
}

FUNCTION_LINES, FILE_LINES, ATTRIBUTES, METHODS = 40, 400, 12, 15
# The listeners and their steering must live in the process that must not die (decision 0007): 900 lines of these.
KEEPER_LINES = 2450

WIDE = {
    "pmx/keeper/protocol.py:Spawn": "a protocol message: everything about a new process goes in one frame",
    "pmx/config/launch.py:Options": "one field for each option of pmx start",
}

PHASE_ASSIGNERS = {
    "pmx/core/lifecycle.py:_enter": "the one place",
    "pmx/daemon/snapshot.py:_load_machine": "builds a machine from disk, in the phase in which it was written",
}

BROAD_EXCEPTS = {
    "pmx/cli/boundary.py": "the boundary: a bug is told as one",
    "pmx/client/zmtp.py": "closes the socket and raises again",
    "pmx/daemon/__main__.py": "logs why the daemon ends",
    "pmx/daemon/control.py": "a bug in one verb must not end the daemon",
    "pmx/daemon/keeperlink.py": "a fault over one message must not cost the others",
    "pmx/keeper/child.py": "nothing may escape from between fork and exec into a second keeper",
    "pmx/keeper/loop.py": "the keeper goes on, whatever happens",
    "pmx/keeper/poller.py": "a fault of one reader must not cost the others their turn; it is raised again",
}


# ── the checks ──────────────────────────────────────────────────────────────────────────────────────────────────


class Source(NamedTuple):
    path: str
    text: str
    tree: ast.Module


Check = Callable[[Source], Iterator[str]]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def source(path: str, text: str) -> Source:
    return Source(path, text, ast.parse(text, path))


def sources() -> list[Source]:
    files = sorted((ROOT / "pmx").rglob("*.py"))
    return [source(file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")) for file in files]


def check_imports(it: Source) -> Iterator[str]:
    rows = [row for row in RIGHTS if it.path == row or (row[-1] == "/" and it.path.startswith(row))]
    row = max(rows, key=len, default="")
    if not row:
        yield f"{it.path}:1: no row of RIGHTS covers this file; say what it may import"
        return
    for line, name, inside in imports(it.tree):
        why = _refusal(RIGHTS[row], name, inside)
        if why:
            yield f"{it.path}:{line}: may not import {name}: {why} (RIGHTS[{row!r}])"


def imports(tree: ast.AST, inside: bool = False) -> Iterator[tuple[int, str, bool]]:
    """Line, full name, and whether it stands inside a function."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name, inside) for alias in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                whole = module.partition(".")[0] != "pmx"  # of pmx, `from pmx import paths` is about pmx.paths
                names = [module] if whole else [f"{module}.{alias.name}" for alias in node.names]
                yield from ((node.lineno, name, inside) for name in names)
            case ast.ImportFrom():
                yield node.lineno, "." * node.level + (node.module or ""), inside
            case _:
                yield from imports(node, inside or isinstance(node, Function | ast.Lambda))


def _refusal(right: Right, name: str, inside: bool) -> str:
    """Why `name` may not be imported; empty when it may."""
    if name.startswith("."):
        return "an import says from where: no relative ones"
    if inside and right.eager:
        return "here everything is imported before anything runs"
    if inside and _under(name, right.lazily):
        return ""
    if _under(name, right.lazily) and not _under(name, (*right.pmx, *right.third)):
        return "only inside the function that needs it"
    top = name.partition(".")[0]
    if top == "pmx":
        return "" if _under(name, right.pmx) else f"this folder may import {_list(right.pmx)} of pmx"
    if top not in sys.stdlib_module_names:
        return "" if top in right.third else f"this folder may import {_list(right.third)} of other people's libraries"
    if _under(name, right.never):
        return "it has no business here, or costs start-up time"
    allowed = right.stdlib is None or _under(name, right.stdlib)
    return "" if allowed else f"this folder may import {_list(right.stdlib or ())} of the standard library"


def _under(name: str, names: tuple[str, ...]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in names)


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nothing"


def check_function_length(it: Source) -> Iterator[str]:
    for node in ast.walk(it.tree):
        if isinstance(node, Function):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{it.path}:{node.lineno}: {node.name} has {length} lines; {FUNCTION_LINES} is the most"


def check_file_length(it: Source) -> Iterator[str]:
    length = it.text.count("\n")
    if length > FILE_LINES:
        yield f"{it.path}:{FILE_LINES}: the file has {length} lines; {FILE_LINES} is the most"


def check_keeper_length(all_of_them: list[Source]) -> Iterator[str]:
    length = sum(it.text.count("\n") for it in all_of_them if it.path.startswith("pmx/keeper/"))
    if length > KEEPER_LINES:
        yield f"pmx/keeper: the package has {length} lines; {KEEPER_LINES} is the most: it must be possible to read it"


def check_class_width(it: Source) -> Iterator[str]:
    for node in ast.walk(it.tree):
        if isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, Function)]
            wide = f"{it.path}:{node.name}" in WIDE
            if not wide and (count := len(attributes(node))) > ATTRIBUTES:
                yield f"{it.path}:{node.lineno}: {node.name} has {count} attributes; {ATTRIBUTES} is the most"
            if len(methods) > METHODS:
                yield f"{it.path}:{node.lineno}: {node.name} has {len(methods)} methods; {METHODS} is the most"


def attributes(node: ast.ClassDef) -> set[str]:
    """Fields of a dataclass or NamedTuple, and whatever a method assigns to `self`."""
    fields = {ast.unparse(each.target) for each in node.body if isinstance(each, ast.AnnAssign)}
    assigned = {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)
        if isinstance(each.value, ast.Name) and each.value.id == "self"
    }
    return fields | assigned


def check_phase(it: Source) -> Iterator[str]:
    for name, node in _by_function(it.tree):
        if _assigns_phase(node) and f"{it.path}:{name}" not in PHASE_ASSIGNERS:
            line = getattr(node, "lineno", 1)
            yield f"{it.path}:{line}: {name or 'the module'} assigns a phase; only core/lifecycle.py does, in _enter"


def _by_function(tree: ast.AST, name: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Every node, with the name of the function that it stands in."""
    for node in ast.iter_child_nodes(tree):
        yield name, node
        yield from _by_function(node, node.name if isinstance(node, Function) else name)


def _assigns_phase(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(attr="phase", ctx=ast.Store()):
            return True
        case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)):
            fourth = called == "Machine" and len(node.args) > 3  # Machine(policy, salt, wanted, phase)
            named = called in ("replace", "Machine") and any(each.arg == "phase" for each in node.keywords)
            set_ = called in ("setattr", "__setattr__") and any(
                isinstance(each, ast.Constant) and each.value == "phase" for each in node.args
            )
            return fourth or named or set_
    return False


def check_excepts(it: Source) -> Iterator[str]:
    for node in ast.walk(it.tree):
        if isinstance(node, ast.ExceptHandler) and it.path not in BROAD_EXCEPTS and _is_broad(node.type):
            yield f"{it.path}:{node.lineno}: catches everything; only a file of BROAD_EXCEPTS may, with a reason"


def _is_broad(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(each is None or ast.unparse(each) in ("Exception", "BaseException") for each in kinds)


CHECKS: tuple[Check, ...] = (
    check_imports, check_function_length, check_file_length, check_class_width, check_phase, check_excepts,
)  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_source_keeps_the_rules(check: Check) -> None:
    broken = [sentence for it in sources() for sentence in check(it)]
    assert not broken, "\n" + "\n".join(broken)


def test_the_keeper_is_small() -> None:
    assert not list(check_keeper_length(sources()))


def test_every_exemption_is_needed() -> None:
    """A row of a table that nothing uses is a hole that nobody sees."""
    everything = sources()
    nodes = [(it.path, name, node) for it in everything for name, node in _by_function(it.tree)]
    classes = {f"{path}:{node.name}": attributes(node) for path, _, node in nodes if isinstance(node, ast.ClassDef)}
    wide = {name for name, its in classes.items() if len(its) > ATTRIBUTES}
    phase = {f"{path}:{name}" for path, name, node in nodes if _assigns_phase(node)}
    broad = {path for path, _, node in nodes if isinstance(node, ast.ExceptHandler) and _is_broad(node.type)}
    unused = [*(set(WIDE) - wide), *(set(PHASE_ASSIGNERS) - phase), *(set(BROAD_EXCEPTS) - broad)]
    unused += [row for row in RIGHTS if not any(it.path.startswith(row) for it in everything)]
    assert not unused


# ── what is loaded ──────────────────────────────────────────────────────────────────────────────────────────────

HEAVY = {
    "asyncio", "dataclasses", "inspect", "logging", "pathlib", "psutil", "pydantic", "rich", "subprocess", "typer",
    "watchfiles", "yaml", "zmq",
}  # fmt: skip
HEAVIER = HEAVY | {"json", "select", "socket", "struct", "typing_extensions", "difflib"}

_RUN = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from pmx.cli.main import run
status = run(sys.argv[3:])
with open(sys.argv[2], "w") as file:
    file.write("\\n".join(sys.modules))
sys.exit(status)
"""
_IMPORT_KEEPER = """
import runpy, sys
runpy.run_path(sys.argv[1].split(":")[0] + "/pmx/keeper/__main__.py", run_name="keeper")
with open(sys.argv[2], "w") as file:
    file.write("\\n".join(sys.modules))
"""


def loaded(code: str, report: Path, *args: str, home: str = "/nowhere") -> set[str]:
    """The modules that `code` loads in a bare Python: what its site configuration would load is not our affair."""
    path = f"{ROOT}:{sysconfig.get_path('purelib')}"
    environment = {"PMX_HOME": home, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    command = [sys.executable, "-I", "-S", "-c", code, path, str(report), *args]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(report.read_text().split("\n"))


def golden(name: str, modules: set[str], heavy: set[str]) -> None:
    """Compare with tests/golden. Of the standard library only what pmx itself names: the rest is Python's affair."""
    tops = {each.partition(".")[0] for each in modules}
    assert not tops & heavy, f"{name} must not load {sorted(tops & heavy)}"
    trees = {it.path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): it.tree for it in sources()}
    named = {each for module in modules & trees.keys() for _, each, _ in imports(trees[module])}
    theirs = {each for each in modules if each.partition(".")[0] not in (*sys.stdlib_module_names, "pmx", "__main__")}
    ours = {each for each in modules if each.partition(".")[0] == "pmx"}
    text = "\n".join(sorted(ours | theirs | modules & named)) + "\n"
    file = GOLDEN / f"{name}_modules.txt"
    if os.environ.get("PMX_UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text(), f"{name} loads other modules; if it must: PMX_UPDATE_GOLDEN=1 (see the docstring)"


def test_ls_loads_little(pmx: Pmx, tmp_path: Path) -> None:
    pmx("start", "sleep 1000", "--name", "sleeper")
    golden("ls", loaded(_RUN, tmp_path / "modules", "ls", home=pmx.home.root), HEAVY)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_even_less(option: str, tmp_path: Path) -> None:
    golden(option.strip("-"), loaded(_RUN, tmp_path / "modules", option), HEAVIER)


def test_the_keeper_loads_nothing_of_others(tmp_path: Path) -> None:
    modules = loaded(_IMPORT_KEEPER, tmp_path / "modules")
    theirs = {each for each in modules if each.partition(".")[0] not in (*sys.stdlib_module_names, "pmx", "__main__")}
    ours = {each for each in modules if _under(each, ("pmx",)) and not _under(each, ("pmx.keeper",))}
    assert not theirs
    assert ours == {"pmx"}
    golden("keeper", modules, HEAVY)


# ── the checks bite ─────────────────────────────────────────────────────────────────────────────────────────────

_LONG = "def f():\n" + "    pass\n" * FUNCTION_LINES
_WIDE = "class C:\n    def __init__(self):\n" + "".join(f"        self.a{n} = {n}\n" for n in range(ATTRIBUTES + 1))
_FIELDS = "@dataclass\nclass C:\n" + "".join(f"    a{n}: int\n" for n in range(ATTRIBUTES + 1))
_MANY = "class C:\n" + "".join(f"    def m{n}(self): ...\n" for n in range(METHODS + 1))

BAD: list[tuple[Check, str, str, str]] = [
    (check_imports, "pmx/core/x.py", "import os", "pmx/core/x.py:1: may not import os"),
    (check_imports, "pmx/core/x.py", "import difflib", "only inside the function"),
    (check_imports, "pmx/core/x.py", "from pmx.daemon import clock", "may not import pmx.daemon.clock"),
    (check_imports, "pmx/core/x.py", "def f():\n    import time", ":2: may not import time"),
    (check_imports, "pmx/wire/x.py", "from pydantic import BaseModel", "may not import pydantic"),
    (check_imports, "pmx/keeper/x.py", "def f():\n    import os", "before anything runs"),
    (check_imports, "pmx/keeper/x.py", "from pmx import errors", "may not import pmx.errors"),
    (check_imports, "pmx/keeper/x.py", "import psutil", "may not import psutil"),
    (check_imports, "pmx/config/x.py", "import zmq", "may not import zmq"),
    (check_imports, "pmx/client/x.py", "import zmq", "may not import zmq"),
    (check_imports, "pmx/client/x.py", "import asyncio", "costs start-up time"),
    (check_imports, "pmx/client/x.py", "from pmx.daemon.bus import Bus", "may not import pmx.daemon.bus.Bus"),
    (check_imports, "pmx/daemon/x.py", "from pmx.keeper.loop import Keeper", "may not import pmx.keeper.loop.Keeper"),
    (check_imports, "pmx/daemon/x.py", "from pmx.cli import main", "may not import pmx.cli.main"),
    (check_imports, "pmx/daemon/x.py", "if TYPE_CHECKING:\n    import typer", ":2: may not import typer"),
    (check_imports, "pmx/cli/x.py", "import rich.table", "only inside the function"),
    (check_imports, "pmx/cli/x.py", "from pmx.core.spec import AppSpec", "may not import pmx.core.spec"),
    (check_imports, "pmx/cli/commands/x.py", "import pmx.config", "only inside the function"),
    (check_imports, "pmx/units.py", "from . import errors", "no relative ones"),
    (check_imports, "pmx/new/x.py", "", "no row of RIGHTS"),
    (check_function_length, "pmx/x.py", _LONG, "pmx/x.py:1: f has 41 lines"),
    (check_file_length, "pmx/x.py", "\n" * (FILE_LINES + 1), "has 401 lines"),
    (check_class_width, "pmx/x.py", _WIDE, "C has 13 attributes"),
    (check_class_width, "pmx/x.py", _FIELDS, "C has 13 attributes"),
    (check_class_width, "pmx/x.py", _MANY, "C has 16 methods"),
    (check_phase, "pmx/daemon/x.py", "m = replace(m, phase=p)", "assigns a phase"),
    (check_phase, "pmx/core/lifecycle.py", "def _stop(m):\n    m.phase = p", ":2: _stop assigns a phase"),
    (check_phase, "pmx/x.py", "lifecycle.Machine(policy, 0, up, online)", "assigns a phase"),
    (check_phase, "pmx/x.py", "object.__setattr__(m, 'phase', p)", "assigns a phase"),
    (check_excepts, "pmx/x.py", "try: f()\nexcept: pass", "pmx/x.py:2: catches everything"),
    (check_excepts, "pmx/x.py", "try: f()\nexcept (OSError, Exception): pass", "catches everything"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "path", "text", "expected"), BAD)
def test_a_check_bites(check: Check, path: str, text: str, expected: str) -> None:
    (sentence,) = check(source(path, text))
    assert expected in sentence


def test_every_check_is_shown_to_bite() -> None:
    assert Counter(check for check, *_ in BAD).keys() == set(CHECKS)
    assert list(check_keeper_length([source("pmx/keeper/x.py", "\n" * (KEEPER_LINES + 1))]))


def test_good_code_passes() -> None:
    good = source("pmx/core/x.py", "import re\nfrom pmx.core.spec import AppSpec\ndef f():\n    import difflib\n")
    assert not [sentence for check in CHECKS for sentence in check(good)]


def test_surprising_modules_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PMX_UPDATE_GOLDEN", raising=False)
    with pytest.raises(AssertionError, match="must not load"):
        golden("ls", {"pmx", "rich.table"}, HEAVY)
    with pytest.raises(AssertionError, match="loads other modules"):
        golden("ls", {"pmx", "pmx.cli.surprise"}, HEAVY)
