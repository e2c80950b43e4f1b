"""pmx stop: end programs, keep them in the list."""

from pmx.cli.ask import ask
from pmx.cli.options import Selectors
from pmx.cli.show import names, show_list


def command(selectors: Selectors) -> None:
    answer = ask("stop", {"selectors": selectors})
    records = answer["records"]
    stopped = [record for record in records if record["id"] in answer["stopped"]]
    print(f"stopped {names(stopped)}" if stopped else f"{names(records) or 'nothing'} was not running")
    show_list(records)
