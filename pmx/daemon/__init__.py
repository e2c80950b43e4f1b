"""The brain. It may crash at any instruction: what it needs is in its snapshot and in the keeper."""
