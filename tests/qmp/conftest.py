"""A machine with a handful of commands, and sessions of it."""

from tests.support.sessions import client, connect, make_vm, stubs, vm

__all__ = ["client", "connect", "make_vm", "stubs", "vm"]
