"""Put rendered text on standard output, as wide and as colourful as it can be."""

import sys
from typing import Any

from pmx.cli.render.listing import listing
from pmx.cli.render.table import screen


def show_list(records: list[dict[str, Any]]) -> None:
    """The table of `pmx ls`."""
    width, style = screen(sys.stdout)
    print(listing(records, width=width, style=style))


def names(records: list[dict[str, Any]]) -> str:
    """The programs in `records`, for a sentence: ``web (4 instances), worker``."""
    counts: dict[str, int] = {}
    for record in records:
        counts[record["name"]] = counts.get(record["name"], 0) + 1
    return ", ".join(f"{name} ({count} instances)" if count > 1 else name for name, count in counts.items())
