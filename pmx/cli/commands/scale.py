"""pmx scale: change how many instances of a program run."""

from typing import Annotated, Any

import typer

from pmx.cli.ask import ask
from pmx.cli.show import show_list

SETTINGS = {"ignore_unknown_options": True}
"""For typer: -1 is no option."""


def command(
    program: Annotated[str, typer.Argument(help="Its name or id.")],
    to: Annotated[str, typer.Argument(help="How many: a number, +2, -1, or max (one a core).")],
) -> None:
    show_list(resize(program, to))


def resize(program: str, to: str) -> list[dict[str, Any]]:
    """Have it done, and say what was; the records of all its instances."""
    answer = ask("scale", {"selectors": [program], "to": to})
    name, before, after = answer["name"], answer["from"], answer["to"]
    if before == after:
        print(f"{name} has {after} instance{'' if after == 1 else 's'} already")
    else:
        print(f"scaled {name} from {before} to {after}")
    records: list[dict[str, Any]] = answer["records"]
    return records
