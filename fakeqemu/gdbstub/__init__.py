"""The gdb server without I/O: packets, registers, queries. See gdbstub/gdbstub.c."""
