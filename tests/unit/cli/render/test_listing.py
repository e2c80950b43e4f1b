import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pmx.cli.render.listing import describe, listing
from pmx.cli.render.table import Style, display_width

FORBIDDEN = {"dataclasses", "rich", "typer", "textwrap", "shutil", "json", "inspect", "asyncio"}
AT = 1760000000.0


def record(**changes: Any) -> dict[str, Any]:
    return {
        "id": 0,
        "name": "web",
        "namespace": "default",
        "instance": 0,
        "mode": "fork",
        "status": "online",
        "wanted": "up",
        "pid": 4123,
        "uptime": 184.0,
        "restarts": 2,
        "cpu": 12.34,
        "memory": 52428800,
        "user": "deploy",
        "retry_in": None,
        "cause": "pmx start",
        **changes,
    }


def down(**changes: Any) -> dict[str, Any]:
    return record(**{"status": "stopped", "pid": None, "uptime": None, "cpu": None, "memory": None, **changes})


def details(**changes: Any) -> dict[str, Any]:
    return record(
        **{
            "script": "/srv/app.py",
            "argv": ["/usr/bin/python3", "/srv/app.py", "--say", "it's me"],
            "interpreter": "/usr/bin/python3",
            "cwd": "/srv",
            "out_file": "/home/me/.pmx/logs/web-out.log",
            "error_file": "/home/me/.pmx/logs/web-error.log",
            "created_at": AT,
            "exit": "exit code 1",
            "policy": {"autorestart": True, "max_restarts": 16, "kill_timeout": 10.0, "stop_exit_codes": [0, 3]},
            "env_count": 23,
            "history": [{"at": AT, "from": "starting", "to": "online", "cause": "it runs"}],
            **changes,
        }
    )


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def rows(*records: dict[str, Any], width: int = 200) -> list[list[str]]:
    lines = listing(records, width=width, style="mono").splitlines()
    return [cells(line) for line in (lines[1], *lines[3:-1])]


def test_columns_are_in_the_order_of_pm2() -> None:
    header, row = rows(record())
    assert header == ["id", "name", "namespace", "mode", "pid", "uptime", "↺", "status", "cpu", "mem", "user"]
    assert row == ["0", "web", "default", "fork", "4123", "3m 4s", "2", "online", "12.3%", "50.0mb", "deploy"]


def test_plain_has_one_word_in_each_column() -> None:
    waiting = down(id=1, status="backoff", retry_in=1.5)
    header, *lines = listing([record(), waiting], width=0, style="plain").splitlines()
    assert " ".join(header.split()) == "id name namespace mode pid uptime restarts status cpu mem user"
    assert " ".join(lines[0].split()) == "0 web default fork 4123 3m4s 2 online 12.3% 50.0mb deploy"
    assert " ".join(lines[1].split()) == "1 web default fork - - 2 backoff - - deploy"


def test_what_does_not_run_has_no_numbers() -> None:
    assert rows(down())[1][4:10] == ["-", "-", "2", "stopped", "-", "-"]


def test_records_are_sorted_by_name_and_then_by_id() -> None:
    ids = [row[0] for row in rows(record(id=10), record(id=9), record(id=11, name="api"))[1:]]
    assert ids == ["11", "9", "10"]


@pytest.mark.parametrize(
    ("retry_in", "shown"), [(None, "backoff"), (1.52, "backoff 1.5s"), (-0.2, "backoff 0.0s"), (75.0, "backoff 1m 15s")]
)
def test_backoff_says_how_long_it_will_take(retry_in: float | None, shown: str) -> None:
    assert rows(down(status="backoff", retry_in=retry_in))[1][7] == shown


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("online", "32"),
        ("starting", "33"),
        ("stopping", "33"),
        ("killing", "33"),
        ("cleaning", "33"),
        ("backoff", "33"),
        ("errored", "31"),
        ("stopped", "2"),
        ("completed", "2"),
    ],
)
def test_the_colour_of_a_status(status: str, code: str) -> None:
    assert f"\x1b[{code}m{status}\x1b[0m" in listing([record(status=status)], width=200, style="boxed")


def test_a_status_from_a_newer_daemon_has_no_colour() -> None:
    assert " hovering " in listing([record(status="hovering")], width=200, style="boxed")


def test_an_almost_empty_record_is_still_a_row() -> None:
    assert rows({"id": 3, "name": "web"})[1] == ["3", "web", *["-"] * 9]


@pytest.mark.parametrize("style", ["boxed", "mono"])
def test_no_programs_on_a_terminal_is_a_friendly_line(style: Style) -> None:
    assert listing([], width=80, style=style) == "no programs yet: try  pmx start app.py"


def test_no_programs_in_a_pipe_is_the_header() -> None:
    assert listing([], width=0, style="plain").split()[:3] == ["id", "name", "namespace"]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100])
