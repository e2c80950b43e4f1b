"""From what a person typed to what is exec'd, on real files and a PATH of our own."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from pmx.config.program import BY_EXTENSION, Program, resolve
from pmx.errors import PmxError, ProgramProblem, UsageProblem

UNBUFFERED = {"PYTHONUNBUFFERED": "1"}
NATIVE = "\x7fELF\0\0\0"  # what matters of a binary: no #! line, and a NUL


class Box:
    """A project directory, a PATH with one directory, and a home."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cwd = root / "project"
        self.bin = root / "bin"
        self.environ = {"PATH": str(self.bin), "HOME": str(root / "home")}
        for directory in (self.cwd, self.bin, root / "home"):
            directory.mkdir()

    def file(self, name: str, text: str = "", mode: int = 0o644) -> str:
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        path.chmod(mode)
        return str(path)

    def command(self, name: str, text: str = NATIVE) -> str:
        return self.file(str(self.bin / name), text, 0o755)

    def venv(self, name: str) -> str:
        self.file(f"{name}/pyvenv.cfg", "home = /usr/bin\n")
        return self.file(f"{name}/bin/python", NATIVE, 0o755)

    def resolve(
        self,
        target: str,
        interpreter: str | None = None,
        interpreter_args: Sequence[str] = (),
        args: Sequence[str] = (),
    ) -> Program:
        return resolve(
            target,
            cwd=str(self.cwd),
            environ=self.environ,
            interpreter=interpreter,
            interpreter_args=interpreter_args,
            args=args,
        )

    def refuses(self, target: str, via: str | None = None, kind: type[PmxError] = ProgramProblem) -> PmxError:
        with pytest.raises(kind) as caught:
            self.resolve(target, via)
        assert caught.value.message.startswith("cannot start ")
        assert ": " in caught.value.message
        assert caught.value.hint
        return caught.value


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


# --- where a target is looked for ---


def test_a_relative_path_belongs_to_the_working_directory(box: Box) -> None:
    python = box.command("python3")
    for target in (
        "src/app.py",
        "./src/app.py",
        str(box.cwd / "src/app.py"),
        "src/./app.py",
        "src/../src/app.py",
    ):
        script = box.file("src/app.py")
        program = box.resolve(target)
        assert program.argv[0] == python
        assert os.path.samefile(program.script, script)
        assert os.path.isabs(program.script)
        assert program.name == "app"


def test_dot_dot_after_a_link_leads_where_the_kernel_says(box: Box) -> None:
    real = box.file("elsewhere/deep/tool", NATIVE, 0o755)
    box.file("elsewhere/server", NATIVE, 0o755)
    (box.cwd / "link").symlink_to(os.path.dirname(real))
    assert os.path.samefile(box.resolve("link/../server").script, box.cwd / "elsewhere/server")


def test_dot_dot_in_a_command_line_does_not_make_a_file_of_it(box: Box) -> None:
    node = box.command("node")
    box.file("app.js")
    for word in ("src/../app.js", "src/..", "/..", "../.."):
        assert box.resolve(f"node --check {word}").argv == (node, "--check", word)


def test_a_tilde_is_the_home_of_the_user(box: Box) -> None:
    script = box.file(str(box.root / "home/tool"), NATIVE, 0o755)
    assert box.resolve("~/tool").argv == (script,)
    assert box.resolve("~/tool --port 3").argv == (script, "--port", "3")
    assert "is a directory" in box.refuses("~").message
    assert "there is no file" in box.refuses("~no-such-user/tool").message


def test_a_file_wins_over_a_command(box: Box) -> None:
    box.command("server")
    here = box.file("server", NATIVE, 0o755)
    assert box.resolve("server").script == here


def test_a_bare_word_is_a_command_on_path(box: Box) -> None:
    command = box.command("gunicorn")
    (box.cwd / "gunicorn").mkdir()  # a directory cannot be run, so it is not what was meant
    program = box.resolve("gunicorn", args=["app:app"])
    assert program == Program("gunicorn", command, "none", (command, "app:app"), {})


