"""From files to specs; and every problem of a file with its place."""

import json
import os
import re
from pathlib import Path

import pytest

from pmx.config.load import Entry, load, shape, validate
from pmx.config.model import FIELDS, App
from pmx.config.yamlfile import parse
from pmx.core.spec import AppSpec, Command, LogPolicy, NodePolicy, RestartPolicy, SharePolicy, StopPolicy
from pmx.errors import PmxError, ProgramProblem, UsageProblem

EXAMPLE = Path(__file__).parents[3] / "ecosystem.example.yaml"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with a program, also in a directory below, and an interpreter."""
    for name in ("app", "sub/app", "bin/runner"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"\x7fELF\0")
        file.chmod(0o755)
    return tmp_path


def write(project: Path, text: str, name: str = "eco.yaml") -> str:
    (project / name).write_text(text)
    return str(project / name)


def specs(project: Path, text: str, **environ: str) -> list[AppSpec]:
    return load(write(project, text), {"PATH": str(project / "bin"), **environ})


def refusal(project: Path, text: str, kind: type[PmxError] = UsageProblem) -> list[str]:
    """The problems, as LINE:COLUMN: text."""
    file = write(project, text)
    with pytest.raises(PmxError) as caught:
        load(file, {"PATH": str(project / "bin")})
    assert type(caught.value) is kind
    assert caught.value.hint == "nothing was started"
    message = caught.value.message.removeprefix(f"cannot use {file}: ")
    lines = message.splitlines()
    if len(lines) > 1:
        assert lines.pop(0) == f"{len(lines)} problems"
    assert all(line.strip().startswith(f"{file}:") for line in lines), message
    return [line.strip().removeprefix(f"{file}:") for line in lines]


# --- the forms of a file ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "apps:\n  - script: app\n",
        "- script: app\n",
        "script: app\n",
        "exec: app\n",
        '{"apps": [{"script": "app"}]}',
        json.dumps({"apps": [{"cmd": "app"}]}, indent="\t"),
    ],
)
def test_the_forms_mean_the_same(project: Path, text: str) -> None:
    (spec,) = specs(project, text)
    assert (spec.name, spec.command.argv, spec.command.cwd) == ("app", (str(project / "app"),), str(project))


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["1:1: there are no programs in it"]),
        ("hello", ["1:1: there are no programs in it"]),
        ("[]", ["1:1: there are no programs in it: the list is empty"]),
        ("{}", ["1:1: there are no programs in it"]),
        ("apps: []", ["1:7: there are no programs in it: the list is empty"]),
        ("apps: {script: app}", ["1:7: apps must be a list"]),
        ("appz: [{script: app}]", ["1:1: there is no key 'appz'; did you mean 'apps'?"]),
        ("apps: [{script: app}]\ndeploy: {}", ["2:1: there is no key 'deploy'"]),
        ("apps: [3, {script: app}]", ["1:8: a program is described by keys and values"]),
        ("apps: [{script: app}, script]", ["1:23: a program is described by keys and values"]),
    ],
)
def test_other_forms_are_refused(project: Path, text: str, problems: list[str]) -> None:
    found = refusal(project, text)
    assert len(found) == len(problems)
    for line, expected in zip(found, problems, strict=True):
        assert line.startswith(expected)


# --- what is wrong with it ----------------------------------------------------------------------------------


def test_all_problems_come_at_once_each_with_its_place(project: Path) -> None:
    found = refusal(
        project,
        """\
apps:
  - name: one
    script: app
    max_restrts: 3
    kill_timeout: soon
    env: {A: null, "B=": x, C: []}
  - scrpt: app
  - script: missing
  - script: app
    exec: app
    Watch: true
  - script: app
    cwd: nowhere
  - script: app
    args: [1, null]
