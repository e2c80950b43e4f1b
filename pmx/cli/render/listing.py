"""`pmx ls` and `pmx describe`: records of processes as text. Columns, their order and names are PM2's.

A record is what the daemon says of one process: id, name, namespace, instance, mode, status, wanted, pid, uptime,
restarts, cpu, memory, user, retry_in, cause, and of listeners ports, connections, share_of_connections and queue; for
`describe` also script, argv, interpreter, cwd, out_file, error_file, created_at, exit, policy, env_count, history,
balance, unshared, ready, status_text and slots. What an older or newer daemon does not say is shown as ``-``; what is
about listeners is not shown at all when nobody has any.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pmx.cli.render.table import Cell, Column, Style, key_value, paint, render
from pmx.units import format_duration, format_size

Record = Mapping[str, Any]  # decoded JSON

_COLUMNS = (
    Column("id", priority=9),
    Column("name", shrink=True, priority=9),
    Column("namespace", shrink=True, priority=2),
    Column("mode", priority=0),
    Column("port", shrink=True, priority=5),
    Column("conns", "right", priority=1),
    Column("queue", "right", priority=0),
    Column("pid", "right", priority=5),
    Column("uptime", "right", priority=7),
    Column("↺", "right", priority=6),
    Column("status", priority=8),
    Column("cpu", "right", priority=3),
    Column("mem", "right", priority=4),
    Column("user", shrink=True, priority=1),
)
_OF_LISTENERS = {"port": "ports", "conns": "connections", "queue": "queue"}
"""Columns that are shown only when some record has something to say, and the key that says it."""
_COLOURS = {
    "online": "green",
    "starting": "yellow",
    "stopping": "yellow",
    "killing": "yellow",
    "cleaning": "yellow",
    "backoff": "yellow",
    "errored": "red",
    "stopped": "dim",
    "completed": "dim",
}
_HISTORY = (
    Column("at", priority=2),
    Column("from", priority=1),
    Column("to", priority=3),
    Column("cause", shrink=True, priority=3),
)
_SLOTS = (
    Column("slot", "right", priority=4),
    Column("url", shrink=True, priority=6),
    Column("id", priority=5),
    Column("weight", "right", priority=1),
    Column("connections", "right", priority=3),
    Column("queue", "right", priority=2),
    Column("backlog", "right", priority=0),
)
_IN_SECONDS = {
    "min_uptime",
    "restart_window",
    "restart_delay",
    "backoff_initial",
    "backoff_max",
    "reset_after",
    "kill_timeout",
}
NOTHING = "-"


def listing(records: Sequence[Record], *, width: int, style: Style) -> str:
    """The table of all processes, by name and then by id."""
    if not records and style != "plain":
        return "no programs yet: try  pmx start app.py"
    plain = style == "plain"
    kept = [i for i, column in enumerate(_COLUMNS) if _is_said(records, column.header)]
    # The arrow is PM2's, but not everything at the other end of a pipe reads more than ASCII.
    columns = [column._replace(header="restarts") if plain and column.header == "↺" else column for column in _COLUMNS]
    ordered = sorted(records, key=lambda record: (str(record.get("name", "")), record.get("id", 0)))
    rows = [[cells[i] for i in kept] for cells in (_row(record, plain) for record in ordered)]
    return render([columns[i] for i in kept], rows, width=width, style=style)


def _is_said(records: Sequence[Record], header: str) -> bool:
    key = _OF_LISTENERS.get(header)
    return key is None or any(record.get(key) not in (None, []) for record in records)


def describe(record: Record, *, width: int, style: Style) -> str:
    """All about one process, with its recent changes at the end."""
    title = f"{_text(record, 'name')} (id {_text(record, 'id')})"
    pairs: list[tuple[str, Cell]] = [*_state(record, style == "plain"), *_setup(record), *_listeners(record)]
    pairs.extend((key, _policy_value(key, value)) for key, value in record.get("policy", {}).items())
    parts = [key_value(title, pairs, width=width, style=style)]
    slots = [[_text(slot, column.header) for column in _SLOTS] for slot in record.get("slots") or ()]
    changes = [_change(change) for change in record.get("history", ())]
    for heading, columns, rows in (("listeners", _SLOTS, slots), ("recent changes", _HISTORY, changes)):
        if rows:
            parts.append(f"{paint(heading, 'bold', style)}\n{render(columns, rows, width=width, style=style)}")
    return "\n\n".join(parts)


def _row(record: Record, plain: bool) -> list[Cell]:
    uptime = _duration(record.get("uptime"))
    return [
        (_text(record, "id"), "cyan"),
        _text(record, "name"),
        _text(record, "namespace"),
        _text(record, "mode"),
        ("," if plain else ", ").join(record.get("ports") or ()) or NOTHING,
        _connections(record, plain),
        _text(record, "queue"),
        _text(record, "pid"),
        uptime.replace(" ", "") if plain else uptime,  # one word for awk, and still what parse_duration reads
        _text(record, "restarts"),
        _status(record, plain),
        _cpu(record),
        _memory(record),
        _text(record, "user"),
    ]


def _connections(record: Record, plain: bool) -> str:
    """How many there are, and which part that is of those of the whole application."""
    share = record.get("share_of_connections")
    count = _text(record, "connections")
    if share is None or count == NOTHING:
        return count
    return f"{count}/{share:.0f}%" if plain else f"{count} {share:.0f}%"


def _status(record: Record, plain: bool) -> Cell:
    """The status in its colour; for people with the time that is left of a back-off."""
    status = _text(record, "status")
    retry_in = record.get("retry_in")
    if status == "backoff" and retry_in is not None and not plain:
        return (f"{status} {_short(retry_in)}", _COLOURS[status])
    return (status, _COLOURS.get(status, ""))


def _short(seconds: float) -> str:
    """A delay with a tenth of a second where that matters."""
    return f"{max(0.0, seconds):.1f}s" if seconds < 10 else format_duration(seconds)


def _state(record: Record, plain: bool) -> list[tuple[str, Cell]]:
    said = record.get("status_text")
    return [
        ("status", _status(record, plain)),
        *([("says of itself", str(said))] if said else []),
        ("wanted", _text(record, "wanted")),
        ("cause", _text(record, "cause")),
        ("last exit", _text(record, "exit")),
        ("pid", _text(record, "pid")),
        ("uptime", _duration(record.get("uptime"))),
        ("restarts", _text(record, "restarts")),
        ("cpu", _cpu(record)),
        ("memory", _memory(record)),
        ("created at", _moment(record.get("created_at"))),
    ]


def _setup(record: Record) -> list[tuple[str, Cell]]:
    count = record.get("env_count")
    return [
        ("namespace", _text(record, "namespace")),
        ("instance", _text(record, "instance")),
        ("exec mode", _text(record, "mode")),
        ("script path", _text(record, "script")),
        ("command", " ".join(map(_quoted, record.get("argv") or ())) or NOTHING),
        ("interpreter", _text(record, "interpreter")),
        ("exec cwd", _text(record, "cwd")),
        ("out log path", _text(record, "out_file")),
        ("error log path", _text(record, "error_file")),
        ("user", _text(record, "user")),
        ("environment", NOTHING if count is None else f"{count} variable{'' if count == 1 else 's'}"),
    ]


def _listeners(record: Record) -> list[tuple[str, Cell]]:
    """What there is to say about the ports of a program; nothing for one that has none."""
    ready = record.get("ready")
    pairs: list[tuple[str, Cell]] = []
    if ready:
        pairs.append(("ready", f"after {_precise(ready.get('after'))} ({_text(ready, 'by')})"))
    if record.get("ports"):
        pairs.append(("ports", ", ".join(record["ports"])))
    if record.get("balance"):
        pairs.append(("balance", _text(record, "balance")))
    if record.get("unshared"):
        pairs.append(("shares its port", (f"no: {record['unshared']}", "yellow")))
    return pairs


def _change(change: Record) -> list[Cell]:
    to = _text(change, "to")
    return [_moment(change.get("at")), _text(change, "from"), (to, _COLOURS.get(to, "")), _text(change, "cause")]


def _text(record: Record, key: str) -> str:
    value = record.get(key)
    return NOTHING if value is None or value == "" else str(value)


def _duration(seconds: float | None) -> str:
    return NOTHING if seconds is None else format_duration(seconds)


def _precise(seconds: float | None) -> str:
    """A short time in milliseconds."""
    return f"{seconds * 1000:.0f} ms" if seconds is not None and seconds < 10 else _duration(seconds)


def _cpu(record: Record) -> str:
    cpu = record.get("cpu")
    return NOTHING if cpu is None else f"{cpu:.1f}%"


def _memory(record: Record) -> str:
    memory = record.get("memory")
    return NOTHING if memory is None else format_size(memory)


def _moment(epoch: float | None) -> str:
    """Local date and time."""
    if epoch is None:
        return NOTHING
    import time  # built in, and only `describe` needs it

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))


def _policy_value(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or NOTHING
    return format_duration(value) if key in _IN_SECONDS else str(value)


def _quoted(argument: str) -> str:
    """`argument` as a shell would have to be given it. Not shlex: it costs an import."""
    if argument and all(char.isalnum() or char in "%+,-./:=@_" for char in argument):
        return argument
    return "'" + argument.replace("'", "'\"'\"'") + "'"
