"""Descriptors and what to do when they become readable: the loop's only wait."""

import select
from collections.abc import Callable


class Poller:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._closers: dict[int, Callable[[], None]] = {}

    def add(self, fd: int, reader: Callable[[], None], events: int = select.EPOLLIN) -> None:
        self._readers[fd] = reader
        self._epoll.register(fd, events)

    def on_hang_up(self, fd: int, closer: Callable[[], None]) -> None:
        """Call `closer` instead of the reader of `fd` when its other end is gone and there is nothing to read."""
        self._closers[fd] = closer

    def remove(self, fd: int) -> None:
        del self._readers[fd]
        self._closers.pop(fd, None)
        self._epoll.unregister(fd)

    def want_writable(self, fd: int, wanted: bool) -> None:
        """Also call the reader of `fd` when it becomes writable, or no longer."""
        self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def wait(self, timeout: float | None) -> None:
        """Wait for something to do, at most `timeout` seconds, and do it. Raises what a reader raised, after all had
        their turn: an edge (EPOLLET) is told only once."""
        failed: list[Exception] = []
        due = [(fd, events, self._readers.get(fd)) for fd, events in self._epoll.poll(timeout)]
        for fd, events, reader in due:
            if reader is None or self._readers.get(fd) is not reader:
                continue  # an earlier one of this round has closed it, and the number may be another's by now
            try:
                (reader if events & select.EPOLLIN else self._closers.get(fd, reader))()
            except Exception as error:  # noqa: BLE001  # raised below
                failed.append(error)
        if failed:
            raise failed[0]
