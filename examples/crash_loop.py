"""A program that cannot work: `pmx start crash_loop.py`, and see what pmx makes of it."""

import sys
import time

print("starting, but not for long", flush=True)
time.sleep(0.05)
print("cannot go on: something is always missing", file=sys.stderr)
sys.exit(1)
