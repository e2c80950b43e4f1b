"""Ignores the polite signals; only SIGKILL ends it."""

import signal

signal.signal(signal.SIGTERM, lambda *_: print("no", flush=True))
signal.signal(signal.SIGINT, lambda *_: print("no", flush=True))
print("ready", flush=True)
while True:
    signal.pause()
