"""The composition root: builds the parts, connects them, runs them, and takes them apart.

Nothing imports it but the entry point and, for its type, the verbs.
"""

import asyncio
import logging
import os
from typing import Any

import zmq.asyncio

from pmx.core import lifecycle as lc
from pmx.daemon import snapshot
from pmx.daemon.balancer import Balancer
from pmx.daemon.bus import Bus
from pmx.daemon.commands import VERBS, unknown_verb
from pmx.daemon.control import Control, Tell
from pmx.daemon.facts import Facts
from pmx.daemon.fleet import Fleet
from pmx.daemon.hands import Hands, Outlets
from pmx.daemon.keeperlink import KeeperLink
from pmx.daemon.logs import Logs
from pmx.daemon.metrics import Metrics
from pmx.daemon.sharing import Sharing
from pmx.daemon.supervisor import Supervisor
from pmx.daemon.talks import Talks
from pmx.keeper import protocol as p
from pmx.paths import Home
from pmx.wire import topics
from pmx.wire.messages import Request

log = logging.getLogger("pmx.daemon")


class Daemon:
    """The parts. Verbs get this and use what they need."""

    def __init__(self, home: Home, keeper_fd: int, context: zmq.asyncio.Context) -> None:
        self.home = home
        self.fleet = Fleet()
        snapshot.load(home.snapshot, self.fleet)
        self.metrics = Metrics()
        self.link = KeeperLink(keeper_fd)
        self.bus = Bus(context, f"ipc://{home.events}")
        self.logs = Logs(self._log_grew)
        self.snapshot = snapshot.Snapshot(home.snapshot, self.fleet, self._on_record)
        self.sharing = Sharing(self.fleet, self.link)
        talks = Talks(self.fleet, self.link, self.sharing, self.bus)
        self.hands = Hands(home, self.link, Outlets(self.logs, self.bus, self.snapshot), talks, self.sharing)
        self.supervisor = Supervisor(self.hands)
        self.facts = Facts(self, self.link)
        self.ending: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run(self, context: zmq.asyncio.Context) -> None:
        """Serve until told to end. Raises ConnectionError when the keeper is lost."""
        self.link.listen(self.facts.heard, self._keeper_lost)
        await self.facts.met
        self.snapshot.write()
        control = Control(context, f"ipc://{self.home.control}", self._dispatch)
        serving = asyncio.create_task(control.serve())
        told = asyncio.create_task(self._obey_keeper())
        self.link.send(p.Ready())
        balancer = Balancer(self.fleet, self.sharing)
        balancer.start()
        log.info("ready: %d programs", len(self.fleet.by_id))
        self.bus.publish(f"{topics.DAEMON}ready", "daemon", {"state": "ready"})
        try:
            why = await self.ending
            log.info("ending: %s", why)
            self.logs.close()
            self.hands.talks.close()
            self.link.send(p.Quit())
        finally:
            balancer.stop()
            told.cancel()
            serving.cancel()
            await control.finish()
            self.bus.publish(f"{topics.DAEMON}ending", "daemon", {"state": "ending"})
            self.bus.close()
        # Not when the keeper was lost: its successor's daemon may be listening there by now.
        self._remove_sockets()

    async def stop_all(self) -> None:
        """Stop every program, and wait until all have ended."""
        instances = self.fleet.instances()
        for instance in instances:
            self.supervisor.apply(instance, lc.Stop("the daemon ends"))
        for instance in instances:
            await self.supervisor.until(instance, lambda machine: machine.phase is lc.Phase.STOPPED)

    def end(self, why: str) -> None:
        """End when the requests under way are answered. Everything must be stopped."""
        if not self.ending.done():
            self.ending.set_result(why)

    async def _obey_keeper(self) -> None:
        """The keeper was told to end, as at the machine's shutdown: what is wanted is kept for the next boot."""
        reason = await self.facts.told_to_end
        self.snapshot.freeze()
        await self.stop_all()
        self.end(reason)

    async def _dispatch(self, request: Request, tell: Tell) -> Any:
        verb = VERBS.get(request.verb)
        if verb is None:
            raise unknown_verb(request.verb)
        return await verb(self, request.args, tell)

    def _remove_sockets(self) -> None:
        """libzmq leaves them."""
        for path in (self.home.control, self.home.events):
            os.unlink(path)
        if self.home.run != self.home.root:
            os.rmdir(self.home.run)

    def _keeper_lost(self, why: str) -> None:
        if not self.ending.done():
            self.ending.set_exception(ConnectionError(why))

    def _on_record(self) -> None:
        self.facts.on_record()

    def _log_grew(self, instance_id: int, stream: str) -> None:
        self.bus.publish(topics.log(instance_id), "log", {"id": instance_id, "stream": stream})