def test_a_command_keeps_the_dots_of_its_name(box: Box) -> None:
    command = box.command("python3.11")
    assert box.resolve("python3.11") == Program("python3.11", command, "none", (command,), UNBUFFERED)


def test_a_command_with_an_extension_runs_as_its_author_installed_it(box: Box) -> None:
    command = box.command("django-admin.py", "#!/bin/sh\n")
    assert box.resolve("django-admin.py").argv == (command,)


def test_path_entries_that_are_empty_or_relative_start_at_the_working_directory(box: Box) -> None:
    command = box.file("tools/lint", NATIVE, 0o755)
    for path in ("tools", ":tools", f"{box.bin}:tools", "./tools"):
        box.environ["PATH"] = path
        assert os.path.samefile(box.resolve("lint").script, command)


def test_without_a_path_the_usual_directories_are_searched(box: Box) -> None:
    del box.environ["PATH"]
    assert box.resolve("sh").script in ("/bin/sh", "/usr/bin/sh")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("app.py", "app"),
        ("my.app.py", "my.app"),
        ("server", "server"),
        (".hidden", ".hidden"),
        ("my app.py", "my app"),
    ],
)
def test_the_name_is_the_file_without_its_last_extension(box: Box, file: str, name: str) -> None:
    box.command("python3")
    box.file(file, NATIVE, 0o755)
    assert box.resolve(file).name == name


# --- interpreters by extension ---


@pytest.mark.parametrize(("extension", "names"), BY_EXTENSION.items())
def test_an_extension_names_its_interpreter(box: Box, extension: str, names: tuple[str, ...]) -> None:
    script = box.file(f"app{extension}")
    for name in reversed(names):  # the least wanted first: each one found later wins
        interpreter = box.command(name)
        program = box.resolve(f"app{extension}", args=["-x"])
        jar = ("-jar",) if extension == ".jar" else ()
        assert program.argv == (interpreter, *jar, script, "-x")
        assert program.interpreter == interpreter
        assert program.script == script
        assert program.env == (UNBUFFERED if name.startswith("python") else {})


def test_an_extension_counts_in_any_case_and_before_the_executable_bit(box: Box) -> None:
    node = box.command("node")
    script = box.file("APP.JS", "#!/bin/sh\n", 0o755)
    assert box.resolve("APP.JS").argv == (node, script)


@pytest.mark.parametrize("venv", [".venv", "venv", "env"])
def test_python_is_the_one_of_the_project(box: Box, venv: str) -> None:
    box.command("python3")
    box.file("app.py")
    python = box.venv(venv)
    program = box.resolve("app.py")
    assert program.interpreter == python
    assert program.env == UNBUFFERED


def test_a_directory_that_only_looks_like_a_virtual_environment_is_passed_over(box: Box) -> None:
    python = box.command("python3")
    box.file("app.py")
    box.file(".venv/bin/python", NATIVE, 0o755)  # no pyvenv.cfg
    box.file("venv/pyvenv.cfg")  # no python
    assert box.resolve("app.py").interpreter == python


def test_the_python_of_a_virtual_environment_stays_a_link(box: Box) -> None:
    python = Path(box.venv(".venv"))
    python.unlink()
    python.symlink_to(box.command("python3"))
    box.file("app.py")
    assert box.resolve("app.py").interpreter == str(python)


def test_interpreter_arguments_come_before_the_script(box: Box) -> None:
    python, java = box.command("python3"), box.command("java")
    script, jar = box.file("app.py"), box.file("app.jar")
    assert box.resolve("app.py", None, ["-X", "dev"], ["-v"]).argv == (python, "-X", "dev", script, "-v")
    assert box.resolve("app.jar", None, ["-Xmx1g"]).argv == (java, "-Xmx1g", "-jar", jar)
    assert box.resolve("app.jar", None, ["-Xmx1g", "-jar"]).argv == (java, "-Xmx1g", "-jar", jar)


