import json
from dataclasses import fields
from typing import Any

import pytest

from pmx.core.spec import (
    AppSpec,
    Command,
    Identity,
    LogPolicy,
    RestartPolicy,
    StopPolicy,
    from_wire,
    to_wire,
)

FULL = AppSpec(
    name="web",
    command=Command(
        argv=("/usr/bin/node", "server.js"),
        cwd="/srv",
        env={"TOKEN": "s3cret", "PATH": "/bin"},
        script="server.js",
        interpreter="node",
        umask=0o077,
        identity=Identity(uid=33, gid=33, groups=(33, 44)),
        limits=(("NOFILE", 1024, 4096), ("CORE", 0, -1)),
    ),
    namespace="shop",
    instances=4,
    restart=RestartPolicy(autorestart=False, min_uptime=2.5, stop_exit_codes=(0, 3)),
    stop=StopPolicy(signal="SIGINT", kill_timeout=3.0, treekill=False),
    logs=LogPolicy("/var/log/out", "/dev/null"),
    instance_var="WORKER",
)
COMMAND = {"argv": ["true"], "cwd": "/"}


@pytest.mark.parametrize("spec", [FULL, AppSpec("a", Command((), ""))], ids=["full", "defaults"])
def test_a_spec_survives_the_wire(spec: AppSpec) -> None:
    assert from_wire(AppSpec, json.loads(json.dumps(to_wire(spec)))) == spec


def test_what_comes_back_is_tuples_and_dataclasses() -> None:
    spec = from_wire(AppSpec, json.loads(json.dumps(to_wire(FULL))))
    assert isinstance(spec.command, Command)
    assert spec.command.limits[0] == ("NOFILE", 1024, 4096)
    assert isinstance(spec.command.identity.groups, tuple)
    assert hash(spec.restart) == hash(FULL.restart)


def test_what_is_missing_has_its_default() -> None:
    assert from_wire(AppSpec, {"name": "a", "command": COMMAND}) == AppSpec("a", Command(("true",), "/"))


def test_unknown_keys_are_dropped_at_every_depth() -> None:
    data = {
        "name": "a",
        "color": "red",
        "command": {**COMMAND, "nice": 5},
        "stop": {"kill_timeout": 1, "politely": True},
    }
    spec = from_wire(AppSpec, data)
    assert spec == AppSpec("a", Command(("true",), "/"), stop=StopPolicy(kill_timeout=1))


def test_an_identity_may_be_nobodys_in_particular() -> None:
    assert from_wire(Identity, {"uid": None, "groups": None}) == Identity()
    assert from_wire(Identity, {"uid": 0, "groups": []}) == Identity(uid=0, groups=())


@pytest.mark.parametrize(
    ("cls", "data", "message"),
    [
        (AppSpec, {"name": 5, "command": COMMAND}, "name is int, not str"),
        (AppSpec, {"name": "a", "command": COMMAND, "instances": "4"}, "instances is str, not int"),
        (AppSpec, {"name": "a", "command": COMMAND, "instances": True}, "instances is bool, not int"),
        (AppSpec, {"name": "a", "command": COMMAND, "instances": 1.5}, "instances is float, not int"),
        (AppSpec, {"name": "a", "command": ["true"]}, "command is list, not Command"),
        (AppSpec, {"name": "a", "command": None}, "command is NoneType, not Command"),
        (AppSpec, {"name": "a"}, "missing 1 required positional argument: 'command'"),
        (AppSpec, ["a"], "AppSpec is list, not dict"),
        (RestartPolicy, {"min_uptime": "1s"}, "min_uptime is str, not float"),
        (RestartPolicy, {"min_uptime": False}, "min_uptime is bool, not float"),
        (RestartPolicy, {"min_uptime": None}, "min_uptime is NoneType, not float"),
        (RestartPolicy, {"autorestart": 1}, "autorestart is int, not bool"),
        (RestartPolicy, {"stop_exit_codes": 0}, "stop_exit_codes is int, not tuple"),
        (RestartPolicy, {"stop_exit_codes": "01"}, "stop_exit_codes is str, not tuple"),
        (RestartPolicy, {"stop_exit_codes": [0, "1"]}, "stop_exit_codes is str, not int"),
        (Command, {**COMMAND, "argv": "true"}, "argv is str, not tuple"),
        (Command, {**COMMAND, "env": [["A", "b"]]}, "env is list, not dict"),
        (Command, {**COMMAND, "env": {"A": 1}}, "env holds something that is not str"),
        (Command, {**COMMAND, "env": {1: "a"}}, "env holds something that is not str"),
        (Command, {**COMMAND, "limits": [["NOFILE", 1]]}, "limits has 2 parts, not 3"),
        (Command, {**COMMAND, "limits": [["NOFILE", 1, "2"]]}, "limits is str, not int"),
        (Identity, {"uid": "root"}, "uid is str, not int"),
        (Identity, {"groups": [0, None]}, "groups is NoneType, not int"),
    ],
)
def test_a_wrong_type_is_a_type_error_that_names_the_key(cls: type, data: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        from_wire(cls, data)
    assert message in str(caught.value)


def test_a_whole_number_is_as_good_as_a_float() -> None:
    assert from_wire(StopPolicy, {"kill_timeout": 3}).kill_timeout == 3


def test_the_message_about_a_wrong_environment_does_not_show_it() -> None:
    with pytest.raises(TypeError) as caught:
        from_wire(Command, {**COMMAND, "env": {"TOKEN": ["s3cret"]}})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("shown", [FULL, FULL.command], ids=["spec", "command"])
def test_the_environment_is_never_shown(shown: AppSpec | Command) -> None:
    for text in (repr(shown), str(shown), f"{shown}"):
        assert "s3cret" not in text
        assert "TOKEN" not in text
        assert "server.js" in text


def test_the_wire_shares_the_environment_instead_of_copying_it() -> None:
    assert to_wire(FULL)["command"]["env"] is FULL.command.env


@pytest.mark.parametrize("cls", [RestartPolicy, StopPolicy])
def test_every_field_of_a_policy_says_what_it_means(cls: type) -> None:
    for each in fields(cls):
        assert len(each.metadata["doc"]) > 10, each.name
