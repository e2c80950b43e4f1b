"""pmx keeps programs running. This file holds the version and nothing else: the keeper and every `pmx ls` run it."""

__version__ = "0.1.0"
