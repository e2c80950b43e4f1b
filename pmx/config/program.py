"""Turns what a person typed after `pmx start` into what to exec.

A target is a file, a command on PATH, or a quoted command line, and is tried in that order. A file runs
through the interpreter of its extension, or of its #! line. A command line that needs a shell gets one; any
other is split here, so that the process we watch is the program and not a shell around it.

Only the standard library, and little of it: every `pmx start` imports this module.
"""

import os
import re
import stat
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pmx.errors import ProgramProblem, UsageProblem

DIRECT = "none"  # the interpreter of a program that is executed as it is
SHELL = "/bin/sh"

BY_EXTENSION: dict[str, tuple[str, ...]] = {  # the first of these that is on PATH
    ".py": ("python3", "python"),
    ".js": ("node",),
    ".mjs": ("node",),
    ".cjs": ("node",),
    ".ts": ("bun", "node"),
    ".tsx": ("bun", "node"),
    ".sh": ("bash", "sh"),
    ".rb": ("ruby",),
    ".php": ("php",),
    ".pl": ("perl",),
    ".lua": ("lua",),
    ".coffee": ("coffee",),
    ".jar": ("java",),
}
VENVS = (".venv", "venv", "env")

_MISSING = "no such file"
_HEAD_BYTES = 512  # more than the 256 that the kernel reads of a #! line (BINPRM_BUF_SIZE)


class Program(NamedTuple):
    """What to exec. `env` holds defaults: a variable that the user set, in any way, wins over it."""

    name: str
    script: str
    interpreter: str
    argv: tuple[str, ...]
    env: dict[str, str]


class _Order(NamedTuple):
    """What was asked for."""

    target: str
    cwd: str
    environ: Mapping[str, str]
    interpreter: str | None
    interpreter_args: tuple[str, ...]
    args: tuple[str, ...]


def resolve(
    target: str,
    *,
    cwd: str,
    environ: Mapping[str, str],
    interpreter: str | None = None,
    interpreter_args: Sequence[str] = (),
    args: Sequence[str] = (),
) -> Program:
    """What to exec for `target`, typed in `cwd` (absolute) by someone whose environment is `environ`."""
    order = _Order(target, cwd, environ, interpreter, tuple(interpreter_args), tuple(args))
    _check_text(order)
    if any(map(str.isspace, target)) and not os.path.exists(_absolute(target, order)):
        return _command_line(order._replace(target=target.strip()))
    return _single(order)


def _check_text(order: _Order) -> None:
    for text in (order.target, order.interpreter or "", *order.interpreter_args, *order.args):
        try:
            usable = b"\0" not in os.fsencode(text)
        except UnicodeEncodeError:
            usable = False
        if not usable:
            why = "it holds a character that no file name or argument can hold"
            raise UsageProblem(f"cannot start {text!r}: {why}", "remove the NUL byte or the lone surrogate")


# --- one program --------------------------------------------------------------------------------------------


def _single(order: _Order) -> Program:
    if not order.target:
        raise UsageProblem("cannot start a program: its name is empty", "name one: pmx start app.py")
    path, on_path = _locate(order)
    extension = "" if on_path else os.path.splitext(path)[1].lower()
    runner = _runner(order, path, extension)
    if order.interpreter_args and not runner:
        why = "it is executed directly, there is no interpreter to give arguments to"
        raise UsageProblem(_cannot(order, why), "give them to the program: put them after --")
    jar = ("-jar",) if extension == ".jar" and runner and "-jar" not in order.interpreter_args else ()
    return Program(
        name=os.path.basename(path) if on_path else os.path.splitext(os.path.basename(path))[0],
        script=path,
        interpreter=runner[0] if runner else DIRECT,
        argv=(*runner, *order.interpreter_args, *jar, path, *order.args),
        env=_extra_env(*runner[:1]) if runner else _extra_env(path, *_first_lines(path)),
    )


