"""pmx ls: all programs in a table."""

from pmx.cli.ask import ask
from pmx.cli.show import show_list


def fast() -> None:
    show_list(ask("ls"))
