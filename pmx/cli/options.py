"""typer, for the commands that have options. Imported only for those."""

from importlib import import_module
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException
from typer.main import get_command

from pmx.errors import INTERRUPTED, UsageProblem

Selectors = Annotated[list[str], typer.Argument(help="Names, ids, namespaces, /regular expressions/, or all.")]

program_args: list[str] = []
"""What stood behind ``--``: the managed program's own arguments, which typer must not see."""


def run_typer(name: str, text: str, argv: list[str]) -> int:
    """Parse `argv` with the signature of the command's module, and run it."""
    if "--" in argv:
        split = argv.index("--")
        argv, program_args[:] = argv[:split], argv[split + 1 :]
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    module = import_module(f"pmx.cli.commands.{name}")
    settings = {"help_option_names": ["--help", "-h"], **getattr(module, "SETTINGS", {})}
    app.command(help=text, context_settings=settings)(module.command)
    try:
        result = get_command(app).main(argv, prog_name=f"pmx {name}", standalone_mode=False)
    except Abort:
        return INTERRUPTED
    except TyperException as error:
        why = error.format_message()
        raise UsageProblem(
            f"cannot {name}: {why[:1].lower()}{why[1:]}", f"pmx {name} --help shows the options"
        ) from None
    return result if isinstance(result, int) else 0
