"""The edges: sockets, files, processes, signals and the wall clock, and no model.

Everything is written against the small `Loop` protocol of `io.loop`. An asyncio event loop
satisfies it, so a test can hold a machine in its own loop; the `fakeqemu` process uses
`PollLoop`, because importing asyncio would double its start-up time.
"""
