"""Where a machine runs: in the test's loop, a thread, a process, a fork."""
