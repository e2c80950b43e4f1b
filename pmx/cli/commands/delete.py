"""pmx delete: end programs and remove them from the list. Log files stay."""

from pmx.cli.ask import ask
from pmx.cli.options import Selectors


def command(selectors: Selectors) -> None:
    deleted = ask("delete", {"selectors": selectors})["deleted"]
    print(f"deleted {len(deleted)} program{'' if len(deleted) == 1 else 's'}")
