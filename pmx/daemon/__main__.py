"""Start the daemon: ``python -P pmx/daemon/__main__.py --home DIR --keeper-fd N``. Only the keeper does.

Exit codes: 0 everything was ended on request, 1 it could not start, 3 the keeper is gone.
"""

import asyncio
import logging
import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

import zmq.asyncio  # noqa: E402

from pmx.daemon.app import Daemon  # noqa: E402
from pmx.paths import Home  # noqa: E402

log = logging.getLogger("pmx.daemon")


def main(argv: list[str]) -> int:
    if len(argv) != 4 or argv[0] != "--home" or argv[2] != "--keeper-fd":
        raise SystemExit("usage: daemon --home DIR --keeper-fd N")
    home, keeper_fd = Home(argv[1]), int(argv[3])
    os.umask(0o077)  # sockets and files of the home are ours alone; programs have an umask of their own (core.spec)
    os.set_inheritable(keeper_fd, False)
    _log_to(home.daemon_log)
    try:
        asyncio.run(_run(home, keeper_fd))
    except ConnectionError as error:
        log.error("lost the keeper: %s; programs go on, unmanaged", error)
        return 3
    except Exception:  # the last chance to say why; the keeper starts the next one
        log.exception("cannot go on")
        return 1
    return 0


async def _run(home: Home, keeper_fd: int) -> None:
    context = zmq.asyncio.Context()
    try:
        await Daemon(home, keeper_fd, context).run(context)
    finally:
        context.destroy(linger=500)


def _log_to(path: str) -> None:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s[%(process)d] %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
