"""pmx restart: end programs and start them anew."""

import os
from typing import Annotated

import typer

from pmx.cli.ask import ask
from pmx.cli.options import Selectors
from pmx.cli.show import names, show_list


def command(
    selectors: Selectors,
    update_env: Annotated[
        bool, typer.Option("--update-env", "-a", help="Give them the environment of this shell.")
    ] = False,
) -> None:
    args: dict[str, object] = {"selectors": selectors}
    if update_env:
        args["env"] = dict(os.environ)
    records = ask("restart", args)["records"]
    print(f"restarted {names(records) or 'nothing'}")
    show_list(records)