def _locate(order: _Order) -> tuple[str, bool]:
    """The absolute path, and whether it was found on PATH."""
    path = _absolute(order.target, order)
    problem = _file_problem(path)
    if not problem:
        return path, False
    bare = "/" not in order.target
    found = _on_path(order.target, order) if bare else ""
    if found:
        return found, True
    if problem == _MISSING:
        problem = f"there is no file {_shown(path)}" + (" and no such command on PATH" if bare else "")
    raise _problem(order, problem, _advice(order, path))


def _runner(order: _Order, path: str, extension: str) -> tuple[str, ...]:
    """What comes before the path in argv; nothing if the file is executed directly."""
    if order.interpreter == DIRECT:
        _check_executable(order, path)
        return ()
    if order.interpreter is not None:
        runner: tuple[str, ...] = (_named_interpreter(order, order.interpreter),)
    elif extension in BY_EXTENSION:
        runner = (_usual_interpreter(order, extension),)
        if extension == ".sh":
            _shebang_line(order, path)  # a shell chokes on Windows line ends, other languages do not mind
    else:
        runner = _by_content(order, path)
    if runner and not os.access(path, os.R_OK):
        raise _problem(order, f"{_shown(path)} is not readable", f"chmod +r {_shown(path)}")
    return runner


def _by_content(order: _Order, path: str) -> tuple[str, ...]:
    shebang = _shebang(order, path)
    if not os.access(path, os.X_OK):
        if shebang:
            return shebang
        why = f"{_shown(path)} is not executable, and nothing says which interpreter it needs"
        raise _problem(order, why, f"chmod +x {_shown(path)}, or name one with --interpreter")
    if shebang:
        return shebang if order.interpreter_args else ()
    # The kernel refuses text without a #! line (ENOEXEC); every shell then runs it as its own, and so do we.
    head = _head(path)
    return (SHELL,) if head and b"\0" not in head and not order.interpreter_args else ()


def _check_executable(order: _Order, path: str) -> None:
    if not os.access(path, os.X_OK):
        hint = f"chmod +x {_shown(path)}, or leave out --interpreter none"
        raise _problem(order, f"{_shown(path)} is not executable", hint)
    _shebang(order, path)


def _extra_env(*traces: str) -> dict[str, str]:
    """Python holds back what it prints to a pipe until 8 KiB are full; a log should show it at once."""
    return {"PYTHONUNBUFFERED": "1"} if any("python" in os.path.basename(trace) for trace in traces) else {}


# --- interpreters -------------------------------------------------------------------------------------------


def _named_interpreter(order: _Order, name: str) -> str:
    if "/" not in name:
        found = _on_path(name, order)
        if found:
            return found
        why = f"its interpreter {_shown(name) or repr(name)} is not on PATH"
        raise _problem(order, why, "install it, or give its full path with --interpreter")
    path = _absolute(name, order)
    if not _is_program(path):
        why = f"its interpreter {_shown(path)} does not exist or is not an executable file"
        raise _problem(order, why, "name another with --interpreter")
    return path


def _usual_interpreter(order: _Order, extension: str) -> str:
    names = BY_EXTENSION[extension]
    own = _venv_program(order, "python") if extension == ".py" else ""
    found = own or next(filter(None, (_on_path(name, order) for name in names)), "")
    if found:
        return found
    why = f"{extension} files need {' or '.join(names)}, which is not on PATH"
    raise _problem(order, why, f"install {names[0]}, or name an interpreter with --interpreter")


def _venv_program(order: _Order, name: str) -> str:
    """A program of the project's own virtual environment. A link stays one: python finds its venv by it."""
    for venv in VENVS:
        root = os.path.join(order.cwd, venv)
        program = os.path.join(root, "bin", name)
        if os.path.isfile(os.path.join(root, "pyvenv.cfg")) and _is_program(program):
            return program
    return ""


def _shebang_line(order: _Order, path: str) -> str:
    line = (_first_lines(path) or [""])[0]
    if line.endswith("\r"):
        why = "its first line ends with a Windows line end (CR LF), which the kernel takes for part of a name"
        raise _problem(order, why, f"sed -i 's/\\r$//' {_shown(path)}")
    return line[2:].strip(" \t")


