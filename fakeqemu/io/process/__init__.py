"""The emulator as a process: start, daemonize, signals, pid file, exit status."""
