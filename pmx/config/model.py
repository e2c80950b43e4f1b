"""What may stand in an ecosystem file about one program: PM2's keys, as far as pmx has what they mean.

A value is checked by the rules of launch.py, which are those of the command line, and kept as the person wrote it:
`App.options` hands it on, and `spec_of` gives it its meaning. Keys of several words may be written in camelCase.
"""

import re
import shlex
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from pmx.config import launch, sharing
from pmx.core.fleet import check_name
from pmx.errors import PmxError, UsageProblem
from pmx.units import parse_duration


def _key(*names: str, doc: str, default: Any = None) -> Any:
    """A field with all its names, the one of the field first."""
    camel = (re.sub(r"_(\w)", lambda letter: letter[1].upper(), name) for name in names)
    return Field(default, description=doc, validation_alias=AliasChoices(*dict.fromkeys((*names, *camel))))


# --- values -------------------------------------------------------------------------------------------------


def told(problem: PmxError) -> str:
    """In one line; without a hint about options, which a file does not have."""
    return f"{problem.message}; {problem.hint}" if problem.hint and "--" not in problem.hint else problem.message


def _checked(rule: Callable[[Any], object]) -> AfterValidator:
    """The value must please a rule of the command line."""

    def check(value: Any) -> Any:
        try:
            rule(value)
        except UsageProblem as problem:
            raise ValueError(told(problem)) from None
        return value

    return AfterValidator(check)


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("a NUL character can be in no name, argument or path")
    return text


def _number_as_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("it must be a text or a number")
    return str(value)


def _scalar_as_text(value: Any) -> str:
    if value is None:
        raise ValueError('null is no value: write "" for an empty text, or leave it out')
    return str(value).lower() if isinstance(value, bool) else _number_as_text(value)


def _digits_as_number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value) else value


def _codes_as_text(value: Any) -> str:
    return ",".join(map(_number_as_text, value if isinstance(value, list) else [value]))


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return launch.words(value)
    except UsageProblem as problem:
        raise ValueError(told(problem)) from None


def _env_name(name: str) -> str:
    if not name or "=" in name:
        raise ValueError(f"{name!r} cannot be the name of a variable")
    return name


def _mode(mode: str) -> str:
    name = mode.removesuffix("_mode")
    if name not in ("fork", "cluster"):
        raise ValueError(f"there is no mode {mode!r}: write fork or cluster, or leave it out")
    return name


_SWITCH = {"on": True, "off": False, "true": True, "false": False}


def _switch(value: Any) -> Any:
    return _SWITCH.get(value, value) if isinstance(value, str) else value


def _sockets(value: Any) -> Any:
    """A list of texts, whatever form it had: one text, or entries with name and url."""
    return [_socket(item) for item in value] if isinstance(value, list) else [_socket(value)]


def _socket(item: Any) -> str:
    if not isinstance(item, dict):
        return _number_as_text(item)
    if set(item) - {"name", "url"} or not all(isinstance(each, str) for each in item.values()) or "url" not in item:
        raise ValueError("a socket is a url, or has the keys url and name")
    if "name" not in item:
        return str(item["url"])
    try:
        return sharing.named_url(item["name"], item["url"])
    except UsageProblem as problem:
        raise ValueError(told(problem)) from None


def _socket_anywhere(text: str) -> object:
    return sharing.socket_of(text, "/")


