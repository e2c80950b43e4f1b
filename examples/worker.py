"""A worker without a port: `pmx start worker.py`. Told to stop, it finishes the job in hand first."""

import itertools
import os
import signal
import threading
import time

INSTANCE = os.environ.get("NODE_APP_INSTANCE", "0")

stopping = threading.Event()


def stop(signum: int, frame: object) -> None:
    stopping.set()


def work(job: int) -> None:
    time.sleep(0.4)  # stands for the real thing; a signal does not cut it short
    print(f"worker {INSTANCE}: job {job} done", flush=True)


def main() -> None:
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for job in itertools.count(1):
        work(job)
        if stopping.wait(timeout=0.6):  # the pause between two jobs, which a signal does cut short
            break
    print(f"worker {INSTANCE}: bye", flush=True)


if __name__ == "__main__":
    main()
