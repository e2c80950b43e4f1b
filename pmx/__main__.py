"""The `pmx` command, also as ``python -m pmx``."""

import sys


def main() -> None:
    from pmx.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
