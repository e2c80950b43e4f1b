"""The table of commands, and the way from a command line to one of them.

Start-up cost decides the shape: a command's module is imported only when it is asked for, and `pmx ls`, `jlist`,
`ping`, `--version` and `--help` never import typer. A module has either ``fast() -> None``, for a command without
options, or ``command(...)`` with typer's annotations.
"""

import sys
from importlib import import_module
from typing import NamedTuple

from pmx import __version__
from pmx.cli.boundary import guarded
from pmx.errors import UsageProblem


class Command(NamedTuple):
    name: str
    help: str
    aliases: tuple[str, ...] = ()
    fast: bool = False


COMMANDS = (
    Command("start", "Start a script, a binary, a command line, or programs in the list"),
    Command("stop", "End programs and keep them in the list"),
    Command("restart", "End programs and start them anew"),
    Command("scale", "Change how many instances of a program run"),
    Command("delete", "End programs and remove them from the list", ("del",)),
    Command("ls", "Show all programs", ("list", "l", "ps", "status"), fast=True),
    Command("describe", "Show everything about programs", ("show", "info", "desc")),
    Command("logs", "Show the last lines of output, and follow it", ("log",)),
    Command("jlist", "Print all programs as one line of JSON, with PM2's field names", fast=True),
    Command("ping", "Ask the daemon for a sign of life; start it if need be", fast=True),
    Command("kill", "Stop everything and end the daemon"),
    Command("doctor", "Try what pmx needs on this machine, and say which guarantee holds"),
    Command("version", "Print the versions of the command line and of the daemon", fast=True),
)

_NAMES = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}


def run(argv: list[str]) -> int:
    """Run one command line; returns the exit status."""
    return guarded(lambda: _run(argv))


def _run(argv: list[str]) -> int:
    match argv:
        case [] | ["--help" | "-h" | "help", *_]:
            print(overview())
            return 0
        case ["--version" | "-v" | "-V", *_]:
            print(__version__)
            return 0
        case [name, *rest] if name in _NAMES:
            return _dispatch(_NAMES[name], rest)
        case [name, *_]:
            raise UsageProblem(f"cannot {name}: there is no such command", _suggestion(name))
    return 0


def _dispatch(command: Command, rest: list[str]) -> int:
    if not command.fast:
        if command.name == "start" and not {"--help", "-h"} & set(rest):
            # A cold start takes two processes that import much; they may as well begin while we import typer.
            from pmx.client.launch import begin
            from pmx.paths import find

            begin(find())
        from pmx.cli.options import run_typer

        return run_typer(command.name, command.help, rest)
    if rest in (["--help"], ["-h"]):
        print(f"Usage: pmx {command.name}\n\n{command.help}.")
        return 0
    if rest:
        raise UsageProblem(f"cannot {command.name} {rest[0]}: the command takes no arguments")
    import_module(f"pmx.cli.commands.{command.name}").fast()
    return 0


def overview() -> str:
    """What `pmx --help` says."""
    lines = ["Usage: pmx COMMAND [ARGUMENTS]", "", "pmx keeps programs running.", "", "Commands:"]
    for command in COMMANDS:
        names = ", ".join((command.name, *command.aliases))
        lines.append(f"  {names:<30}{command.help}")
    lines += ["", "pmx COMMAND --help tells more. The home is $PMX_HOME, or ~/.pmx."]
    return "\n".join(lines)


def _suggestion(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, _NAMES, 1)
    return f"did you mean pmx {close[0]}?" if close else "pmx --help shows all commands"


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
