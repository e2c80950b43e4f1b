"""What a supervisor may do to the world: the seam between rules and reality."""

from typing import Protocol

from pmx.core.lifecycle import Changed, Whom
from pmx.daemon.fleet import Instance


class Effects(Protocol):
    def spawn(self, instance: Instance, run: int) -> None:
        """Ask for a process. Spawned or SpawnFailed will follow."""

    def terminate(self, instance: Instance, run: int, whom: Whom) -> None:
        """Send the stop signal."""

    def kill(self, instance: Instance, run: int) -> None:
        """Send SIGKILL to everything of the run."""

    def changed(self, instance: Instance, change: Changed) -> None:
        """Publish a change of phase, and see to it that it is on record."""
