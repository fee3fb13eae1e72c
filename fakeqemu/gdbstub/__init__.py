"""The gdb server without I/O: packets, registers, queries (gdbstub/*.c)."""
