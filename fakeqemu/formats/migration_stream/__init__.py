"""QEMU's migration stream without I/O: bytes in, events out, and back.

* `reader.StreamReader` reads a main channel against an `load_context.LoadContext`; what it says is
  in `events`; a stream that is wrong ends in `events.Failed` with an `errors.StreamError`.
* `writer.StreamWriter` makes the pieces of a main channel out of a `writer.Source`.
* `channels.return_path`, `.multifd` and `.mapped_ram` do the same for the return path, the further
  channels, and for files in which each page has its place.

Pages and device states are described, never kept: reading needs no more memory than the
bytes handed in, however big the machine.
"""
