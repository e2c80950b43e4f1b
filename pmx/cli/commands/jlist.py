"""pmx jlist: one line of JSON for scripts written for PM2, and nothing else on stdout, ever."""

from pmx.cli.ask import ask
from pmx.cli.render.pm2 import jlist


def fast() -> None:
    print(jlist(ask("ls", {"full": True})))
