"""Standard input and output as a character device, and what to do where they are closed.

A process may be started with any of its three standard descriptors closed. The next file that
it opens would then get the number, and be taken for standard input or output; so the numbers
are occupied before anything else is opened, and it is remembered that nothing is there.

See chardev/char-stdio.c: qemu_chr_open_stdio(); os-posix.c: os_setup_post().
"""

from __future__ import annotations

import contextlib
import errno
import os

from fakeqemu.io.chardev.link_transport import LinkTransport
from fakeqemu.io.chardev.terminal import make_raw
from fakeqemu.io.link import FileEnd
from fakeqemu.io.loop import Loop
from fakeqemu.model.chardev.chardev import Chardev
from fakeqemu.qapi.errors import QapiError

_IN, _OUT, _ERROR = 0, 1, 2
#: standard descriptors that this process was started without
_closed: set[int] = set()


def occupy_closed() -> None:
    """Let no file of ours become standard input, output or error; called before any is opened."""
    for fd in (_IN, _OUT, _ERROR):
        try:
            os.fstat(fd)
        except OSError:
            _closed.add(fd)
            # the lowest free number, and those below are taken
            os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


class StdioTransport(LinkTransport):
    """Standard input and output; a terminal is put into raw mode and back again."""

    taken = False

    def __init__(self, loop: Loop, chardev: Chardev) -> None:
        """Raises QapiError if it is taken or closed. See chardev/char-stdio.c."""
        if StdioTransport.taken:
            raise QapiError("cannot use stdio by multiple character devices")
        if _closed & {_IN, _OUT} and not chardev.traits.stdio_may_be_closed:
            # a real one asserts that standard output is open
            raise QapiError(f"Failed to set FD nonblocking: {os.strerror(errno.EBADF)}")
        StdioTransport.taken = True
        self._terminal = make_raw(_IN, signals=bool(chardev.options.get("signal", True)))
        # what stands in for closed input is not at its end: there is nothing to come
        source = -1 if _IN in _closed else _IN
        super().__init__(loop, chardev, FileEnd(source, _OUT, owned=False))

    def close(self) -> None:
        """Leave the terminal as it was."""
        super().close()
        StdioTransport.taken = False
        if self._terminal is not None:
            import termios

            with contextlib.suppress(termios.error):
                termios.tcsetattr(_IN, termios.TCSANOW, self._terminal)