""",
    )
    assert found == [
        "4:5: there is no key 'max_restrts'; did you mean 'max_restarts'?",
        "5:19: kill_timeout: cannot read the duration 'soon': it is neither milliseconds nor a number with a unit; "
        "write for example 1500, 500ms, 10s or 1h30m",
        '6:14: env.A: null is no value: write "" for an empty text, or leave it out',
        "6:20: env: 'B=' cannot be the name of a variable",
        "6:32: env.C: it must be a text or a number",
        "7:5: there is no key 'scrpt'; did you mean 'script'?",
        f"8:13: cannot start missing: there is no file {project}/missing and no such command on PATH; "
        "check the spelling and the directory, or give the full path",
        "10:5: exec and script mean the same: write one of them",
        "11:5: there is no key 'Watch'",
        f"13:10: cannot start a program in {project}/nowhere: there is no such directory",
        '15:15: args[1]: null is no value: write "" for an empty text, or leave it out',
    ]


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("autorestart: no", "2:14: autorestart must be true or false"),
        ("max_restarts: few", "2:15: max_restarts must be a whole number"),
        ("max_restarts: -2", "2:15: max_restarts must be -1 or more"),
        ("name: 12", "2:7: name must be text, in quotes if it looks like something else"),
        ("args: 3", "2:7: args must be a list or a text"),
        ("env: [A=1]", "2:6: env must be a mapping of names to values"),
        ("exec_mode: spoon", "2:12: exec_mode: there is no mode 'spoon'"),
        ("share: maybe", "2:8: share must be true or false"),
        ("port: 65536", "2:7: port: cannot use the port 65536: it must be from 1 to 65535"),
        ("port: http", "2:7: port must be a whole number"),
        ("listen: tcp://127.0.0.1", "2:9: listen[0]: cannot listen on 'tcp://127.0.0.1': it is no address with a port"),
        ("listen: [80, 'unix:']", "2:14: listen[1]: cannot listen on 'unix:': it names no file"),
        ("listen: [{name: a b, url: 'x'}]", "2:9: listen: cannot give a socket the name 'a b'"),
        ("listen: [{nam: a, url: 'x'}]", "2:9: listen: a socket is a url, or has the keys url and name"),
        ("balance: fair", "2:10: balance: cannot balance by 'fair': there is no such way"),
        ("weights: [0, 0]", "2:10: weights: cannot use the weights '0,0'"),
        ("increment_var: PORT", "1:9: cannot count PORT up: it is not in the environment"),
        ("node_cluster: true", "1:9: cannot start app with node-cluster: it is for programs that node or bun runs"),
        ("args: '{fd.web}'", "1:9: cannot put a descriptor for {fd.web}: no socket of that name is declared"),
        ("Name: x", "2:1: there is no key 'Name'; did you mean 'name'?"),
        ("min-uptime: 3", "2:1: there is no key 'min-uptime'; did you mean 'min_uptime'?"),
        ("outfile: x", "2:1: there is no key 'outfile'; did you mean 'out_file'?"),
        ("uid: no-such-user", "2:6: cannot run a program as "),
        ("gid: no-such-group", "2:6: cannot run a program "),
    ],
)
def test_a_problem_is_told_in_words(project: Path, key: str, problem: str) -> None:
    (found,) = refusal(project, f"script: app\n{key}\n")
    assert found.startswith(problem)


def test_without_a_script_there_is_nothing_to_run(project: Path) -> None:
    assert refusal(project, "apps:\n- name: x\n") == ["2:3: script is missing: what is to run?"]


def test_when_only_programs_are_missing_it_is_a_problem_of_programs(project: Path) -> None:
    assert len(refusal(project, "- script: one\n- script: two\n", ProgramProblem)) == 2


def test_two_programs_of_one_name_are_refused(project: Path) -> None:
    text = "- script: app\n- script: app\n  cwd: sub\n- script: app\n  name: app\n"
    assert refusal(project, text) == [
        "2:3: a second program called 'app': the first is in line 1",
        "5:9: a second program called 'app': the first is in line 1",
    ]


def test_a_file_that_is_no_yaml(project: Path) -> None:
    (found,) = refusal(project, "apps:\n  - script: 'app\n")
    assert found.startswith("3:1: this is not YAML: found unexpected end of stream")


# --- what it comes to ---------------------------------------------------------------------------------------


def test_every_key_reaches_the_spec(project: Path) -> None:
    text = """\
