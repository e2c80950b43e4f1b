"""Effects on the real world: the keeper, the log files, the event bus, the snapshot."""

import os
from signal import SIGKILL
from typing import NamedTuple

from pmx.core.lifecycle import RESTING, Changed, Phase, Whom
from pmx.core.spec import AppSpec
from pmx.daemon import records
from pmx.daemon.bus import Bus
from pmx.daemon.channel import ChannelFull
from pmx.daemon.clock import wall
from pmx.daemon.fleet import Instance
from pmx.daemon.keeperlink import KeeperLink
from pmx.daemon.logs import Logs, pipe_name
from pmx.daemon.serving import Serving
from pmx.daemon.sharing import Sharing, shares, slot_of
from pmx.daemon.signals import stop_signal
from pmx.daemon.snapshot import Snapshot
from pmx.daemon.talks import Talks
from pmx.keeper import protocol as p
from pmx.paths import Home
from pmx.wire import topics

NOWHERE = ("/dev/null", "NULL")
"""Log files that mean: no log."""

STREAMS = ("out", "error")


class Outlets(NamedTuple):
    """Where what happens is written down."""

    logs: Logs
    bus: Bus
    snapshot: Snapshot


class Hands:
    """The Effects of a running daemon."""

    def __init__(self, home: Home, link: KeeperLink, outlets: Outlets, talks: Talks, sharing: Sharing) -> None:
        self._home = home
        self._link = link
        self._logs, self._bus, self._snapshot = outlets
        self.talks = talks
        self._sharing = sharing
        self._asked: set[str] = set()

    def spawn(self, instance: Instance, run: int) -> None:
        spec = instance.app.spec
        out, error = (self.pipe(instance, stream) for stream in STREAMS)
        marker = f"PMX_RUN={instance.id}.{run}@{self._home.root}"
        identity = spec.command.identity
        instance.serving = Serving(run)
        grouped = shares(instance.app)
        if grouped:
            self._sharing.steer(instance.app)
        order = p.Spawn(
            key=instance.key,
            run=run,
            argv=arguments(spec),
            env={**environment(instance, self._home), "PMX_RUN": marker.partition("=")[2]},
            cwd=spec.command.cwd,
            stdout=out,
            stderr=error,
            umask=spec.command.umask,
            uid=-1 if identity.uid is None else identity.uid,
            gid=-1 if identity.gid is None else identity.gid,
            groups=None if identity.groups is None else list(identity.groups),
            limits=list(spec.command.limits),
            marker=marker,
            tree=spec.stop.treekill,
            group=spec.name if grouped else "",
            slot=slot_of(instance),
            sockets=list(spec.sharing.listen),
            ports=[spec.sharing.port] if spec.sharing.port else [],
            trap=spec.sharing.share,
            channel=spec.node.channel,
            notify=True,
        )
        self._link.send(order)
        self.talks.want(instance, run)

    def terminate(self, instance: Instance, run: int, whom: Whom) -> None:
        if whom is Whom.GROUP and instance.app.spec.stop.shutdown_with_message:
            try:
                if self.talks.send(instance, "shutdown"):
                    return
            except ChannelFull:
                pass  # it does not read: the signal, then
        number = stop_signal(instance.app.spec.stop.signal, instance.machine.pid)
        self._link.send(p.Signal(instance.key, run, number, whom.value))

    def kill(self, instance: Instance, run: int) -> None:
        self._link.send(p.Signal(instance.key, run, SIGKILL, Whom.ALL.value))

    def changed(self, instance: Instance, change: Changed) -> None:
        at = wall()
        if change.new is Phase.ONLINE:
            instance.started_at = at
            instance.born = born(instance.machine.pid or 0)
        instance.history.append(
            {"at": at, "from": change.old.value, "to": change.new.value, "cause": change.cause, "run": change.run}
        )
        if change.new in RESTING:
            self._sharing.settled(instance)
        self._bus.publish(topics.process(instance.id), "process", records.change(instance, change, at))
        self._snapshot.changed()

    def connect(self, name: str, fd: int, instance: Instance | None, stream: str) -> None:
        """The keeper sent the log pipe called `name`: read it, or have it dropped when nobody wants it any more."""
        self._asked.discard(name)
        if instance is None or self._logs.has(name):
            os.close(fd)
            return
        self._logs.attach(name, fd, records.log_path(instance, stream, self._home))

    def disconnect(self, instance: Instance) -> None:
        """The instance is removed: write what is in its pipes, and give them up."""
        for stream in STREAMS:
            name = pipe_name(instance.id, stream)
            self._logs.detach(name)
            self._asked.discard(name)
            self._link.send(p.Drop(name))
        self.talks.forget(instance)

    def pipe(self, instance: Instance, stream: str) -> str:
        """The keeper's name of a log pipe, asked for if it is not connected yet; empty for no log."""
        if records.log_path(instance, stream, self._home) in NOWHERE:
            return ""
        name = pipe_name(instance.id, stream)
        if not self._logs.has(name) and name not in self._asked:
            self._asked.add(name)
            self._link.send(p.Open(name))
        return name


_MANAGERS = (
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
    "NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "NODE_UNIQUE_ID",
)  # fmt: skip
"""What another manager, of the shell that said ``pmx start``, told about itself. Its descriptors are not there."""


def environment(instance: Instance, home: Home) -> dict[str, str]:
    """The environment of one instance: its application's, and what tells it which instance it is."""
    spec: AppSpec = instance.app.spec
    env = {name: value for name, value in spec.command.env.items() if name not in _MANAGERS}
    env |= {
        "PMX_HOME": home.root,
        "PMX_ID": str(instance.id),
        "PMX_NAME": spec.name,
        "PMX_INSTANCE": str(instance.number),
        spec.instance_var: str(instance.number),
    }
    if spec.sharing.port:
        env["PORT"] = str(spec.sharing.port)
    if spec.increment_var:
        env[spec.increment_var] = str(int(env.get(spec.increment_var, "0")) + instance.number)
    if spec.node.cluster:
        env["NODE_UNIQUE_ID"] = str(instance.number + 1)  # node's own ids begin with 1
    return env


def arguments(spec: AppSpec) -> list[str]:
    """The command line, with the number of a declared socket for ``{fd.NAME}``: they are passed from 3 on."""
    argv = list(spec.command.argv)
    for fd, (name, _) in enumerate(spec.sharing.listen, 3):
        argv = [argument.replace(f"{{fd.{name}}}", str(fd)) for argument in argv]
    return argv


def born(pid: int) -> int:
    """When `pid` was started, in clock ticks since boot (proc(5): field 22 of stat); 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
