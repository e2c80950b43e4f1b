"""The commands as data: the table of pmx.cli.main, and the parameters that typer finds in each signature."""

from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.main import get_command

from pmx.cli.main import COMMANDS, Command

# What a value is, for a person (upper case) and for completion. Whatever is not here is TEXT, or N for a number.
VALUES = {
    "selectors": "PROGRAM",
    "targets": "TARGET",
    "program": "PROGRAM",
    "to": "NUMBER",
    "name": "NAME",
    "namespace": "NAME",
    "cwd": "DIRECTORY",
    "interpreter": "COMMAND",
    "error": "FILE",
    "output": "FILE",
    "min_uptime": "DURATION",
    "restart_delay": "DURATION",
    "kill_timeout": "DURATION",
    "stop_exit_codes": "CODES",
    "stop_signal": "SIGNAL",
    "env": "KEY=VALUE",
    "uid": "USER",
    "gid": "GROUP",
    "listen": "URL",
    "balance": "WAY",
    "weights": "WEIGHTS",
    "instance_var": "VARIABLE",
    "increment_var": "VARIABLE",
}


class Option(NamedTuple):
    parameter: str
    flags: tuple[str, ...]
    help: str
    value: str  # empty for a switch
    default: str
    repeats: bool


class Argument(NamedTuple):
    value: str
    help: str
    required: bool
    repeats: bool


class Described(NamedTuple):
    """One command and all its parameters."""

    command: Command
    arguments: tuple[Argument, ...]
    options: tuple[Option, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (self.command.name, *self.command.aliases)

    @property
    def takes_programs(self) -> bool:
        return any(each.value in ("PROGRAM", "TARGET") for each in self.arguments)

    @property
    def takes_files(self) -> bool:
        return any(each.value == "TARGET" for each in self.arguments)


HELP = Option("help", ("--help", "-h"), "Show this and exit.", "", "", False)


def described() -> list[Described]:
    return [_describe(command) for command in COMMANDS]


def _describe(command: Command) -> Described:
    parameters = [] if command.fast else _parameters(command.name)
    options = [_option(each) for each in parameters if each.param_type_name == "option" and each.name != "help"]
    arguments = [_argument(each) for each in parameters if each.param_type_name == "argument"]
    return Described(command, tuple(arguments), (*options, HELP))


def _parameters(name: str) -> list[Any]:
    """typer's own objects for the parameters of a command, found as pmx.cli.options finds them."""
    app = typer.Typer(add_completion=False)
    app.command()(import_module(f"pmx.cli.commands.{name}").command)
    return list(get_command(app).params)


def _option(it: Any) -> Option:
    flags = tuple(sorted((*it.opts, *it.secondary_opts), key=lambda flag: (not flag.startswith("--"), flag)))
    order = [flag for flag in (*it.opts, *it.secondary_opts) if flag.startswith("--")]
    flags = (*order, *(flag for flag in flags if not flag.startswith("--")))
    value = "" if it.is_flag else VALUES.get(it.name, "N" if it.type.name.startswith("int") else "TEXT")
    default = "" if it.is_flag or it.default in (None, "", ()) else str(it.default)
    return Option(it.name, flags, it.help or "", value, default, bool(it.multiple))


def _argument(it: Any) -> Argument:
    return Argument(VALUES[it.name], it.help or "", bool(it.required), it.nargs == -1)
