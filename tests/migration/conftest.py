"""Machines with a migration object, in a world of streams."""

from tests.support.migration import clock, host, make

__all__ = ["clock", "host", "make"]
