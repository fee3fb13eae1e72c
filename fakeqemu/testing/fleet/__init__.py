"""Many machines in one process, from one file."""
