"""One module per command: options, then a question to the daemon, then what to show."""