def _shebang(order: _Order, path: str) -> tuple[str, ...]:
    """The interpreter and argument of the #! line, checked; nothing if there is no such line."""
    # The kernel passes everything after the first word as one argument.
    words = tuple(_shebang_line(order, path).split(None, 1))
    if not words:
        return ()
    interpreter = os.path.join(order.cwd, words[0])
    if not _is_program(interpreter):
        raise _bad_shebang(order, path, words[0], "does not exist or is not executable")
    if os.path.basename(interpreter) == "env" and len(words) == 2:
        return _env_shebang(order, path, interpreter, words[1])
    return (interpreter, *words[1:])


def _env_shebang(order: _Order, path: str, env: str, argument: str) -> tuple[str, ...]:
    """`#!/usr/bin/env NAME` names a program to look for on PATH; anything longer is left for env to read."""
    split = argument.startswith("-S")
    wanted = [*argument.removeprefix("-S").split(), "-"][0] if split else argument
    if wanted.startswith("-") or "=" in wanted:
        return (env, argument)
    found = os.path.join(order.cwd, wanted) if "/" in wanted else _on_path(wanted, order)
    if not _is_program(found):
        raise _bad_shebang(order, path, wanted, "does not exist" if "/" in wanted else "is not on PATH")
    return (env, argument) if split else (found,)


def _bad_shebang(order: _Order, path: str, wanted: str, why: str) -> ProgramProblem:
    hint = f"correct the first line of {_shown(path)}, or name an interpreter with --interpreter"
    if os.path.basename(wanted).startswith("python"):
        hint += "; a virtual environment that was moved has to be made again"
    return _problem(order, f"its first line asks for {_shown(wanted)}, which {why}", hint)


# --- command lines ------------------------------------------------------------------------------------------

_ASSIGNMENTS = r"(?:[A-Za-z_][A-Za-z_0-9]*=[^ \t\n]*[ \t]+)*"  # a shell knows no other white space
_NEEDS_SHELL = r"[|&;<>()$`*?\[\]\n]|(?:^|\s)#|\s~|^[!{]\s|^[A-Za-z_]\w*="
_MANY_COMMANDS = r"[|;()`\n]|(?<![<>])&|\$\{[^}]*\s|(?:^|\s)#|^[!{]\s"
_BUILTINS = (  # commands that exist only inside a shell: `exec cd` finds nothing
    " . : alias bg break cd command continue eval exec exit export fc fg getopts hash jobs local read"
    " readonly return set shift source times trap type ulimit umask unalias unset wait "
)


def _command_line(order: _Order) -> Program:
    skeleton = _skeleton(order.target)
    if re.search(_NEEDS_SHELL, skeleton):
        return _shell(order, skeleton)
    import shlex  # only command lines need it

    words = shlex.split(order.target) or [""]
    program = _single(order._replace(target=words[0], args=(*words[1:], *order.args)))
    return program._replace(env=program.env | _extra_env(*words))


