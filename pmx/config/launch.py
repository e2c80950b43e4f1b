"""From the options of `pmx start` to a spec: names are looked up, units parsed, paths made absolute.

The rules that have a name here without an underscore are those of an ecosystem file, too (model.py, load.py).
Whatever is wrong is reported before anything is started.
"""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pmx.config import sharing
from pmx.config.program import Program, resolve
from pmx.core.fleet import check_instances, check_name
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
    share: bool | None = None
    port: int | None = None
    listen: list[str] | None = None
    balance: str | None = None
    weights: str | None = None
    instance_var: str = "NODE_APP_INSTANCE"
    increment_var: str | None = None
    node_cluster: bool = False
    exec_mode: str = "fork"  # a key of files only
    shutdown_with_message: bool = False


def named(given: Options) -> list[str]:
    """The options that were given, as they are typed."""
    return [_flag(key, value) for key, value in given._asdict().items() if value != _NOTHING[key]]


def _flag(key: str, value: object) -> str:
    return f"--{'no-' if value is False else ''}{key.replace('_', '-')}"


_NOTHING = Options._field_defaults


def is_ecosystem(target: str) -> bool:
    """Whether `target` is a file that describes programs, and not a program. Here, because load.py is dear."""
    path = os.path.expanduser(target)
    return os.path.splitext(path)[1].lower() in (".yaml", ".yml", ".json") and os.path.isfile(path)


def is_in_list(target: str, given: Options, records: Callable[[], list[dict[str, Any]]]) -> bool:
    """Whether `target` means programs in the list: no such file is here, no option describes a new one, and it fits.

    `records` asks the daemon for the list, and is called only when it matters.
    """
    if named(given) or os.path.isfile(os.path.expanduser(target)):
        return False
    if target == "all" or (len(target) > 2 and target[0] == target[-1] == "/"):
        return True
    return any(target in (record["name"], record["namespace"], str(record["id"])) for record in records())


def spec_of(target: str, given: Options, args: Sequence[str], cwd: str, environ: Mapping[str, str]) -> AppSpec:
    """The application that ``pmx start target`` means. Raises ProgramProblem and UsageProblem."""
    where = directory(given.cwd, cwd)
    program = resolve(
        target,
        cwd=cwd,
        environ=environ,
        interpreter=given.interpreter,
        interpreter_args=words(given.interpreter_args),
        args=args,
    )
    name = given.name if given.name is not None else program.name
    check_name(name)
    command = _command(program, where, given, environ)
    return AppSpec(
        name=name,
        namespace=given.namespace,
        instances=1 if given.instances is None else instances(given.instances),
        command=command,
        restart=_restart(given),
        stop=_stop(given),
        logs=LogPolicy(log_path(given.output, cwd), log_path(given.error, cwd)),
        sharing=sharing.share_policy(given, program.argv, cwd),
        node=sharing.node_policy(given, program),
        instance_var=sharing.variable(given.instance_var),
        increment_var=sharing.increment_var(given.increment_var, command.env, given.port is not None),
    )


def _command(program: Program, cwd: str, given: Options, environ: Mapping[str, str]) -> Command:
    env = {**program.env, **environ, **dict(assignment(text) for text in given.env or ())}
    return Command(
        argv=program.argv,
        cwd=cwd,
        env=env,
        script=program.script,
        interpreter=program.interpreter,
        umask=_umask(),
        identity=identity(given.uid, given.gid),
    )


