"""What a program may tell pmx, if it likes to: that it is ready, that it is about to end, how it fares.

    import pmx.app

    server.start()
    pmx.app.ready()

Nothing here is needed, needs anything, or raises when pmx is not there: a program that says `ready()` runs in a shell,
under pytest and under systemd (it is sd_notify(3)) as well. Every function may be called from any thread.
"""

# Not socket, which costs 10 ms; and not when it is needed: a program that has given up its rights (setuid, chroot) can
# often import nothing any more.
import _socket
import os

_PATIENCE = 1.0
"""Seconds to wait when the manager does not read: only for what must not be lost, and only when its queue is full."""
_LONGEST_STATUS = 1000


def ready() -> bool:
    """Say that the program does its work from now on: it listens, it has its connections, its caches are warm.

    Until then `pmx reload` leaves the instance that this one replaces where it is. True when somebody was told.
    """
    return _tell("READY=1", _PATIENCE)


def stopping() -> bool:
    """Say that the program is about to end of its own accord. True when somebody was told."""
    return _tell("STOPPING=1", _PATIENCE)


def status(text: str) -> bool:
    """Say in one line what the program does, for whoever looks: `status("23 of 40 files indexed")`.

    As often as you like: it never waits. Line breaks become spaces, and what is beyond 1,000 characters is cut. True
    when somebody was told.
    """
    return _tell(f"STATUS={' '.join(text[:_LONGEST_STATUS].split())}", 0.0)


def instance() -> int:
    """Which instance of the application this is, from 0; 0 outside of pmx, too.

    For what only one of them should do: `if pmx.app.instance() == 0: start_the_scheduler()`.
    """
    number = os.environ.get("PMX_INSTANCE", "")
    return int(number) if number.isascii() and number.isdigit() else 0


def _tell(message: str, patience: float) -> bool:
    """Send one datagram to whom NOTIFY_SOCKET names: a path, or with @ an abstract socket (unix(7))."""
    address = os.fsencode(os.environ.get("NOTIFY_SOCKET", ""))
    if address[:1] not in (b"/", b"@"):
        return False
    try:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    except OSError:
        return False
    try:
        sock.settimeout(patience)
        sock.sendto(message.encode("utf-8", "replace"), b"\0" + address[1:] if address[:1] == b"@" else address)
    except OSError:
        return False
    finally:
        sock.close()
    return True
