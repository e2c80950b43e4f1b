"""The real keeper loop in a process of its own, with the test as its daemon.

The keeper starts a stub that hands its end of the link to the test and then lives until the test ends or it is told
how to exit. So the test speaks the protocol with a keeper that forks, reaps and restarts as always.
"""

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from pmx.keeper import protocol as p
from tests.unit.support import LIMIT, ROOT, await_end, await_readable, read_until

STUB = """
import os, socket, sys
link = int(sys.argv[3])
meeting = socket.socket(socket.AF_UNIX)
meeting.connect(sys.argv[1])
socket.send_fds(meeting, [str(os.getpid()).encode()], [link])
os.close(link)
os._exit(int(meeting.recv(16) or b"0"))
"""

KEEPER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pmx.keeper import linux
from pmx.keeper.brain import Brain
from pmx.keeper.loop import Keeper
linux.become_subreaper()
stub = Brain([sys.executable, "-I", "-S", "-c", sys.argv[2], sys.argv[3]])
nofile = (int(sys.argv[4]), int(sys.argv[5]))
sys.exit(Keeper(stub, lambda problem: os.write(1, (problem + "\\n").encode()), nofile).run())
"""

M = TypeVar("M", bound=p.Message)


class Daemon:
    """The daemon's end of one connection."""

    def __init__(self, meeting: socket.socket, directory: str) -> None:
        self._directory = directory
        self._meeting = meeting
        text, (fd,), _, _ = socket.recv_fds(meeting, 100, 1, socket.MSG_CMSG_CLOEXEC)
        self.pid = int(text)
        self.link = socket.socket(fileno=fd)
        self._decoder = p.Decoder()
        self._heard: list[tuple[p.Message, list[int]]] = []

    def say(self, *messages: p.Message) -> None:
        self.link.sendall(b"".join(p.encode(self._marked(message)) for message in messages))

    def _marked(self, message: p.Message) -> p.Message:
        """With our directory in its environment: by that the test finds what it left behind."""
        if isinstance(message, p.Spawn):
            return message._replace(env={**message.env, "STAGE": self._directory})
        return message

    def hear(self, kind: type[M]) -> M:
        """The next message, which must be of this kind."""
        message, fds = self._next()
        assert fds == []
        assert isinstance(message, kind), f"{message} came instead of {kind.__name__}"
        return message

    def find(self, kind: type[M], key: str = "0") -> M:
        """The next message of this kind about `key`, whatever has come before it; that is still to be heard."""
        message, fds = self._find(lambda it: isinstance(it, kind) and getattr(it, "key", key) == key)
        assert fds == []
        assert isinstance(message, kind)
        return message

    def descriptor(self, name: str) -> int:
        """The descriptor that comes by this name."""
        _, (fd,) = self._find(lambda it: it == p.Descriptor(name))
        return fd

    def pipe(self, name: str) -> int:
        """Ask for a named descriptor, and return it; a log pipe is made."""
        self.say(p.Open(name))
        return self.descriptor(name)

    def settled(self) -> list[p.Message]:
        """What the keeper has said until it has done all that it was told; nothing of it is still to be heard."""
        self.say(p.Listen("", 0, "settled?"))
        self.find(p.Refused, "")
        heard, self._heard = self._heard, []
        assert not any(fds for _, fds in heard)
        return [message for message, _ in heard]

    def hear_of(self, keys: Iterable[str], kind: type[M]) -> dict[str, list[p.Message]]:
        """All that comes until a message of this kind has come for each of `keys`, by key."""
        missing, found = set(keys), dict[str, list[p.Message]]()
        while missing:
            message, _ = self._next()
            key = getattr(message, "key")  # noqa: B009  # only some kinds have one; the others fail the test
            found.setdefault(key, []).append(message)
            if isinstance(message, kind):
                missing.discard(key)
        return found

    def ended(self) -> bool:
        """Whether the keeper hung up, and said nothing before."""
        await_readable(self.link.fileno())
        return not self._heard and self.link.recv(1) == b""

    def _next(self) -> tuple[p.Message, list[int]]:
        return self._find(lambda _: True)

    def _find(self, wanted: Callable[[p.Message], bool]) -> tuple[p.Message, list[int]]:
        seen = 0
        while True:
            for at, (message, _) in enumerate(self._heard[seen:], seen):
                if wanted(message):
                    return self._heard.pop(at)
            seen = len(self._heard)
            await_readable(self.link.fileno())
            data, fds, _, _ = socket.recv_fds(self.link, 1 << 20, p.MAX_FDS, socket.MSG_CMSG_CLOEXEC)
            assert data, "the keeper hung up"
            self._heard += self._decoder.feed(data, fds)

    def exit(self, code: int = 0) -> None:
        """End, with this status."""
        self.hang_up()
        self._meeting.send(str(code).encode())
        self._meeting.close()

    def die(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.hang_up()
        self._meeting.close()

    def hang_up(self) -> None:
        self.link.close()

    def close(self) -> None:
        self.link.close()
        self._meeting.close()


class Stage:
    """The keeper, and whoever comes as its daemon."""

    def __init__(self, directory: str, within: Sequence[str] = (), python: str = sys.executable) -> None:
        """The keeper is run by the command `within`, which may take rights away, in `python`."""
        self.directory = directory
        self.log_path = f"{directory}/keeper.log"
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(f"{directory}/door")
        self._door.listen()
        os.chmod(directory, 0o711)
        os.chmod(f"{directory}/door", 0o777)  # whoever the keeper is
        self._daemons: list[Daemon] = []
        limits = map(str, resource.getrlimit(resource.RLIMIT_NOFILE))
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*within, python, "-I", "-S", "-c", KEEPER, ROOT, STUB, f"{directory}/door", *limits],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def daemon(self) -> Daemon:
        """The daemon that the keeper starts next."""
        await_readable(self._door.fileno())
        meeting, _ = self._door.accept()
        await_readable(meeting.fileno())
        self._daemons.append(Daemon(meeting, self.directory))
        return self._daemons[-1]

    def ready(self) -> Daemon:
        """A daemon that has met the keeper and says that it serves."""
        daemon = self.daemon()
        daemon.hear(p.Hello)
        daemon.say(p.Ready())
        return daemon

    def ready_with(self) -> p.Hello:
        """What the keeper tells the next daemon."""
        daemon = self.daemon()
        hello = daemon.hear(p.Hello)
        daemon.say(p.Ready())
        return hello

    def told(self) -> str:
        """What the keeper tells whoever started it."""
        assert self.process.stdout is not None
        return read_until(self.process.stdout.fileno()).decode()

    def log(self) -> str:
        with open(self.log_path, encoding="utf-8") as file:
            return file.read()

    def end(self) -> int:
        """Until the keeper has ended: its exit status."""
        await_end(self.process.pid)
        return self.process.wait(LIMIT)

    def close(self) -> None:
        """End the keeper as its daemon would, or at once when there is none."""
        try:
            if self.process.poll() is None:
                try:
                    self._daemons[-1].say(p.Quit())
                    self._daemons[-1].exit()
                except (OSError, IndexError):
                    self.process.terminate()
                self.end()
        finally:
            self._door.close()
            for daemon in self._daemons:
                daemon.close()
            self.process.kill()
            self.process.communicate()