script: app
name: web
namespace: shop
cwd: sub
args: [--port, 8000, 1.10]
interpreter: runner
interpreter_args: -a 'b c'
instances: 3
exec_mode: fork
env: {VERSION: 1.10, MODE: 0755, ON: true, TEXT: "1", HOME: mine, METRICS: 9100}
autorestart: false
max_restarts: 4
min_uptime: 2000
restart_delay: 1s
stop_exit_codes: [0, 3]
kill_timeout: 5s
treekill: false
stop_signal: usr1
share: on
port: 8000
listen: [tcp://localhost:8001, {name: web, url: unix:web.sock}]
balance: least-conn
weights: [3, 1]
instance_var: NUMBER
increment_var: METRICS
out_file: out.log
error_file: "NULL"
"""
    (spec,) = specs(project, text, HOME="theirs", OTHER="kept")
    umask = os.umask(0o022)
    os.umask(umask)
    environ = {"PATH": str(project / "bin"), "HOME": "mine", "OTHER": "kept"}
    assert spec == AppSpec(
        name="web",
        namespace="shop",
        instances=3,
        command=Command(
            argv=(str(project / "bin/runner"), "-a", "b c", str(project / "sub/app"), "--port", "8000", "1.10"),
            cwd=str(project / "sub"),
            env={**environ, "VERSION": "1.10", "MODE": "0755", "ON": "true", "TEXT": "1", "METRICS": "9100"},
            script=str(project / "sub/app"),
            interpreter=str(project / "bin/runner"),
            umask=umask,
        ),
        restart=RestartPolicy(
            autorestart=False, max_restarts=4, min_uptime=2.0, restart_delay=1.0, stop_exit_codes=(0, 3)
        ),
        stop=StopPolicy(signal="SIGUSR1", kill_timeout=5.0, treekill=False),
        logs=LogPolicy(str(project / "sub/out.log"), "/dev/null"),
        sharing=SharePolicy(
            share=True,
            balance="least_conn",
            weights=(3, 1),
            port=8000,
            listen=(("tcp-8001", "tcp://127.0.0.1:8001"), ("web", f"unix://{project}/sub/web.sock")),
        ),
        instance_var="NUMBER",
        increment_var="METRICS",
    )


def test_the_keys_of_node_reach_the_spec(project: Path) -> None:
    (project / "bin/node").symlink_to(project / "app")
    (project / "web.js").touch()
    (spec,) = specs(project, "script: web.js\nexec_mode: cluster\nshutdown_with_message: true\n")
    assert (spec.node, spec.sharing.share) == (NodePolicy(channel=True, cluster=True), True)
    assert spec.stop.shutdown_with_message


@pytest.mark.parametrize(
    ("keys", "share"),
    [
        ("", False), ("instances: 1", True), ("port: 80", True), ("listen: :80", True), ("exec_mode: fork", False),
        ("exec_mode: cluster", True), ("share: on", True), ("share: true", True), ("share: 'on'", True),
        ("instances: 4\nshare: off", False), ("instances: 4\nshare: false", False), ("port: 80\nexec_mode: fork", True),
    ],
)  # fmt: skip
def test_ports_are_shared_when_there_is_a_reason(project: Path, keys: str, share: bool) -> None:
    (spec,) = specs(project, f"script: app\n{keys}\n")
    assert spec.sharing.share is share


def test_paths_begin_at_the_file_and_not_where_somebody_stands(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, "script: ./app\ncwd: .\n", "sub/eco.yaml")
    monkeypatch.chdir(project)
    (spec,) = load("sub/eco.yaml", {"PATH": ""})
    assert (spec.command.cwd, spec.command.script) == (str(project / "sub"), str(project / "sub/app"))


def test_the_steps_by_themselves() -> None:
    document = parse("apps:\n- script: a\n- script: b\n", "f")
    entries, defects = shape(document)
    assert not defects
    assert entries == [Entry(("apps", 0), {"script": "a"}), Entry(("apps", 1), {"script": "b"})]
    app = validate(entries[1], document)
    assert isinstance(app, App)
    assert app.script == "b"


# --- the example --------------------------------------------------------------------------------------------


def test_the_example_can_be_loaded() -> None:
    hello, worker = load(str(EXAMPLE), os.environ)
    assert (hello.name, hello.namespace, hello.instances) == ("hello", "web", 2)
    assert hello.command.env["GREETING"] == "hello"
    assert (hello.sharing.port, hello.sharing.weights, hello.increment_var) == (8000, (3, 1), "METRICS_PORT")
    assert worker.restart.min_uptime == 2.0
    assert not worker.sharing.share


def test_the_example_has_every_key_once() -> None:
    lines = EXAMPLE.read_text().splitlines()
    commented = re.compile(r"    # ((uid|gid|node_cluster|shutdown_with_message|listen):|  )")
    text = "\n".join(f"    {line[6:]}" if commented.match(line) else line for line in lines)
    document = parse(text, "f")
    apps = document.data["apps"]
    assert len(apps[0]["listen"]) == 2
    keys = [key for app in apps for key in app]
    assert set(keys) == set(App.model_fields)
    assert {key for key in keys if keys.count(key) > 1} <= {"script", "name", "cwd"}
    assert all(isinstance(validate(entry, document), App) for entry in shape(document)[0])


def test_the_example_names_every_other_name() -> None:
    words = set(re.findall(r"\w+", EXAMPLE.read_text()))
    assert {name for name in FIELDS if name == name.lower()} <= words