Text = Annotated[str, AfterValidator(_no_nul)]
Name = Annotated[Text, _checked(check_name)]
Word = Annotated[Text, BeforeValidator(_number_as_text)]
Scalar = Annotated[Text, BeforeValidator(_scalar_as_text)]
Args = Annotated[list[Scalar], BeforeValidator(_split)]
Env = dict[Annotated[Text, AfterValidator(_env_name)], Scalar]
Count = Annotated[Word, _checked(launch.instances)]
Number = Annotated[int, BeforeValidator(_digits_as_number), Field(ge=-1)]
Duration = Annotated[Word, _checked(parse_duration)]
Codes = Annotated[Text, BeforeValidator(_codes_as_text), _checked(launch.exit_codes)]
Signal = Annotated[Text, _checked(launch.signal_name)]
Mode = Annotated[Text, AfterValidator(_mode)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Port = Annotated[int, BeforeValidator(_digits_as_number), _checked(sharing.port)]
Sockets = Annotated[list[Annotated[Text, _checked(_socket_anywhere)]], BeforeValidator(_sockets)]
Balance = Annotated[Text, _checked(sharing.balance)]
Weights = Annotated[Text, BeforeValidator(_codes_as_text), _checked(sharing.weights)]
Variable = Annotated[Text, _checked(sharing.variable)]


# --- keys, in sections --------------------------------------------------------------------------------------


class Program(BaseModel):
    """What runs."""

    script: Text = _key(
        "script", "exec", "cmd", "command", default=..., doc="A file, a command on PATH, or a command line."
    )
    name: Name | None = _key("name", doc="Its name in lists and in other commands; by default that of the script.")
    namespace: Text = _key("namespace", default="default", doc="A name for a group of programs.")
    cwd: Text | None = _key(
        "cwd", doc="Working directory, and where relative paths begin; by default that of this file."
    )
    args: Args = _key("args", default=[], doc="The program's arguments: a list, or a text to split as a shell does.")
    interpreter: Text | None = _key(
        "interpreter", "exec_interpreter", doc="What runs the script; none executes it directly; default: by extension."
    )
    interpreter_args: Args = _key(
        "interpreter_args", "node_args", default=[], doc="Arguments for the interpreter: a list, or a text to split."
    )
    instances: Count | None = _key("instances", doc="How many: a number, max (one a core), or -1 (one less).")
    env: Env = _key("env", default={}, doc="Variables, in addition to those of the shell that starts it.")


class Sharing(BaseModel):
    """How its instances share its ports, and what tells them apart."""

    share: Switch | None = _key(
        "share", doc="pmx makes its listeners, one for each instance; default: with instances, port or listen."
    )
    port: Port | None = _key("port", doc="The PORT variable of its environment.")
    listen: Sockets | None = _key(
        "listen", doc="Sockets to open before the first start, for LISTEN_FDS: tcp://host:port or unix:///path."
    )
    balance: Balance | None = _key(
        "balance", doc="Which instance gets a connection: random, which is the default, ip, least_conn or shared."
    )
    weights: Weights | None = _key("weights", doc="Share of connections by instance number, from 0 to 100: [3, 1].")
    exec_mode: Mode = _key(
        "exec_mode",
        default="fork",
        doc="cluster: share is on, and node_cluster for node and bun; fork turns neither off.",
    )
    node_cluster: bool = _key(
        "node_cluster", default=False, doc="cluster.isWorker is true; for programs that node or bun runs."
    )
    instance_var: Variable = _key(
        "instance_var", default="NODE_APP_INSTANCE", doc="The variable that holds the number of the instance."
    )
    increment_var: Variable | None = _key(
        "increment_var", doc="A variable of env, a number, that each instance gets with its own number added."
    )


class Restarting(BaseModel):
    """What happens when it ends."""

    autorestart: bool = _key("autorestart", default=True, doc="Start it again when it ends by itself.")
    max_restarts: Number | None = _key(
        "max_restarts", doc="Restarts after crashes before it is given up; -1: no limit; default: 16."
    )
    min_uptime: Duration | None = _key("min_uptime", doc="A shorter run is a crash: 1000 (ms), 10s; default: 1s.")
    restart_delay: Duration | None = _key(
        "restart_delay", doc="A fixed delay before each restart: 500 (ms), 2s; by default one that grows."
    )
    stop_exit_codes: Codes | None = _key(
        "stop_exit_codes", doc="Exit codes that mean done, so that it is not restarted: 0, or [0, 3]."
    )


class Stopping(BaseModel):
    """How it is told to end."""

    kill_timeout: Duration | None = _key(
        "kill_timeout", doc="Time to end by itself before SIGKILL: 3000 (ms), 10s; default: 10s."
    )
    treekill: bool = _key("treekill", default=True, doc="End what it started, too, and not the main process only.")
    stop_signal: Signal | None = _key("stop_signal", doc="auto, which is the default, or a signal such as SIGQUIT.")
    shutdown_with_message: bool = _key(
        "shutdown_with_message",
        default=False,
        doc="The message 'shutdown' instead of the signal; for programs that node or bun runs.",
    )


class Output(BaseModel):
    """Where its output goes."""

    out_file: Text | None = _key("out_file", "output", "out", "out_log", doc="File for standard output; NULL: none.")
    error_file: Text | None = _key(
        "error_file", "error", "err", "err_file", "err_log", doc="File for standard error; NULL: none."
    )


class User(BaseModel):
    """Who it runs as."""

    uid: Word | None = _key("uid", "user", doc="User to run as, by name or number; only root may.")
    gid: Word | None = _key("gid", doc="Group to run as, by name or number; only root may.")


class App(User, Output, Stopping, Restarting, Sharing, Program):
    """One program of an ecosystem file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def options(self) -> launch.Options:
        """What one would give to `pmx start` for the same; but for cwd, which load.py has to follow first."""
        return launch.Options(
            name=self.name,
            instances=self.instances,
            namespace=self.namespace,
            interpreter=self.interpreter,
            interpreter_args=shlex.join(self.interpreter_args),
            no_autorestart=not self.autorestart,
            max_restarts=self.max_restarts,
            min_uptime=self.min_uptime,
            restart_delay=self.restart_delay,
            stop_exit_codes=self.stop_exit_codes,
            kill_timeout=self.kill_timeout,
            stop_signal=self.stop_signal,
            no_treekill=not self.treekill,
            error=self.error_file,
            output=self.out_file,
            env=[f"{name}={value}" for name, value in self.env.items()],
            uid=self.uid,
            gid=self.gid,
            share=self.share,
            port=self.port,
            listen=self.listen,
            balance=self.balance,
            weights=self.weights,
            instance_var=self.instance_var,
            increment_var=self.increment_var,
            node_cluster=self.node_cluster,
            exec_mode=self.exec_mode,
            shutdown_with_message=self.shutdown_with_message,
        )


def _spellings() -> Iterable[tuple[str, str]]:
    for field, info in App.model_fields.items():
        assert isinstance(info.validation_alias, AliasChoices)
        yield from ((str(name), field) for name in info.validation_alias.choices)


FIELDS = dict(_spellings())
"""Every name that a key may have, and the field it is for."""