def test_a_missing_usual_interpreter_is_named(box: Box) -> None:
    box.file("app.ts")
    problem = box.refuses("app.ts")
    assert problem.message == "cannot start app.ts: .ts files need bun or node, which is not on PATH"
    assert problem.hint == "install bun, or name an interpreter with --interpreter"


# --- interpreters by name ---


def test_a_named_interpreter_is_on_path_or_a_path(box: Box) -> None:
    pypy = box.command("pypy3")
    script = box.file("app.py")
    for name in ("pypy3", pypy, "../bin/pypy3"):
        program = box.resolve("app.py", name)
        assert program.argv == (pypy, script)
        assert program.interpreter == pypy


def test_a_named_interpreter_runs_anything(box: Box) -> None:
    deno, command = box.command("deno"), box.command("tool")
    script, data = box.file("app.js"), box.file("data.bin")
    assert box.resolve("app.js", "deno", ["run"]).argv == (deno, "run", script)
    assert box.resolve("data.bin", "deno").argv == (deno, data)
    assert box.resolve("tool", "deno").argv == (deno, command)


def test_interpreter_none_executes_the_file(box: Box) -> None:
    box.command("python3")
    script = box.file("app.py", "#!/bin/sh\n", 0o755)
    assert box.resolve("app.py", "none", args=["a"]) == Program("app", script, "none", (script, "a"), {})


@pytest.mark.parametrize(
    ("interpreter", "why"),
    [
        ("pypy3", "interpreter pypy3 is not on PATH"),
        ("", "interpreter '' is not on PATH"),
        ("./pypy3", "/project/pypy3 does not exist or is not an executable file"),
        ("./plain", "/project/plain does not exist or is not an executable file"),
        ("./dir/", "/project/dir does not exist or is not an executable file"),
        ("none", "/project/app.py is not executable"),
    ],
)
def test_a_named_interpreter_that_cannot_work(box: Box, interpreter: str, why: str) -> None:
    box.file("app.py")
    box.file("plain")
    box.file("dir/x")
    assert why in box.refuses("app.py", interpreter).message


def test_a_program_without_interpreter_cannot_take_interpreter_arguments(box: Box) -> None:
    box.command("server")
    for target in ("server", "server --port 3"):
        with pytest.raises(UsageProblem, match="no interpreter to give arguments to"):
            box.resolve(target, None, ["-O"])


# --- files without a known extension ---


def test_an_executable_file_runs_directly(box: Box) -> None:
    script = box.file("server", NATIVE, 0o755)
    assert box.resolve("./server") == Program("server", script, "none", (script,), {})


@pytest.mark.parametrize(
    ("first_line", "env"),
    [
        ("#!/bin/sh", {}),
        ("#! /bin/sh -e", {}),
        ("#!/usr/bin/env sh", {}),
        ("#!/usr/bin/env python3", UNBUFFERED),
        ("#!/usr/bin/env -S python3 -X dev", UNBUFFERED),
        ("#!/usr/bin/env -S", {}),
        ("#!/usr/bin/env -i sh", {}),
        ("#!", {}),
        ('#!/bin/sh\n\'\'\'exec\' "/a/very/long/path/bin/python" "$0" "$@"', UNBUFFERED),
    ],
)
def test_an_executable_script_runs_directly(box: Box, first_line: str, env: dict[str, str]) -> None:
    box.command("sh")
    box.command("python3")
    script = box.file("serve", first_line + "\nrest\n", 0o755)
    program = box.resolve("./serve")
    if first_line != "#!":  # which the kernel does not take for a #! line
        assert (program.interpreter, program.argv) == ("none", (script,))
    assert program.env == env


def test_executable_text_without_a_shebang_runs_as_every_shell_runs_it(box: Box) -> None:
    script = box.file("serve", "echo served $1\n", 0o755)
    program = box.resolve("serve", args=["it"])
    assert program.argv == ("/bin/sh", script, "it")
    assert subprocess.check_output(program.argv, text=True) == "served it\n"


