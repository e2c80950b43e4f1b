"""Thin and synchronous: asks the daemon and follows what it says. Imported by every `pmx ls`."""
