"""pmx start: a script, a binary, a quoted command line, an ecosystem file, or programs that are in the list already."""

import os
from typing import Annotated, Any

import typer

from pmx.cli import options
from pmx.cli.ask import ask
from pmx.cli.commands.scale import resize
from pmx.cli.show import names, show_list
from pmx.config.launch import Options, instances as number_of, is_ecosystem, is_in_list, named, spec_of
from pmx.core.spec import AppSpec, to_wire
from pmx.errors import Conflict, UsageProblem

Text = str | None

# Those that need more than a line below.
Targets = Annotated[
    list[str], typer.Argument(help="What to start, or an ecosystem file; arguments of a program follow after --.")
]
Instances = Annotated[
    Text, typer.Option("--instances", "-i", help="How many: a number, max (one a core), or -1 (one less).")
]
InterpreterArgs = Annotated[
    str, typer.Option("--interpreter-args", "--node-args", help="Arguments for the interpreter.")
]
NoAutorestart = Annotated[bool, typer.Option("--no-autorestart", help="Do not restart it when it ends.")]
MaxRestarts = Annotated[int | None, typer.Option(help="Restarts after crashes before it is given up; -1: no limit.")]
StopExitCodes = Annotated[Text, typer.Option(help="Exit codes that mean done, with commas between: 0,3.")]
KillTimeout = Annotated[
    Text, typer.Option("--kill-timeout", "-k", help="Time to end by itself before SIGKILL: 3000 (ms), 10s.")
]
Share = Annotated[
    bool | None,
    typer.Option(
        "--share/--no-share",
        help="Whether pmx makes its listeners, one for each instance; default: with --instances, --port or --listen.",
    ),
]
Listen = Annotated[
    list[str] | None,
    typer.Option(
        help="A socket to open before the first start, for LISTEN_FDS: tcp://host:port or unix:///path, as it is or as"
        " name=url; may be repeated."
    ),
]
Balance = Annotated[
    Text, typer.Option(help="Which instance gets a connection: random, which is the default, ip, least_conn or shared.")
]
Weights = Annotated[Text, typer.Option(help="Share of connections by instance number, from 0 to 100: 3,1.")]
InstanceVar = Annotated[str, typer.Option(help="The variable that holds the number of the instance.")]
IncrementVar = Annotated[
    Text, typer.Option(help="A variable, a number, that each instance gets with its own number added.")
]
NodeCluster = Annotated[
    bool, typer.Option("--node-cluster", help="cluster.isWorker is true; for programs that node or bun runs.")
]
ShutdownWithMessage = Annotated[
    bool,
    typer.Option(
        "--shutdown-with-message",
        help="The message 'shutdown' instead of the signal; for programs that node or bun runs.",
    ),
]


def command(  # noqa: PLR0913  # an option is a parameter, for typer; the values go on as one Options
    targets: Targets,
    name: Annotated[Text, typer.Option("--name", "-n", help="Its name; by default that of the script.")] = None,
    instances: Instances = None,
    namespace: Annotated[str, typer.Option(help="A name for a group of programs.")] = "default",
    cwd: Annotated[Text, typer.Option(help="Working directory; by default this one.")] = None,
    interpreter: Annotated[Text, typer.Option(help="What runs the script; none executes it directly.")] = None,
    interpreter_args: InterpreterArgs = "",
    share: Share = None,
    port: Annotated[int | None, typer.Option(help="The PORT variable of its environment.")] = None,
    listen: Listen = None,
    balance: Balance = None,
    weights: Weights = None,
    node_cluster: NodeCluster = False,
    instance_var: InstanceVar = "NODE_APP_INSTANCE",
    increment_var: IncrementVar = None,
    no_autorestart: NoAutorestart = False,
    max_restarts: MaxRestarts = None,
    min_uptime: Annotated[Text, typer.Option(help="A shorter run is a crash: 1000 (ms), 10s.")] = None,
    restart_delay: Annotated[Text, typer.Option(help="A fixed delay before each restart: 500 (ms), 2s.")] = None,
    stop_exit_codes: StopExitCodes = None,
    kill_timeout: KillTimeout = None,
    stop_signal: Annotated[Text, typer.Option(help="auto, or a signal such as SIGQUIT.")] = None,
    shutdown_with_message: ShutdownWithMessage = False,
    no_treekill: Annotated[bool, typer.Option("--no-treekill", help="End the main process only.")] = False,
    error: Annotated[Text, typer.Option("--error", "-e", help="File for its standard error.")] = None,
    output: Annotated[Text, typer.Option("--output", "-o", help="File for its standard output.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for its environment; may be repeated.")] = None,
    uid: Annotated[Text, typer.Option(help="User to run as; only root may.")] = None,
    gid: Annotated[Text, typer.Option(help="Group to run as; only root may.")] = None,
) -> None:
    _start(targets, Options(**{key: value for key, value in locals().items() if key in Options._fields}))


def _start(targets: list[str], given: Options) -> None:
    resized = [target for target in targets if _means_number(target, given)]
    records: list[dict[str, Any]] = []
    for request in [request for target in targets if target not in resized for request in _requests(target, given)]:
        records += _ask(request, given)  # all were understood before the first is asked for
    if records:
        print(f"started {names(records)}")
    for target in resized:
        records += resize(target, str(number_of(given.instances or "")))
    show_list(records)


def _means_number(target: str, given: Options) -> bool:
    """Whether all that is said is how many instances are wanted of a program in the list."""
    if named(given) != ["--instances"] or options.program_args:
        return False
    return not is_ecosystem(target) and is_in_list(target, given._replace(instances=None), lambda: ask("ls"))


def _ask(request: dict[str, Any], given: Options) -> list[dict[str, Any]]:
    try:
        return list(ask("start", request)["records"])
    except Conflict as problem:
        if given.instances is not None:
            name, number = request["spec"]["name"], request["spec"]["instances"]
            problem.hint = f"pmx scale {name} {number} changes how many run; or: {problem.hint}"
        raise


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
