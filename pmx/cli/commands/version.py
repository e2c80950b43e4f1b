"""pmx version: of the command line, and of the daemon if one runs. Starts none."""

from pmx import __version__, paths
from pmx.cli.ask import ask
from pmx.client.launch import is_running


def fast() -> None:
    print(f"pmx {__version__}")
    if is_running(paths.find()):
        print(f"daemon {ask('version')['version']}")
