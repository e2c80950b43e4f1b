"""From the options of `pmx start` to a spec: names are looked up, units parsed, paths made absolute. Reports all
that is wrong before anything is started."""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pmx.config.program import Program, resolve
from pmx.core.fleet import check_name
from pmx.core.spec import AppSpec, Command, Identity, LogPolicy, RestartPolicy, StopPolicy
from pmx.errors import UsageProblem
from pmx.units import parse_duration


class Options(NamedTuple):
    """What the person gave; None, empty or False where nothing was given."""

    name: str | None = None
    instances: str | None = None
    namespace: str = "default"
    cwd: str | None = None
    interpreter: str | None = None
    interpreter_args: str = ""
    no_autorestart: bool = False
    max_restarts: int | None = None
    min_uptime: str | None = None
    restart_delay: str | None = None
    stop_exit_codes: str | None = None
    kill_timeout: str | None = None
    stop_signal: str | None = None
    no_treekill: bool = False
    error: str | None = None
    output: str | None = None
    env: list[str] | None = None
    uid: str | None = None
    gid: str | None = None


def is_in_list(target: str, given: Options, records: Callable[[], list[dict[str, Any]]]) -> bool:
    """Whether `target` means programs in the list: no such file is here, no option describes a new one, and it fits.

    `records` asks the daemon for the list, and is called only when it matters.
    """
    describes_new = any(value != Options._field_defaults[key] for key, value in given._asdict().items())
    if describes_new or os.path.isfile(os.path.expanduser(target)):
        return False
    if target == "all" or (len(target) > 2 and target[0] == target[-1] == "/"):
        return True
    return any(target in (record["name"], record["namespace"], str(record["id"])) for record in records())


def spec_of(target: str, given: Options, args: Sequence[str], cwd: str, environ: Mapping[str, str]) -> AppSpec:
    """The application that ``pmx start target`` means. Raises ProgramProblem and UsageProblem."""
    where = os.path.abspath(os.path.join(cwd, os.path.expanduser(given.cwd or "")))
    if not os.path.isdir(where):
        raise UsageProblem(f"cannot start {target} in {where}: there is no such directory", "see --cwd")
    program = resolve(
        target,
        cwd=cwd,
        environ=environ,
        interpreter=given.interpreter,
        interpreter_args=shlex.split(given.interpreter_args),
        args=args,
    )
    name = given.name if given.name is not None else program.name
    check_name(name)
    return AppSpec(
        name=name,
        namespace=given.namespace,
        instances=_instances(given.instances),
        command=_command(program, where, given, environ),
        restart=_restart(given),
        stop=_stop(given),
        logs=LogPolicy(_log_path(given.output, cwd), _log_path(given.error, cwd)),
    )


def _command(program: Program, cwd: str, given: Options, environ: Mapping[str, str]) -> Command:
    env = {**program.env, **environ, **dict(_assignment(text) for text in given.env or ())}
    return Command(
        argv=program.argv,
        cwd=cwd,
        env=env,
        script=program.script,
        interpreter=program.interpreter,
        umask=_umask(),
        identity=_identity(given),
    )


def _umask() -> int:
    """This shell's: what a program creates must not depend on who started the daemon."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _instances(text: str | None) -> int:
    """PM2's rule: max or 0 is one a core, a negative number is that many less, but never less than one."""
    if text is None:
        return 1
    cores = len(os.sched_getaffinity(0))
    if text == "max":
        return cores
    try:
        number = int(text)
    except ValueError:
        raise UsageProblem(f"cannot start {text!r} instances: it is no number", "give a number, max or -1") from None
    return number if number > 0 else max(1, cores + number)


def _restart(given: Options) -> RestartPolicy:
    found: dict[str, Any] = {"autorestart": not given.no_autorestart}
    if given.max_restarts is not None:
        found["max_restarts"] = given.max_restarts
    if given.min_uptime is not None:
        found["min_uptime"] = parse_duration(given.min_uptime)
    if given.restart_delay is not None:
        found["restart_delay"] = parse_duration(given.restart_delay)
    if given.stop_exit_codes is not None:
        found["stop_exit_codes"] = _codes(given.stop_exit_codes)
    return RestartPolicy(**found)


def _codes(text: str) -> tuple[int, ...]:
    try:
        codes = tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        codes = (-1,)
    if not all(0 <= code <= 255 for code in codes):
        raise UsageProblem(f"cannot read the exit codes {text!r}", "give numbers from 0 to 255, as in 0,3")
    return codes


def _stop(given: Options) -> StopPolicy:
    found: dict[str, Any] = {"treekill": not given.no_treekill}
    if given.kill_timeout is not None:
        found["kill_timeout"] = parse_duration(given.kill_timeout)
    if given.stop_signal is not None:
        found["signal"] = _signal(given.stop_signal)
    return StopPolicy(**found)


def _signal(text: str) -> str:
    import signal

    if text == "auto":
        return text
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    if name not in signal.Signals.__members__:
        raise UsageProblem(f"cannot stop a program with {text}: no such signal", "give auto, SIGTERM, SIGQUIT…")
    return name


def _log_path(text: str | None, cwd: str) -> str:
    """Absolute; ``NULL`` and ``/dev/null`` mean no log, as in PM2."""
    if not text:
        return ""
    return "/dev/null" if text == "NULL" else os.path.abspath(os.path.join(cwd, os.path.expanduser(text)))


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or "\0" in text:
        raise UsageProblem(f"cannot read --env {name}: it must be KEY=VALUE")
    return name, value


def _identity(given: Options) -> Identity:
    if given.uid is None and given.gid is None:
        return Identity()
    import grp
    import pwd

    if os.geteuid() != 0:
        raise UsageProblem("cannot run a program as another user: only root may", "leave out --uid and --gid")
    try:
        user = None if given.uid is None else _user(given.uid, pwd)
        gid = given.gid and (int(given.gid) if given.gid.isdigit() else grp.getgrnam(given.gid).gr_gid)
    except KeyError as error:
        raise UsageProblem(f"cannot run a program as {given.uid or given.gid}: {error.args[0]}") from None
    if user is None:
        return Identity(gid=int(gid or 0), groups=(int(gid or 0),))
    main_group = user.pw_gid if gid is None else int(gid)
    return Identity(user.pw_uid, main_group, tuple(os.getgrouplist(user.pw_name, main_group)))


def _user(text: str, pwd: Any) -> Any:
    return pwd.getpwuid(int(text)) if text.isdigit() else pwd.getpwnam(text)
