"""The only place that turns an error into a sentence on stderr and an exit status."""

import os
import sys
from collections.abc import Callable

from pmx import errors


def guarded(work: Callable[[], int]) -> int:
    """The exit status of `work`, whatever it raises. See `pmx.errors` for the statuses."""
    try:
        status = work()
        sys.stdout.flush()
        return status
    except errors.PmxError as error:
        _say(error.message, error.hint)
        return error.exit_status
    except KeyboardInterrupt:
        return errors.INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:  # the boundary: a bug is told as one, with where to look
        if os.environ.get("PMX_DEBUG"):
            raise
        _say(f"internal error: {type(error).__name__}: {error}", "PMX_DEBUG=1 shows where; please report it")
        return errors.InternalError.exit_status


def _say(message: str, hint: str) -> None:
    from pmx.cli.render.table import paint, screen

    _, style = screen(sys.stderr)
    print(paint("pmx:", "red", style), message, file=sys.stderr)
    if hint:
        print(paint(f"     {hint}", "dim", style), file=sys.stderr)
