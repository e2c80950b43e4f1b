"""Prints "ready PID" and waits for a signal. Ends with code 0 on SIGTERM, and says so."""

import os
import signal
import sys

signal.signal(signal.SIGTERM, lambda *_: (print("bye", flush=True), sys.exit(0)))
print("ready", os.getpid(), *sys.argv[1:], flush=True)
while True:
    signal.pause()
