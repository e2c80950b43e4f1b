"""The keys of a program in an ecosystem file: their names, their values, and the options they come to."""

from typing import Any

import pytest

from pmx.config.launch import Options
from pmx.config.model import FIELDS, App


def app(**keys: Any) -> App:
    return App.model_validate({"script": "a.py", **keys})


def refusal(**keys: Any) -> str:
    from pydantic import ValidationError

    with pytest.raises(ValidationError) as caught:
        app(**keys)
    (error,) = caught.value.errors()
    return error["msg"]


def test_every_key_says_what_it_means() -> None:
    for name, field in App.model_fields.items():
        assert field.description
        assert field.description.endswith("."), name


def test_no_two_keys_share_a_name() -> None:
    names = [str(name) for field in App.model_fields.values() for name in field.validation_alias.choices]  # type: ignore[union-attr]  # each field has AliasChoices
    assert len(names) == len(set(names)) == len(FIELDS)
    assert set(App.model_fields) == {name for name in FIELDS if FIELDS[name] == name}


def test_what_is_not_said_is_what_the_command_line_does_not_say() -> None:
    given = app().options()
    assert given == Options(env=[])


@pytest.mark.parametrize(
    ("field", "names", "value"),
    [
        ("interpreter", ("interpreter", "exec_interpreter", "execInterpreter"), "node"),
        ("interpreter_args", ("interpreter_args", "interpreterArgs", "node_args", "nodeArgs"), ["-u"]),
        ("out_file", ("out_file", "outFile", "output", "out", "out_log", "outLog"), "x"),
        ("error_file", ("error_file", "errorFile", "error", "err", "err_file", "errFile", "err_log", "errLog"), "x"),
        ("uid", ("uid", "user"), "root"),
        ("max_restarts", ("max_restarts", "maxRestarts"), 3),
        ("stop_exit_codes", ("stop_exit_codes", "stopExitCodes"), "0"),
        ("kill_timeout", ("kill_timeout", "killTimeout"), "3s"),
        ("exec_mode", ("exec_mode", "execMode"), "cluster"),
        ("node_cluster", ("node_cluster", "nodeCluster"), True),
        ("instance_var", ("instance_var", "instanceVar"), "NUMBER"),
        ("increment_var", ("increment_var", "incrementVar"), "PORT"),
        ("shutdown_with_message", ("shutdown_with_message", "shutdownWithMessage"), True),
    ],
)
def test_a_key_has_several_names(field: str, names: tuple[str, ...], value: Any) -> None:
    assert {name for name, meant in FIELDS.items() if meant == field} == set(names)
    for name in names:
        assert getattr(app(**{name: value}), field) == value


@pytest.mark.parametrize("name", ["script", "exec", "cmd", "command"])
def test_the_script_has_several_names(name: str) -> None:
    assert App.model_validate({name: "a.py"}).script == "a.py"