def test_narrow_terminals_keep_what_matters(width: int) -> None:
    lines = listing([record(name="a" * 50), down(id=1)], width=width, style="mono").splitlines()
    assert all(display_width(line) <= width for line in lines)
    assert "name" in cells(lines[1])
    assert width < 40 or "status" in cells(lines[1])


# --- listeners ----------------------------------------------------------------------------------------------

SERVING: dict[str, Any] = {
    "mode": "cluster",
    "ports": [":8000", "unix:/run/web"],
    "connections": 12,
    "share_of_connections": 48.4,
    "queue": 3,
}


def test_ports_connections_and_queues_come_after_the_mode() -> None:
    header, row, worker = rows(record(**SERVING), record(id=1, name="worker"))
    assert header[:8] == ["id", "name", "namespace", "mode", "port", "conns", "queue", "pid"]
    assert row[3:8] == ["cluster", ":8000, unix:/run/web", "12 48%", "3", "4123"]
    assert worker[3:8] == ["fork", "-", "-", "-", "4123"]


def test_behind_a_pipe_they_are_one_word_each() -> None:
    header, line = listing([record(**SERVING)], width=0, style="plain").splitlines()
    found = dict(zip(header.split(), line.split(), strict=True))
    assert (found["port"], found["conns"], found["queue"]) == (":8000,unix:/run/web", "12/48%", "3")


@pytest.mark.parametrize(
    ("key", "value", "columns"),
    [
        ("ports", [":80"], ["port"]),
        ("ports", [], []),
        ("ports", None, []),
        ("connections", 0, ["conns"]),
        ("connections", None, []),
        ("share_of_connections", 50.0, []),
        ("queue", 0, ["queue"]),
        ("queue", None, []),
    ],
)
def test_a_column_of_listeners_is_there_when_it_says_something(key: str, value: Any, columns: list[str]) -> None:
    header = rows(record(), record(**{key: value}))[0]
    assert [name for name in header if name in ("port", "conns", "queue")] == columns


@pytest.mark.parametrize(
    ("connections", "share", "shown"), [(0, 0.0, "0 0%"), (7, None, "7"), (7, 99.6, "7 100%"), (None, 50.0, "-")]
)
def test_connections_and_their_share(connections: int | None, share: float | None, shown: str) -> None:
    given = record(ports=[":80"], connections=connections, share_of_connections=share)
    assert rows(given, record(id=1, connections=1))[1][5] == shown


ALL = [
    "id",
    "name",
    "namespace",
    "mode",
    "port",
    "conns",
    "queue",
    "pid",
    "uptime",
    "↺",
    "status",
    "cpu",
    "mem",
    "user",
]


def test_the_port_outlasts_the_memory_and_the_rest_does_not() -> None:
    serving = record(**{**SERVING, "ports": [":8000"]})
    dropped: list[str] = []
    for width in range(200, 20, -1):
        header = cells(listing([serving], width=width, style="mono").splitlines()[1])
        dropped += [name for name in ALL if name not in (*header, *dropped)]
    assert dropped[:3] == ["queue", "mode", "user"]
    assert dropped.index("user") < dropped.index("conns") < dropped.index("cpu")
    assert dropped.index("mem") < dropped.index("pid") < dropped.index("port")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100])
def test_listeners_do_not_widen_the_list(width: int) -> None:
    serving = record(**{**SERVING, "ports": [f"127.0.0.1:{port}" for port in range(8000, 8040)]})
    lines = listing([serving], width=width, style="mono").splitlines()
    assert all(display_width(line) <= width for line in lines)


def sheet(**changes: Any) -> dict[str, str]:
    text = describe(details(**changes), width=0, style="plain").split("\n\n")[0]
    pairs = [line.partition("  ") for line in text.splitlines()[1:]]
    return {key: value.strip() for key, _, value in pairs}


def test_describe_names_the_process_first() -> None:
    assert describe(details(), width=100, style="plain").startswith("web (id 0)\n")


def test_describe_keeps_the_keys_of_pm2() -> None:
    shown = sheet()
    assert shown["status"] == "online"
    assert shown["script path"] == "/srv/app.py"
    assert shown["exec cwd"] == "/srv"
    assert shown["out log path"] == "/home/me/.pmx/logs/web-out.log"
    assert shown["error log path"] == "/home/me/.pmx/logs/web-error.log"
    assert shown["exec mode"] == "fork"
    assert shown["created at"] == time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(AT))


def test_describe_quotes_the_command_as_a_shell_would_read_it() -> None:
    assert sheet()["command"] == """/usr/bin/python3 /srv/app.py --say 'it'"'"'s me'"""
    assert sheet(argv=["run", ""])["command"] == "run ''"


