"""Shared ports, as the daemon sees them: which policy the keeper is told, who listens, and when listeners are closed.

An application's listeners live as long as one of its instances may come back: through restarts and back-offs, in which
connections wait in the queue. When all are at rest they are closed, so that clients are refused instead of waiting.
"""

import asyncio
import logging

from pmx.core.lifecycle import RESTING, Phase
from pmx.core.spec import SharePolicy
from pmx.daemon import sockets
from pmx.daemon.clock import monotonic
from pmx.daemon.fleet import App, Fleet, Instance
from pmx.daemon.keeperlink import KeeperLink
from pmx.daemon.serving import Serving
from pmx.keeper import protocol as p

log = logging.getLogger("pmx.sharing")

QUEUE_PATIENCE = 1.0
"""Seconds for which an instance that is to end may take in what waits in its queue."""
_LOOK = 0.01


class Sharing:
    """The listeners of all applications."""

    def __init__(self, fleet: Fleet, link: KeeperLink) -> None:
        self._fleet = fleet
        self._link = link
        self._weights: dict[str, dict[int, int]] = {}  # what the keeper was told, by application
        self._closing: dict[str, list[asyncio.Future[None]]] = {}  # what the keeper was told to close, by application
        self._born = monotonic()

    # ── what the keeper is told ──────────────────────────────────────────────────────────────────────────────────

    def steer(self, app: App, weights: dict[int, int] | None = None) -> None:
        """Tell the keeper how to spread connections over the slots of `app`: as configured, or by `weights`."""
        wanted = self.configured(app) if weights is None else weights
        if self._weights.get(app.spec.name) != wanted:
            self._weights[app.spec.name] = wanted
            balance = app.spec.sharing.balance
            told = "random" if balance == "least_conn" else balance
            self._link.send(p.Steer(app.spec.name, told, list(wanted.items())))

    def configured(self, app: App) -> dict[int, int]:
        """The weight of each slot by the policy; 0 for an instance that is on its way out."""
        policy = app.spec.sharing
        return {slot_of(i): 0 if i.serving.stopping else _weight(policy, i.number) for i in app.instances}

    def settled(self, instance: Instance) -> None:
        """The instance has come to rest: close what nobody will serve."""
        app = instance.app
        if not shares(app):
            return
        if all(each.machine.phase in RESTING for each in app.instances):
            self._weights.pop(app.spec.name, None)
            self._release(app.spec.name)
        elif app.spec.sharing.balance != "shared":
            self._release(app.spec.name, slot_of(instance))

    def _release(self, name: str, slot: int = -1) -> None:
        self._closing.setdefault(name, []).append(asyncio.get_running_loop().create_future())
        self._link.send(p.Release(name, slot))

    async def closed(self, names: set[str]) -> None:
        """Until all listeners of these applications that were to be closed are: then their ports are free."""
        for future in [each for name in names for each in self._closing.get(name, ())]:
            await asyncio.shield(future)  # it is everybody's who waits

    async def retire(self, instances: list[Instance]) -> None:
        """Give no new connections to `instances`, which are to end, where others of their application serve on.

        What waits in their queues is theirs to take, for at most QUEUE_PATIENCE.
        """
        leaving = [each for each in instances if _serves(each) and self._others_serve(each, instances)]
        for instance in leaving:
            instance.serving.stopping = True
        for app in {each.app.spec.name: each.app for each in leaving}.values():
            self.steer(app)
        inodes = {inode for each in leaving for inode in each.serving.listeners.values()}
        ports = {port for each in leaving for port in ports_of(each)}
        deadline = monotonic() + QUEUE_PATIENCE
        while inodes and monotonic() < deadline:
            await _tick(_LOOK)  # a connection in the making is on its way to the old listener still
            queues = sockets.listeners(ports)
            inodes = {inode for inode in inodes if inode in queues and queues[inode].waiting > 0}

    @staticmethod
    def _others_serve(instance: Instance, leaving: list[Instance]) -> bool:
        return instance.app.spec.sharing.balance != "shared" and any(
            _serves(each) for each in instance.app.instances if each not in leaving
        )

    # ── what the keeper tells ────────────────────────────────────────────────────────────────────────────────────

    def listening(self, fact: p.Listening) -> None:
        instance = self._fleet.find(fact.key) if fact.key else None
        if instance is None:
            if fact.group not in self._fleet.apps:
                log.error("closing the listener on %s of %s, which is in no snapshot", fact.url, fact.group)
                self._release(fact.group)
            return
        serving = self._of(instance, fact.run)
        if serving is not None:
            serving.listeners[fact.url] = fact.inode
            if fact.itself:
                self.listens(instance, fact.url)

    def released(self, name: str) -> None:
        """The keeper has done the oldest of what it was told to close."""
        waiting = self._closing.get(name)
        if waiting:
            waiting.pop(0).set_result(None)
            if not waiting:
                del self._closing[name]

    def unshared(self, fact: p.Unshared) -> None:
        instance = self._fleet.find(fact.key)
        serving = self._of(instance, fact.run) if instance is not None else None
        if instance is not None and serving is not None:
            serving.unshared = fact.why
            log.warning("%s[%d] shares no port: %s", instance.app.spec.name, instance.id, fact.why)

    def listens(self, instance: Instance, url: str) -> None:
        """The program came to listen, which is a sign of readiness."""
        self.ready(instance, f"listen {url.removeprefix('tcp://')}")

    def ready(self, instance: Instance, by: str) -> None:
        """The first sign of readiness of the present run."""
        since = instance.machine.since
        instance.serving.ready(by, monotonic() - since if since >= self._born and _is_up(instance) else None)

    @staticmethod
    def _of(instance: Instance, run: int) -> Serving | None:
        """What is known of `run`, if that is the present one."""
        if run != instance.machine.run:
            return None
        if instance.serving.run != run:
            instance.serving = Serving(run)
        return instance.serving


def shares(app: App) -> bool:
    """Whether the keeper makes listeners for `app`."""
    return app.spec.sharing.share or bool(app.spec.sharing.listen) or app.spec.node.cluster


def slot_of(instance: Instance) -> int:
    """Which listener of each port is the instance's."""
    return 0 if instance.app.spec.sharing.balance == "shared" else instance.number


def ports_of(instance: Instance) -> set[int]:
    """The TCP ports that it listens on."""
    return {int(url.rpartition(":")[2]) for url in instance.serving.listeners if url.startswith("tcp:")}


def _weight(policy: SharePolicy, number: int) -> int:
    return policy.weights[number] if number < len(policy.weights) else 1


def _serves(instance: Instance) -> bool:
    return _is_up(instance) and bool(instance.serving.listeners)


def _is_up(instance: Instance) -> bool:
    return instance.machine.phase in (Phase.ONLINE, Phase.STARTING)


async def _tick(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_later(seconds, done.set_result, None)
    await done
