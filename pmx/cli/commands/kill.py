"""pmx kill: stop everything and end the daemon; returns when nothing is left of it."""

import os
import select

from pmx import paths
from pmx.cli.ask import ask
from pmx.client.launch import is_running
from pmx.errors import TookTooLong

_PATIENCE_MS = 30_000


def command() -> None:
    home = paths.find()
    paths.check_ours(home)
    if not is_running(home):
        print("there is no daemon to end")
        return
    answer = ask("kill")
    _wait_for_end(answer["keeper"])
    stopped = answer["stopped"]
    print(f"stopped {stopped} program{'' if stopped == 1 else 's'} and the daemon")


def _wait_for_end(pid: int) -> None:
    try:
        keeper = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(keeper, select.POLLIN)
    ended = poll.poll(_PATIENCE_MS)
    os.close(keeper)
    if not ended:
        raise TookTooLong(f"the keeper (pid {pid}) has not ended within 30 s", "see keeper.log in its home")
