"""Transports of character devices: sockets, files, ptys."""
