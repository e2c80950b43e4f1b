import json
from typing import Any

import pytest

from pmx.cli.render.pm2 import jlist

FULL: dict[str, Any] = {
    "id": 3,
    "name": "web",
    "namespace": "shop",
    "instance": 1,
    "mode": "fork",
    "status": "online",
    "wanted": "up",
    "pid": 4123,
    "uptime": 184.0,
    "started_at": 1760000100.25,
    "created_at": 1760000000.5,
    "restarts": 2,
    "cpu": 12.3,
    "memory": 52428800,
    "user": "deploy",
    "script": "/srv/app.js",
    "argv": ["/usr/bin/node", "--inspect", "/srv/app.js", "--port", "80"],
    "interpreter": "/usr/bin/node",
    "cwd": "/srv",
    "out_file": "/logs/web-out.log",
    "error_file": "/logs/web-error.log",
    "exit": "exited with code 7",
    "exit_code": 7,
    "env_count": 12,
    "policy": {
        "autorestart": True,
        "max_restarts": 16,
        "min_uptime": 1.0,
        "restart_delay": 0.5,
        "kill_timeout": 10.0,
        "stop_exit_codes": [0, 3],
        "treekill": False,
    },
}


def one(**changes: Any) -> dict[str, Any]:
    (process,) = json.loads(jlist([{**FULL, **changes}]))
    assert isinstance(process, dict)
    return process


def test_an_empty_list_is_an_empty_array() -> None:
    assert jlist([]) == "[]"


def test_the_line_is_compact_and_greppable() -> None:
    line = jlist([FULL])
    assert line.startswith('[{"pid":4123,"name":"web","pm2_env":{"name":"web","namespace":"shop","status":"online",')
    assert len(line.splitlines()) == 1


def test_the_outer_fields() -> None:
    process = one()
    assert list(process) == ["pid", "name", "pm2_env", "pm_id", "monit"]
    assert process["pm_id"] == 3
    assert process["monit"] == {"memory": 52428800, "cpu": 12.3}


def test_the_fields_of_pm2_env() -> None:
    env = one()["pm2_env"]
    assert env.pop("unique_id")
    assert env == {
        "name": "web",
        "namespace": "shop",
        "status": "online",
        "pm_id": 3,
        "pm_uptime": 1760000100250,
        "created_at": 1760000000500,
        "restart_time": 2,
        "unstable_restarts": 0,
        "exit_code": 7,
        "username": "deploy",
        "pmx_status": "online",
        "pm_exec_path": "/srv/app.js",
        "pm_cwd": "/srv",
        "pm_out_log_path": "/logs/web-out.log",
        "pm_err_log_path": "/logs/web-error.log",
        "exec_mode": "fork_mode",
        "exec_interpreter": "/usr/bin/node",
        "node_args": ["--inspect"],
        "args": ["--port", "80"],
        "instances": 1,
        "NODE_APP_INSTANCE": 1,
        "autorestart": True,
        "max_restarts": 16,
        "min_uptime": 1000,
        "restart_delay": 500,
        "kill_timeout": 10000,
        "stop_exit_codes": [0, 3],
        "treekill": False,
        "merge_logs": False,
        "watch": False,
        "version": "N/A",
        "node_version": "N/A",
        "env": {},
        "axm_actions": [],
        "axm_monitor": {},
        "axm_options": {},
    }


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("online", "online"),
        ("starting", "launching"),
        ("stopping", "stopping"),
        ("killing", "stopping"),
        ("stopped", "stopped"),
        ("completed", "stopped"),
        ("errored", "errored"),
        ("backoff", "waiting restart"),
        ("cleaning", "waiting restart"),
        ("hovering", "hovering"),
    ],
)
def test_a_status_is_told_in_the_words_of_pm2(ours: str, theirs: str) -> None:
    env = one(status=ours)["pm2_env"]
    assert (env["status"], env["pmx_status"]) == (theirs, ours)


@pytest.mark.parametrize(("mode", "shown"), [("fork", "fork_mode"), ("cluster", "cluster_mode")])
def test_the_mode_in_the_words_of_pm2(mode: str, shown: str) -> None:
    assert one(mode=mode)["pm2_env"]["exec_mode"] == shown


@pytest.mark.parametrize("status", ["starting", "stopping", "stopped", "errored", "backoff"])
def test_only_what_is_online_uses_anything(status: str) -> None:
    assert one(status=status)["monit"] == {"memory": 0, "cpu": 0}


def test_what_does_not_run_has_the_pid_zero() -> None:
    assert one(status="stopped", pid=None)["pid"] == 0


def test_online_without_a_sample_yet_is_zero() -> None:
    assert one(cpu=None, memory=None)["monit"] == {"memory": 0, "cpu": 0}


@pytest.mark.parametrize("code", [0, 7, None])
def test_the_exit_code(code: int | None) -> None:
    assert one(exit_code=code)["pm2_env"]["exit_code"] == code


@pytest.mark.parametrize(
    ("script", "argv", "node_args", "args"),
    [
        ("/srv/tool", ["/srv/tool", "-v"], [], ["-v"]),
        ("tool", ["/usr/bin/tool", "-v"], [], ["-v"]),
        ("/srv/app.py", ["python3", "-u", "/srv/app.py"], ["-u"], []),
        ("", [], [], []),
    ],
)
def test_arguments_belong_to_the_interpreter_or_to_the_script(
    script: str, argv: list[str], node_args: list[str], args: list[str]
) -> None:
    env = one(script=script, argv=argv)["pm2_env"]
    assert (env["node_args"], env["args"]) == (node_args, args)


def test_the_environment_never_gets_out() -> None:
    assert "s3cret" not in jlist([{**FULL, "env": {"TOKEN": "s3cret"}}])


def test_missing_keys_are_no_error() -> None:
    (process,) = json.loads(jlist([{"id": 1, "name": "web"}]))
    assert process["pid"] == 0
    assert process["pm2_env"]["pm_uptime"] == 0
    assert process["pm2_env"]["autorestart"] is True


def test_names_are_readable_and_the_line_stays_one_line() -> None:
    assert '"name":"café 数据"' in jlist([{**FULL, "name": "café 数据"}])
    for odd in ("a\u2028b", "a\nb", "a\x85b", "\udcff", "\x1b[31m"):
        line = jlist([{**FULL, "name": odd}])
        assert line.isascii()
        assert line.isprintable()
        assert json.loads(line)[0]["name"] == odd
