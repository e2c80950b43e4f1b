"""pmx doctor: try each mechanism on this machine, and say which guarantee holds."""