def _umask() -> int:
    """This shell's: what a program creates must not depend on who started the daemon."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _restart(given: Options) -> RestartPolicy:
    found: dict[str, Any] = {"autorestart": not given.no_autorestart}
    if given.max_restarts is not None:
        found["max_restarts"] = given.max_restarts
    if given.min_uptime is not None:
        found["min_uptime"] = parse_duration(given.min_uptime)
    if given.restart_delay is not None:
        found["restart_delay"] = parse_duration(given.restart_delay)
    if given.stop_exit_codes is not None:
        found["stop_exit_codes"] = exit_codes(given.stop_exit_codes)
    return RestartPolicy(**found)


def _stop(given: Options) -> StopPolicy:
    found: dict[str, Any] = {
        "treekill": not given.no_treekill,
        "shutdown_with_message": given.shutdown_with_message,
    }
    if given.kill_timeout is not None:
        found["kill_timeout"] = parse_duration(given.kill_timeout)
    if given.stop_signal is not None:
        found["signal"] = signal_name(given.stop_signal)
    return StopPolicy(**found)


# --- what one word means ------------------------------------------------------------------------------------


def directory(text: str | None, cwd: str) -> str:
    """Absolute, and there."""
    path = os.path.abspath(os.path.join(cwd, os.path.expanduser(text or "")))
    if not os.path.isdir(path):
        raise UsageProblem(f"cannot start a program in {path}: there is no such directory", "see --cwd")
    return path


def words(text: str) -> list[str]:
    """Split as a shell does."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageProblem(f"cannot split {text!r} into arguments: {str(error).lower()}", "close the quote") from None


def instances(text: str) -> int:
    """PM2's rule: max or 0 is one a core, a negative number is that many less, but never less than one."""
    cores = len(os.sched_getaffinity(0))
    if text == "max":
        return cores
    try:
        number = int(text)
    except ValueError:
        raise UsageProblem(f"cannot start {text!r} instances: it is no number", "give a number, max or -1") from None
    number = number if number > 0 else max(1, cores + number)
    check_instances(number)
    return number


def exit_codes(text: str) -> tuple[int, ...]:
    try:
        codes = tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        codes = (-1,)
    if not all(0 <= code <= 255 for code in codes):
        raise UsageProblem(f"cannot read the exit codes {text!r}", "give numbers from 0 to 255, as in 0,3")
    return codes


def signal_name(text: str) -> str:
    import signal

    if text == "auto":
        return text
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    if name not in signal.Signals.__members__:
        raise UsageProblem(f"cannot stop a program with {text}: no such signal", "give auto, SIGTERM, SIGQUIT…")
    return name


def log_path(text: str | None, cwd: str) -> str:
    """Absolute; ``NULL`` and ``/dev/null`` mean no log, as in PM2."""
    if not text:
        return ""
    return "/dev/null" if text == "NULL" else os.path.abspath(os.path.join(cwd, os.path.expanduser(text)))


def assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or "\0" in text:
        raise UsageProblem(f"cannot read --env {name}: it must be KEY=VALUE")
    return name, value


def identity(uid: str | None, gid: str | None) -> Identity:
    """Who the names or numbers of a user and a group mean. Only root may say so."""
    if uid is None and gid is None:
        return Identity()
    if os.geteuid() != 0:
        raise UsageProblem("cannot run a program as another user: only root may", "leave out the user and the group")
    group = None if gid is None else _group(gid)
    if uid is None:
        return Identity(gid=group, groups=() if group is None else (group,))
    user = _user(uid)
    main = user.pw_gid if group is None else group
    return Identity(user.pw_uid, main, tuple(os.getgrouplist(user.pw_name, main)))


def _user(text: str) -> Any:
    import pwd

    try:
        return pwd.getpwuid(int(text)) if text.isdecimal() else pwd.getpwnam(text)
    except (KeyError, ValueError, OverflowError):  # not there, not possible in a name, not possible as a number
        raise UsageProblem(f"cannot run a program as {text!r}: there is no such user") from None


def _group(text: str) -> int:
    """A number need not have a name."""
    import grp

    try:
        number = int(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
    except (KeyError, ValueError):
        number = _NO_ID
    if number >= _NO_ID:
        raise UsageProblem(f"cannot run a program in the group {text!r}: there is no such group")
    return number


_NO_ID = 2**32 - 1  # (gid_t) -1, which setgid(2) refuses
