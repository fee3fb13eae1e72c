"""The emulator as a process: start, daemonize, signals, exit status. See os-posix.c."""
