"""Prints numbered lines as fast as it can, argv[1] of them, then "end"."""

import sys

for number in range(int(sys.argv[1])):
    print(f"line {number:08d} " + "x" * 60)
print("end", flush=True)
