"""pmx start: a script, a binary, a quoted command line, an ecosystem file, or programs that are in the list already."""

import os
from typing import Annotated, Any

import typer

from pmx.cli import options
from pmx.cli.ask import ask
from pmx.cli.show import names, show_list
from pmx.config.launch import Options, is_ecosystem, is_in_list, named, spec_of
from pmx.core.spec import AppSpec, to_wire
from pmx.errors import UsageProblem

Text = str | None


def command(  # noqa: PLR0913  # an option is a parameter, for typer; the values go on as one Options
    targets: Annotated[
        list[str], typer.Argument(help="What to start, or an ecosystem file; arguments of a program follow after --.")
    ],
    name: Annotated[Text, typer.Option("--name", "-n", help="Its name; by default that of the script.")] = None,
    instances: Annotated[
        Text, typer.Option("--instances", "-i", help="How many: a number, max (one a core), or -1 (one less).")
    ] = None,
    namespace: Annotated[str, typer.Option(help="A name for a group of programs.")] = "default",
    cwd: Annotated[Text, typer.Option(help="Working directory; by default this one.")] = None,
    interpreter: Annotated[Text, typer.Option(help="What runs the script; none executes it directly.")] = None,
    interpreter_args: Annotated[
        str, typer.Option("--interpreter-args", "--node-args", help="Arguments for the interpreter.")
    ] = "",
    no_autorestart: Annotated[bool, typer.Option("--no-autorestart", help="Do not restart it when it ends.")] = False,
    max_restarts: Annotated[
        int | None, typer.Option(help="Restarts after crashes before it is given up; -1: no limit.")
    ] = None,
    min_uptime: Annotated[Text, typer.Option(help="A shorter run is a crash: 1000 (ms), 10s.")] = None,
    restart_delay: Annotated[Text, typer.Option(help="A fixed delay before each restart: 500 (ms), 2s.")] = None,
    stop_exit_codes: Annotated[Text, typer.Option(help="Exit codes that mean done, with commas between: 0,3.")] = None,
    kill_timeout: Annotated[
        Text, typer.Option("--kill-timeout", "-k", help="Time to end by itself before SIGKILL: 3000 (ms), 10s.")
    ] = None,
    stop_signal: Annotated[Text, typer.Option(help="auto, or a signal such as SIGQUIT.")] = None,
    no_treekill: Annotated[bool, typer.Option("--no-treekill", help="End the main process only.")] = False,
    error: Annotated[Text, typer.Option("--error", "-e", help="File for its standard error.")] = None,
    output: Annotated[Text, typer.Option("--output", "-o", help="File for its standard output.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for its environment; may be repeated.")] = None,
    uid: Annotated[Text, typer.Option(help="User to run as; only root may.")] = None,
    gid: Annotated[Text, typer.Option(help="Group to run as; only root may.")] = None,
) -> None:
    given = Options(**{key: value for key, value in locals().items() if key in Options._fields})
    records: list[dict[str, Any]] = []
    for request in [request for target in targets for request in _requests(target, given)]:  # all, before the first
        records += ask("start", request)["records"]
    print(f"started {names(records)}")
    show_list(records)


def _requests(target: str, given: Options) -> list[dict[str, Any]]:
    """What to ask of the daemon for one of the things that are to be started."""
    if is_ecosystem(target):
        return [{"spec": to_wire(spec)} for spec in _load(target, given)]
    if is_in_list(target, given, lambda: ask("ls")):
        return [{"selectors": [target]}]
    return [{"spec": to_wire(spec_of(target, given, options.program_args, os.getcwd(), os.environ))}]


def _load(target: str, given: Options) -> list[AppSpec]:
    about_one = [*named(given), *(["arguments after --"] if options.program_args else [])]
    if about_one:
        why = f"{', '.join(about_one)}: that is about one program, and the file describes each of its own"
        raise UsageProblem(f"cannot start {target} with {why}", "write it in the file")
    from pmx.config.load import load  # with pydantic and yaml, which nobody else should wait for

    return load(target, os.environ)
