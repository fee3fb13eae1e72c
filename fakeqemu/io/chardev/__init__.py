"""Transports of character devices: sockets, files, ptys. See QEMU's directory chardev/."""