@pytest.mark.parametrize(
    ("first_line", "runner"),
    [
        ("#!/bin/sh", ["/bin/sh"]),
        ("#!/bin/sh -e -u", ["/bin/sh", "-e -u"]),  # one argument, as the kernel passes it
        ("#!/usr/bin/env python3", ["BIN/python3"]),
        ("#!/usr/bin/env -S python3 -u", ["/usr/bin/env", "-S python3 -u"]),
    ],
)
def test_a_plain_file_runs_through_its_shebang(box: Box, first_line: str, runner: list[str]) -> None:
    box.command("python3")
    script = box.file("serve", first_line + "\n")
    expected = [word.replace("BIN", str(box.bin)) for word in runner]
    assert list(box.resolve("serve", args=["x"]).argv) == [*expected, script, "x"]
    os.chmod(script, 0o755)
    assert list(box.resolve("serve", None, ["-O"]).argv) == [*expected, "-O", script]


@pytest.mark.parametrize("mode", [0o644, 0o755])
@pytest.mark.parametrize(
    ("first_line", "why"),
    [
        ("#!/old/venv/bin/python", "its first line asks for /old/venv/bin/python, which does not exist"),
        ("#!/usr/bin/env ruby", "its first line asks for ruby, which is not on PATH"),
        ("#!/usr/bin/env ruby -w", "its first line asks for ruby -w, which is not on PATH"),  # it lacks -S
        ("#!/usr/bin/env -S ruby -w", "its first line asks for ruby, which is not on PATH"),
        ("#!/usr/bin/env ./ruby", "its first line asks for ./ruby, which does not exist"),
        ("#!/bin/sh\r", "its first line ends with a Windows line end (CR LF)"),
        ("#!/usr/bin/env python3\r", "its first line ends with a Windows line end (CR LF)"),
    ],
)
def test_a_shebang_that_cannot_work(box: Box, first_line: str, why: str, mode: int) -> None:
    box.file("serve", first_line + "\nrest\n", mode)
    assert why in box.refuses("serve").message


def test_the_hint_for_a_bad_shebang_says_how_to_repair_it(box: Box) -> None:
    moved = box.command("uvicorn", "#!/old/venv/bin/python\n")
    windows = box.file("deploy.sh", "#!/bin/sh\r\necho\r\n")
    box.command("bash")
    assert moved in box.refuses("uvicorn").hint
    assert "has to be made again" in box.refuses("uvicorn").hint
    hint = box.refuses("deploy.sh").hint
    subprocess.run(hint, shell=True, check=True)
    assert Path(windows).read_text() == "#!/bin/sh\necho\n"
    assert box.resolve("deploy.sh").argv == (str(box.bin / "bash"), windows)


def test_windows_line_ends_are_no_concern_of_an_interpreter_that_reads_them(box: Box) -> None:
    box.command("python3")
    script = box.file("app.py", "#!/usr/bin/python3\r\nprint()\r\n", 0o755)
    assert box.resolve("app.py").script == script
    assert "CR LF" in box.refuses("app.py", "none").message


# --- targets that cannot be started ---


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("gone.py", "there is no file CWD/gone.py and no such command on PATH"),
        ("./gone", "there is no file CWD/gone"),
        ("app.py/x", "there is no file CWD/app.py/x"),
        ("dir", "CWD/dir is a directory"),
        (".", "CWD is a directory"),
        ("dangling", "CWD/dangling is a link to nowhere, which does not exist"),
        ("loop", "CWD/loop: Too many levels of symbolic links"),
        ("fifo", "CWD/fifo is not a regular file"),
        ("/dev/null", "/dev/null is not a regular file"),
        ("data", "CWD/data is not executable, and nothing says which interpreter it needs"),
        ("x" * 300, f"CWD/{'x' * 300}: File name too long"),
    ],
)
def test_a_target_that_is_not_a_program(box: Box, target: str, why: str) -> None:
    box.file("app.py")
    box.file("data")
    (box.cwd / "dir").mkdir()
    (box.cwd / "dangling").symlink_to("nowhere")
    (box.cwd / "loop").symlink_to("loop")
    os.mkfifo(box.cwd / "fifo")
    assert box.refuses(target).message == f"cannot start {target}: {why.replace('CWD', str(box.cwd))}"


