"""What makes the files that nobody writes by hand. Run by `make generate`."""
