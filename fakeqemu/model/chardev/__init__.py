"""Character devices without I/O: backends in memory, multiplexers. See chardev/char.c."""