def test_a_name_that_would_garble_the_terminal_is_quoted(box: Box) -> None:
    assert box.refuses("\x1b[2Japp").message.startswith(r"cannot start '\x1b[2Japp': there is no file '")


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("ap.py", "did you mean app.py?"),
        ("app", "did you mean app.py?"),
        ("src/servre.js", "did you mean src/server.js?"),
        ("./src/servre.js", "did you mean ./src/server.js?"),
        ("ap.py --port 3", "did you mean app.py?"),
        ("unlike", "check the spelling and the directory, or give the full path"),
        ("no/such/dir.py", "check the spelling and the directory, or give the full path"),
        ("src", "name the program in it: pmx start src/app.py"),
        ("data", "chmod +x CWD/data, or name one with --interpreter"),
    ],
)
def test_the_hint_helps(box: Box, target: str, hint: str) -> None:
    for file in ("app.py", "src/server.js", "data"):
        box.file(file)
    (box.cwd / "ap.pyx").mkdir()  # a directory is never what was meant
    assert box.refuses(target).hint == hint.replace("CWD", str(box.cwd))


def test_a_command_of_the_virtual_environment_is_pointed_out(box: Box) -> None:
    box.venv(".venv")
    uvicorn = box.file(".venv/bin/uvicorn", NATIVE, 0o755)
    assert box.refuses("uvicorn app:app").hint == f"it is in the virtual environment: pmx start {uvicorn}"


@pytest.mark.parametrize("target", ["", " ", "\n\t", "'' x", '"" x'])
def test_an_empty_target(box: Box, target: str) -> None:
    assert "its name is empty" in box.refuses(target, kind=UsageProblem).message


@pytest.mark.parametrize("bad", ["a\0b", "\ud800"])
def test_what_no_file_name_can_hold(box: Box, bad: str) -> None:
    box.command("sh")
    assert "no file name or argument can hold" in box.refuses(bad, kind=UsageProblem).message
    with pytest.raises(UsageProblem):
        box.resolve("sh", args=[bad])
    with pytest.raises(UsageProblem):
        box.resolve("sh", bad)