@pytest.mark.parametrize("keys", [{}, {"script": "a", "scrpt": "b"}, {"script": "a", "exec": "b"}])
def test_keys_that_are_missing_unknown_or_said_twice(keys: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        App.model_validate(keys)


@pytest.mark.parametrize(
    ("key", "value", "option", "text"),
    [
        ("instances", 4, "instances", "4"),
        ("instances", "max", "instances", "max"),
        ("instances", -1, "instances", "-1"),
        ("restart_delay", 1500, "restart_delay", "1500"),
        ("min_uptime", "10s", "min_uptime", "10s"),
        ("stop_exit_codes", 3, "stop_exit_codes", "3"),
        ("stop_exit_codes", [0, 3], "stop_exit_codes", "0,3"),
        ("stop_exit_codes", "0, 3", "stop_exit_codes", "0, 3"),
        ("max_restarts", "5", "max_restarts", 5),
        ("max_restarts", -1, "max_restarts", -1),
        ("uid", 1000, "uid", "1000"),
        ("autorestart", False, "no_autorestart", True),
        ("treekill", False, "no_treekill", True),
        ("out_file", "NULL", "output", "NULL"),
        ("interpreter_args", "-X 'a b'", "interpreter_args", "-X 'a b'"),
        ("name", "web", "name", "web"),
        ("share", "on", "share", True),
        ("share", "off", "share", False),
        ("share", "true", "share", True),
        ("share", False, "share", False),
        ("port", 8000, "port", 8000),
        ("port", "8000", "port", 8000),
        ("listen", 8000, "listen", ["8000"]),
        ("listen", "tcp://*:8000", "listen", ["tcp://*:8000"]),
        ("listen", [":80", {"url": ":81"}, {"name": "web", "url": ":82"}], "listen", [":80", ":81", "web=:82"]),
        ("balance", "least-conn", "balance", "least-conn"),
        ("weights", [3, 1], "weights", "3,1"),
        ("weights", "3 1", "weights", "3 1"),
        ("exec_mode", "cluster_mode", "exec_mode", "cluster"),
        ("exec_mode", "fork_mode", "exec_mode", "fork"),
        ("node_cluster", True, "node_cluster", True),
        ("instance_var", "NUMBER", "instance_var", "NUMBER"),
        ("increment_var", "PORT", "increment_var", "PORT"),
        ("shutdown_with_message", True, "shutdown_with_message", True),
    ],
)
def test_a_value_becomes_an_option(key: str, value: Any, option: str, text: Any) -> None:
    assert getattr(app(**{key: value}).options(), option) == text


def test_args_are_a_list_or_a_text() -> None:
    assert app(args="--port 80 'two words'").args == ["--port", "80", "two words"]
    assert app(args=["--port", 80, True, 1.5, "two words"]).args == ["--port", "80", "true", "1.5", "two words"]


def test_env_values_become_text() -> None:
    assert app(env={"A": "x", "B": 1, "C": 1.5, "D": True, "E": ""}).options().env == [
        "A=x", "B=1", "C=1.5", "D=true", "E=",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("env", {"A": None}, 'null is no value: write "" for an empty text'),
        ("env", {"A": [1]}, "a text or a number"),
        ("env", {"A=B": "c"}, "cannot be the name of a variable"),
        ("env", {"": "c"}, "cannot be the name of a variable"),
        ("env", {"A": "b\0"}, "NUL"),
        ("args", "a 'b", "no closing quotation"),
        ("args", [None], "null is no value"),
        ("out_file", "a\0b", "NUL"),
        ("name", "all", "it means every program"),
        ("name", 12, "valid string"),
        ("autorestart", "no", "valid boolean"),
        ("autorestart", 0, "valid boolean"),
        ("instances", "many", "it is no number; give a number, max or -1"),
        ("instances", True, "a text or a number"),
        ("max_restarts", "many", "valid integer"),
        ("max_restarts", -2, "greater than or equal to -1"),
        ("max_restarts", True, "valid integer"),
        ("kill_timeout", "soon", "cannot read the duration 'soon'"),
        ("kill_timeout", -5, "cannot read the duration '-5'"),
        ("stop_exit_codes", [256], "cannot read the exit codes '256'"),
        ("stop_exit_codes", [True], "a text or a number"),
        ("stop_signal", "SIGFOO", "no such signal"),
        ("share", "yes", "valid boolean"),
        ("share", 1, "valid boolean"),
        ("port", 0, "it must be from 1 to 65535"),
        ("port", True, "valid integer"),
        ("listen", [True], "a text or a number"),
        ("listen", [{"name": "a:b", "url": ":80"}], "cannot give a socket the name 'a:b'"),
        ("listen", [{"name": "web"}], "has the keys url and name"),
        ("listen", [{"url": 80}], "has the keys url and name"),
        ("listen", ":80\0", "NUL"),
        ("weights", [-1, 2], "cannot read the weights '-1,2'"),
        ("weights", [], "cannot read the weights ''"),
        ("weights", [True], "a text or a number"),
        ("instance_var", "A=B", "as the name of a variable"),
        ("exec_mode", "cluster_mode_mode", "there is no mode"),
        ("exec_mode", "spoon", "there is no mode 'spoon'"),
    ],
)
def test_a_value_that_cannot_be(key: str, value: Any, why: str) -> None:
    assert why in refusal(**{key: value})


def test_a_hint_about_options_does_not_reach_the_reader_of_a_file() -> None:
    assert "--" not in refusal(name="a/b")