@pytest.mark.parametrize(("count", "shown"), [(0, "0 variables"), (1, "1 variable"), (23, "23 variables"), (None, "-")])
def test_describe_only_counts_the_environment(count: int | None, shown: str) -> None:
    assert sheet(env_count=count)["environment"] == shown


def test_describe_shows_the_policy_in_units() -> None:
    shown = sheet()
    assert shown["autorestart"] == "yes"
    assert shown["max_restarts"] == "16"
    assert shown["kill_timeout"] == "10s"
    assert shown["stop_exit_codes"] == "0, 3"
    assert sheet(policy={"treekill": False, "stop_exit_codes": []})["stop_exit_codes"] == "-"


def test_describe_ends_with_the_recent_changes() -> None:
    lines = describe(details(), width=100, style="plain").splitlines()
    assert lines[-3] == "recent changes"
    assert lines[-2].split() == ["at", "from", "to", "cause"]
    assert lines[-1].split()[2:] == ["starting", "online", "it", "runs"]
    assert "recent changes" not in describe(details(history=[]), width=100, style="plain")


def test_describe_of_an_almost_empty_record_is_no_error() -> None:
    assert describe({"id": 3, "name": "web"}, width=80, style="boxed")


def test_describe_tells_of_listeners() -> None:
    shown = sheet(
        ports=[":8000", ":8001"],
        balance="least_conn",
        unshared="it filters system calls itself",
        ready={"by": "listen 0.0.0.0:8000", "after": 0.2312},
        status_text="warming up",
    )
    assert shown["ports"] == ":8000, :8001"
    assert shown["balance"] == "least_conn"
    assert shown["shares its port"] == "no: it filters system calls itself"
    assert shown["ready"] == "after 231 ms (listen 0.0.0.0:8000)"
    assert shown["says of itself"] == "warming up"


@pytest.mark.parametrize(("after", "shown"), [(0.0, "0 ms"), (9.9, "9900 ms"), (12.4, "12s"), (None, "-")])
def test_describe_tells_how_long_it_took(after: float | None, shown: str) -> None:
    assert sheet(ready={"by": "READY=1", "after": after})["ready"] == f"after {shown} (READY=1)"


def test_describe_is_silent_about_listeners_that_nobody_has() -> None:
    plain = sheet()
    assert plain.keys().isdisjoint({"ports", "balance", "shares its port", "ready", "says of itself"})
    assert plain == sheet(ports=[], balance=None, unshared="", ready=None, status_text="", slots=[])


def test_describe_has_a_table_of_listeners_before_the_changes() -> None:
    slots = [
        {"slot": 0, "url": "tcp://0.0.0.0:8000", "id": 3, "weight": 2, "connections": 7, "queue": 1, "backlog": 511},
        {
            "slot": 1,
            "url": "tcp://0.0.0.0:8000",
            "id": None,
            "weight": 1,
            "connections": None,
            "queue": 0,
            "backlog": 511,
        },
    ]
    parts = describe(details(slots=slots), width=0, style="plain").split("\n\n")
    assert [part.splitlines()[0] for part in parts[1:]] == ["listeners", "recent changes"]
    _, header, *lines = parts[1].splitlines()
    assert header.split() == ["slot", "url", "id", "weight", "connections", "queue", "backlog"]
    assert [line.split() for line in lines] == [
        ["0", "tcp://0.0.0.0:8000", "3", "2", "7", "1", "511"],
        ["1", "tcp://0.0.0.0:8000", "-", "1", "-", "0", "511"],
    ]
    assert describe(details(slots=slots, history=[]), width=0, style="plain").split("\n\n")[-1] == parts[1]


@pytest.mark.parametrize("width", [20, 60, 100])
def test_describe_is_never_wider_than_the_terminal(width: int) -> None:
    slots = [{"slot": 0, "url": f"unix:///run/{'x' * 80}", "id": 3, "weight": 1, "connections": 7, "queue": 0}]
    told = {"slots": slots, "ports": [":8000"] * 30, "status_text": "y" * 200, "unshared": "because " * 20}
    lines = describe(details(**told), width=width, style="mono").splitlines()
    assert all(display_width(line) <= width for line in lines)


def test_the_renderers_import_next_to_nothing() -> None:
    """`pmx ls` waits for each of these imports."""
    root = Path(__file__).parents[4]
    code = "import sys; sys.path.insert(0, sys.argv[1]); import pmx.cli.render.listing; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code, str(root)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert FORBIDDEN.isdisjoint(loaded)
    ours = {name for name in loaded if name.startswith("pmx.")}
    renderers = {"pmx.cli", "pmx.cli.render", "pmx.cli.render.listing", "pmx.cli.render.table"}
    assert ours == renderers | {"pmx.errors", "pmx.units"}
