"""Written for PM2: it catches SIGINT and nothing else."""

import signal
import sys

signal.signal(signal.SIGINT, lambda *_: (print("got SIGINT", flush=True), sys.exit(0)))
print("ready", flush=True)
while True:
    signal.pause()