@contextmanager
def _not_root() -> Iterator[None]:
    """Root may read everything, so become someone else; the saved user id is the way back."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_files_that_may_not_be_read() -> None:
    with tempfile.TemporaryDirectory() as root:  # not tmp_path: its parents are closed to other users
        os.chmod(root, 0o755)
        box = Box(Path(root))
        box.command("python3")
        binary = box.file("binary", NATIVE, 0o111)
        box.file("app.py", mode=0o200)
        box.file("closed/app.py")
        os.chmod(box.cwd / "closed", 0)
        with _not_root():
            assert box.refuses("app.py").message == f"cannot start app.py: {box.cwd}/app.py is not readable"
            assert box.refuses("closed/app.py").message.endswith("closed/app.py: Permission denied")
            assert box.resolve("binary").argv == (binary,)
        os.chmod(box.cwd / "closed", 0o700)


# --- command lines ---


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("node app.js --port 3", ["app.js", "--port", "3"]),
        ("node --eval '$a | b; c'", ["--eval", "$a | b; c"]),
        ('node "two words" --x=1', ["two words", "--x=1"]),
        ("node a\\ b \\$x", ["a b", "$x"]),
        ("node a#b c~d {a,b} 50% x!", ["a#b", "c~d", "{a,b}", "50%", "x!"]),
        ("  node\tx\n", ["x"]),
    ],
)
def test_a_plain_command_line_needs_no_shell(box: Box, line: str, words: list[str]) -> None:
    node = box.command("node")
    program = box.resolve(line, args=["more", "* $"])
    assert program == Program("node", node, "none", (node, *words, "more", "* $"), {})


def test_the_first_word_of_a_command_line_is_a_target_like_any_other(box: Box) -> None:
    python, pypy = box.command("python3"), box.command("pypy")
    script = box.file("src/app.py")
    program = box.resolve("src/app.py --port 3", args=["-v"])
    assert program == Program("app", script, python, (python, script, "--port", "3", "-v"), UNBUFFERED)
    assert box.resolve("src/app.py --port 3", "pypy", ["-O"]).argv == (pypy, "-O", script, "--port", "3")


def test_a_python_behind_another_command_is_seen(box: Box) -> None:
    box.command("uv")
    assert box.resolve("uv run python app.py").env == UNBUFFERED
    assert box.resolve("uv sync now").env == {}


def test_a_file_with_white_space_is_no_command_line(box: Box) -> None:
    python = box.command("python3")
    script = box.file("my dir/my app.py")
    assert box.resolve("my dir/my app.py").argv == (python, script)
    assert "is a directory" in box.refuses("my dir").message


@pytest.mark.parametrize(
    ("line", "text", "name"),
    [
        ("PORT=3 node app.js", "PORT=3 exec node app.js", "node"),
        ("A='x y' B=\"$HOME z\" ./run it", "A='x y' B=\"$HOME z\" exec ./run it", "run"),
        ("node app.js > out.log 2>&1", "exec node app.js > out.log 2>&1", "node"),
        ("A=1\u00a02 node app.js", "A=1\u00a02 exec node app.js", "node"),  # a shell does not split there
        ("node *.js", "exec node *.js", "node"),
        ('node "$HOME/app.js"', 'exec node "$HOME/app.js"', "node"),
        ('node "\\$HOME"', 'exec node "\\$HOME"', "node"),  # the shell drops this backslash, shlex would not
        ("node ~/app.js", "exec node ~/app.js", "node"),
        ("node ${A} x", "exec node ${A} x", "node"),
        ("$APP --port 3", "exec $APP --port 3", "sh"),
        ("> out.log node app.js", "exec > out.log node app.js", "sh"),
    ],
)
def test_a_simple_shell_command_replaces_its_shell(box: Box, line: str, text: str, name: str) -> None:
    assert box.resolve(line) == Program(name, line, "/bin/sh", ("/bin/sh", "-c", text), {})


@pytest.mark.parametrize(
    "line",
    [
        "cd app && node app.js",
        "node a.js | tee log",
        "node a.js; node b.js",
        "node a.js & wait",
        "node a.js 2>&1 & wait",
        "node a.js\nnode b.js",
        "node a.js \\\n --port 3",
        'node "a \\\n b"',
        "( node a.js )",
        "{ node a.js",
        "! node a.js",
        "node a.js # on port 3",
        "A=$(cat a b) node a.js",
        "A=`cat a b` node a.js",
        "A=${B:-x y} node a.js",
        "A=1 B=2",
        "exec node *.js",
        "cd $HOME",
        ". ./env.sh $A",
    ],
)
def test_anything_more_is_left_to_the_shell(box: Box, line: str) -> None:
    program = box.resolve(line)
    assert program.argv[:2] == ("/bin/sh", "-c")
    assert program.argv[2] in (line, "A=1 exec B=2")
    assert program.script == line


def test_python_in_a_shell_command_is_seen(box: Box) -> None:
    assert box.resolve("cd app && python3 app.py").env == UNBUFFERED


def test_arguments_reach_the_program_of_a_simple_shell_command(box: Box) -> None:
    box.environ["PATH"] = os.environ["PATH"]
    program = box.resolve("GREETING='good  day' printenv $NOTHING", args=["GREETING"])
    assert subprocess.check_output(program.argv, text=True) == "good  day\n"
    program = box.resolve("A=1 printf '%s|'", args=["$A", "two words", "*", "'", ""])
    assert subprocess.check_output(program.argv, text=True) == "$A|two words|*|'||"


def test_arguments_reach_a_longer_shell_command_only_where_it_wants_them(box: Box) -> None:
    program = box.resolve('true && printf "%s|" "$@"', args=["a b", "c"])
    assert subprocess.check_output(program.argv, text=True) == "a b|c|"
    with pytest.raises(UsageProblem, match="not clear which of its commands"):
        box.resolve("true && printf x", args=["a"])


def test_a_simple_shell_command_is_the_process_itself() -> None:
    program = resolve('A=1 sh -c "echo \\$\\$"', cwd="/", environ=os.environ)
    with subprocess.Popen(program.argv, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert int(child.stdout.read()) == child.pid


def test_a_shell_command_takes_no_interpreter(box: Box) -> None:
    for interpreter, arguments in (("node", []), (None, ["-O"]), ("none", [])):
        with pytest.raises(UsageProblem, match="a shell command line takes no interpreter"):
            box.resolve("A=1 app.js", interpreter, arguments)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("node 'app.js", "a quote is not closed"),
        ('node "app.js', "a quote is not closed"),
        ("node it's | b", "a quote is not closed"),
        ("node app.js \\", "it ends with a backslash"),
    ],
)
def test_broken_quoting(box: Box, line: str, why: str) -> None:
    assert box.refuses(line, kind=UsageProblem).message == f"cannot start {line}: {why}"


# --- laws ---

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@settings(deadline=None)  # they look at files and start shells: a busy machine is no failure
@given(args=st.lists(WORDS), target=st.sampled_from(["sh", "sh -c x", "A=1 sh", "/bin/sh", "A=1 sh > x"]))
def test_arguments_are_the_unchanged_tail_of_argv(args: list[str], target: str) -> None:
    argv = resolve(target, cwd="/", environ=os.environ, args=args).argv
    assert list(argv[len(argv) - len(args) :]) == args
    assert os.path.isabs(argv[0])


@settings(deadline=None)
@given(words=st.lists(WORDS, min_size=1))
def test_a_quoted_command_line_is_split_back_into_its_words(words: list[str]) -> None:
    program = resolve(shlex.join(["/bin/sh", *words]), cwd="/", environ=os.environ)
    assert program.argv == ("/bin/sh", *words)


SHELLISH = st.text(st.sampled_from("""ab ./~'"\\$`|&;<>(){}[]*?#=!%\n\r\t-sh"""), max_size=30)


