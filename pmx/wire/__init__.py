"""What client and daemon say to each other. Standard library only: every `pmx ls` imports it."""
