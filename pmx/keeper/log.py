"""The keeper's log: standard error, which is keeper.log."""

import os
import time


def log(text: str) -> None:
    """One line. A full disk must not hurt."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    try:
        os.write(2, f"{now} keeper[{os.getpid()}] {text}\n".encode("utf-8", "replace"))
    except OSError:
        pass
