"""The edges: sockets, files, processes, signals and the wall clock, and no model.

Everything runs on asyncio's event loop as `io.loop.Loop` shows it: the `fakeqemu` process starts
one after the command line is read, and a test holds a machine in its own.
"""
