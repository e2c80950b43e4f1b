"""pmx describe: everything about programs."""

import sys

from pmx.cli.ask import ask
from pmx.cli.options import Selectors
from pmx.cli.render.listing import describe
from pmx.cli.render.table import screen


def command(selectors: Selectors) -> None:
    width, style = screen(sys.stdout)
    records = ask("describe", {"selectors": selectors})
    print("\n\n".join(describe(record, width=width, style=style) for record in records))
