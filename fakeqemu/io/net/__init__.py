"""Sockets and TAP devices under network backends."""
