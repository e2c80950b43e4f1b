"""A main process with a child in its group, and a grandchild that left the group and lost its parent.

argv[1] is a file; it gets the three pids in one line when all are there. All but the main one ignore SIGTERM when
argv[2] is "stubborn".
"""

import os
import signal
import sys

STUBBORN = len(sys.argv) > 2 and sys.argv[2] == "stubborn"


def linger() -> None:
    if STUBBORN:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(write_end, f"{os.getpid()} ".encode())
    while True:
        signal.pause()


read_end, write_end = os.pipe()
if os.fork() == 0:
    linger()
if os.fork() == 0:  # the go-between: makes a daemon the classic way, and goes
    os.setsid()
    if os.fork() == 0:
        linger()
    os._exit(0)
pids = b""
while pids.count(b" ") < 2:
    pids += os.read(read_end, 100)
with open(f"{sys.argv[1]}.new", "w") as file:
    file.write(f"{os.getpid()} {pids.decode()}")
os.rename(f"{sys.argv[1]}.new", sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    signal.pause()
