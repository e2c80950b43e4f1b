"""What programs say to pmx and hear from it: node's IPC channel, and sd_notify(3).

The keeper holds both ends that matter; here are copies, as long as the run is of interest.
"""

import os

from pmx.core.nodeipc import internal
from pmx.daemon.bus import Bus
from pmx.daemon.channel import Channel
from pmx.daemon.fleet import Fleet, Instance
from pmx.daemon.keeperlink import KeeperLink
from pmx.daemon.nodecluster import NodeCluster
from pmx.daemon.notify import Notification, Notify
from pmx.daemon.sharing import Sharing
from pmx.keeper import protocol as p
from pmx.wire import topics


class Talks:
    """All channels, by the keeper's names for them."""

    def __init__(self, fleet: Fleet, link: KeeperLink, sharing: Sharing, bus: Bus) -> None:
        self._fleet = fleet
        self._link = link
        self._sharing = sharing
        self._bus = bus
        self._channels: dict[tuple[str, int], Channel] = {}
        self._clusters: dict[tuple[str, int], NodeCluster] = {}
        self._notifies: dict[str, Notify] = {}
        self._asked: set[str] = set()

    def want(self, instance: Instance, run: int) -> None:
        """Ask the keeper for the ends of what a run was given."""
        if instance.app.spec.node.channel:
            self._link.send(p.Open(f"ipc:{instance.key}:{run}"))
        if instance.key not in self._notifies and instance.key not in self._asked:
            self._asked.add(instance.key)
            self._link.send(p.Open(f"notify:{instance.key}"))

    def connect(self, name: str, fd: int) -> bool:
        """Take over `fd` of that name, if it is one of ours and somebody still wants it."""
        kind, key, *rest = name.split(":", 3)
        instance = self._fleet.find(key)
        if instance is None:
            return False
        if kind == "notify":
            self._asked.discard(key)
            self._notifies[key] = Notify(fd, lambda said: self._notified(key, said))
            return True
        run = int(rest[0])
        if kind == "ipc" and run == instance.machine.run:
            self._open_channel(instance, run, fd)
            return True
        if kind == "listen" and (key, run) in self._clusters:
            self._clusters[key, run].granted(rest[1], fd)
            return True
        return False

    def refused(self, fact: p.Refused) -> None:
        cluster = self._clusters.get((fact.key, fact.run))
        if cluster is not None:
            cluster.refused(fact.url, fact.errno)

    def send(self, instance: Instance, message: object) -> bool:
        """Send `message` over the channel of the present run; whether there is one. Raises ChannelFull."""
        channel = self._channels.get((instance.key, instance.machine.run))
        if channel is None:
            return False
        channel.send(message)
        return True

    def over(self, key: str, run: int) -> None:
        """The run has ended."""
        self._clusters.pop((key, run), None)
        channel = self._channels.pop((key, run), None)
        if channel is not None:
            channel.close()

    def forget(self, instance: Instance) -> None:
        """The instance is removed."""
        self.over(instance.key, instance.machine.run)
        notify = self._notifies.pop(instance.key, None)
        if notify is not None:
            notify.close()
        self._asked.discard(instance.key)
        self._link.send(p.Drop(f"notify:{instance.key}"))

    def close(self) -> None:
        for key, run in list(self._channels):
            self.over(key, run)
        for notify in self._notifies.values():
            notify.close()
        self._notifies.clear()

    def _open_channel(self, instance: Instance, run: int, fd: int) -> None:
        key = instance.key
        channel = Channel(fd, lambda message: self._heard(instance, run, message), lambda: self.over(key, run))
        self._channels[key, run] = channel
        if instance.app.spec.node.cluster:
            self._clusters[key, run] = NodeCluster(
                channel,
                lambda url: self._link.send(p.Listen(key, run, url)),
                lambda url: self._sharing.listens(instance, url),
            )

    def _heard(self, instance: Instance, run: int, message: object) -> None:
        if run != instance.machine.run:
            return
        cluster = self._clusters.get((instance.key, run))
        if internal(message):
            if cluster is not None:
                cluster.heard(message)
            return
        if message == "ready":
            self._sharing.ready(instance, "process.send('ready')")
        data = {"id": instance.id, "name": instance.app.spec.name, "run": run, "message": message}
        self._bus.publish(topics.message(instance.id), "message", data)

    def _notified(self, key: str, said: Notification) -> None:
        instance = self._fleet.find(key)
        if instance is None or not _believable(instance, said):
            return
        fields = said.fields
        if fields.get("READY") == "1":
            self._sharing.ready(instance, "READY=1")
        if "STATUS" in fields:
            instance.serving.status = fields["STATUS"]
        if fields.get("STOPPING") == "1":
            instance.serving.stopping = True
            self._sharing.steer(instance.app)


def _believable(instance: Instance, said: Notification) -> bool:
    """Anybody may send to an abstract socket: only root, ourselves and the program's own user are believed."""
    return said.uid in (0, os.geteuid(), instance.app.spec.command.identity.uid)