@settings(deadline=None)
@given(target=st.text() | SHELLISH | SHELLISH.map("sh ".__add__), interpreter=st.none() | st.text())
def test_every_target_is_a_program_or_a_problem_with_a_hint(target: str, interpreter: str | None) -> None:
    try:
        program = resolve(target, cwd="/", environ=os.environ, interpreter=interpreter)
    except PmxError as problem:
        assert problem.message.startswith("cannot start ")
        assert problem.hint
    else:
        assert program.name
        assert os.path.isabs(program.argv[0])


@settings(deadline=None)
@given(args=st.lists(WORDS.filter(bool), max_size=3), line=SHELLISH)
def test_exec_is_added_only_where_the_shell_still_understands_the_line(args: list[str], line: str) -> None:
    try:
        argv = resolve(f"A=1 {line}", cwd="/", environ=os.environ, args=args).argv
    except PmxError:
        return
    before, after = (_syntax_status(text) for text in (f"A=1 {line}".strip(), argv[2]))
    assert after == 0 or before != 0


def _syntax_status(text: str) -> int:
    return subprocess.run(["/bin/sh", "-n", "-c", text], stderr=subprocess.DEVNULL).returncode


def test_the_module_is_light() -> None:
    heavy = "{'subprocess', 'dataclasses', 'pathlib', 'shutil', 'shlex', 'difflib', 'pydantic', 'yaml'}"
    code = f"import sys; import pmx.config.program; print(*{heavy} & set(sys.modules))"
    environ = {"PYTHONPATH": os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))}
    assert subprocess.check_output([sys.executable, "-S", "-c", code], env=environ, text=True) == "\n"
