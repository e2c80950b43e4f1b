"""The rules. Pure: no clock, no operating system, no await."""
