"""The way from a command to the daemon: find the home, see that a daemon is there, ask."""

import sys
from typing import Any

from pmx import paths
from pmx.client.launch import ensure, is_running
from pmx.client.session import Session


def ask(verb: str, args: dict[str, Any] | None = None) -> Any:
    """The daemon's result for `verb`; a daemon is started if there is none. Progress goes to stderr."""
    home = paths.find()
    ensure(home)
    with Session(home, lambda: is_running(home)) as session:
        return session.ask(verb, args, _progress)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)
