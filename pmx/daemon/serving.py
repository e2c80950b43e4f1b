"""What an instance serves, as the keeper and the program itself have told: observed, never wanted.

It is about one run, and new with each.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Serving:
    """`listeners` are the inode of each listening socket by its URL. `ready_after` is in seconds, None: not known."""

    run: int = 0
    listeners: dict[str, int] = field(default_factory=dict)
    unshared: str = ""  # why it has its ports for itself, though they were to be shared
    ready_by: str = ""
    ready_after: float | None = None
    status: str = ""  # what it says of itself (sd_notify: STATUS)
    stopping: bool = False  # it has said so, or we are about to end it: nothing new for it

    def ready(self, by: str, after: float | None) -> None:
        """The first sign counts."""
        if not self.ready_by:
            self.ready_by, self.ready_after = by, after