def _skeleton(line: str) -> str:
    """The line with quoted characters blanked out, except those a shell reads even there."""

    def blank(match: re.Match[str]) -> str:
        text = match[0]
        # What is live in quotes, too: variables, and a line end that a backslash removes.
        live = re.findall(r"\\\n|[$`]" if text[0] == '"' else r"^\\\n", text)
        return "".join(live).replace("\\", "\n").ljust(len(text), "Q")

    skeleton = re.sub(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*\"""", blank, line, flags=re.DOTALL)
    if re.search(r"""['"\\]""", skeleton):
        why = "it ends with a backslash" if skeleton.endswith("\\") else "a quote is not closed"
        raise UsageProblem(f"cannot start {_shown(line)}: {why}", "put the command line in single quotes")
    return skeleton


def _shell(order: _Order, skeleton: str) -> Program:
    line = order.target
    if order.interpreter is not None or order.interpreter_args:
        hint = f"leave out the interpreter, or write it into the command line: {SHELL} runs it"
        raise UsageProblem(_cannot(order, "a shell command line takes no interpreter"), hint)
    assignments, blanked = re.findall(rf"^({_ASSIGNMENTS})([^ \t\n]*)", skeleton)[0]
    start = len(assignments)
    word = line[start : start + len(blanked)]
    if word and f" {word} " not in _BUILTINS and not re.search(_MANY_COMMANDS, skeleton):
        # With exec the shell becomes the program, which then gets our signals. It belongs after any VAR=x.
        line = f"{line[:start]}exec {line[start:]}" + (' "$@"' if order.args else "")
    elif order.args and not re.search(r"\$[{]?[@*1-9]", line):
        why = "it is not clear which of its commands the arguments are for"
        raise UsageProblem(_cannot(order, why), 'write them into the command line, or "$@" where they belong')
    return Program(
        name=os.path.basename(word) if re.fullmatch(r"[\w.+@/-]*[\w.+@-]", word) else "sh",
        script=order.target,
        interpreter=SHELL,
        argv=(SHELL, "-c", line, *(("sh", *order.args) if order.args else ())),  # "sh" becomes $0
        env={"PYTHONUNBUFFERED": "1"} if "python" in line else {},
    )


# --- files, and what to say about them ----------------------------------------------------------------------


def _absolute(path: str, order: _Order) -> str:
    if path == "~" or path.startswith("~/"):
        path = (order.environ.get("HOME") or os.path.expanduser("~")) + path[1:]
    elif path.startswith("~"):
        path = os.path.expanduser(path)
    path = os.path.join(order.cwd, path)
    short = os.path.normpath(path)
    # Where the directory before ".." is a link, or not there, only the kernel knows where ".." leads.
    plain = "/.." not in path or (os.path.exists(path) and os.path.realpath(path) == os.path.realpath(short))
    return short if plain else path


def _on_path(name: str, order: _Order) -> str:
    for directory in (order.environ.get("PATH") or os.defpath).split(":"):
        candidate = os.path.join(order.cwd, directory, name)  # an empty entry is the current directory
        if _is_program(candidate):
            return candidate
    return ""


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _file_problem(path: str) -> str:
    """Why this is not a file that could be run; empty if it is one."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            return f"{_shown(path)} is a link to {_shown(os.readlink(path))}, which does not exist"
        return _MISSING
    except OSError as error:
        return f"{_shown(path)}: {error.strerror}"
    if stat.S_ISDIR(mode):
        return f"{_shown(path)} is a directory"
    return "" if stat.S_ISREG(mode) else f"{_shown(path)} is not a regular file"


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:  # a binary may be executable and not readable
        return b""


def _first_lines(path: str) -> list[str]:
    """Two, because pip writes `#!/bin/sh` and below it the python whose path is too long for a #! line."""
    head = _head(path)
    return [os.fsdecode(line) for line in head.split(b"\n")[:2]] if head.startswith(b"#!") else []


def _cannot(order: _Order, why: str) -> str:
    return f"cannot start {_shown(order.target)}: {why}"


def _problem(order: _Order, why: str, hint: str) -> ProgramProblem:
    return ProgramProblem(_cannot(order, why), hint)


def _shown(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _advice(order: _Order, path: str) -> str:
    if os.path.isdir(path):
        return f"name the program in it: pmx start {_shown(os.path.join(order.target, 'app.py'))}"
    if _venv_program(order, os.path.basename(path)):
        return f"it is in the virtual environment: pmx start {_venv_program(order, os.path.basename(path))}"
    close = _close_name(path)
    if close:
        return f"did you mean {_shown(os.path.join(os.path.dirname(order.target), close))}?"
    return "check the spelling and the directory, or give the full path"


def _close_name(path: str) -> str:
    import difflib  # only for someone who mistyped

    directory, name = os.path.split(path)
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except OSError:
        return ""
    return next(iter(difflib.get_close_matches(name, names, n=1)), "")
