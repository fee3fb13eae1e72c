"""Asking the program at the other end of a character device, and waiting for its answer.

Control channels of helpers (a TPM emulator, a vhost-user back end) are used like that: a request is
written, perhaps with descriptors, and everything waits until the whole answer is there. A real one
waits for ever; here a helper that is silent counts as one that has gone.

See chardev/char-fe.c: qemu_chr_fe_write_all(), qemu_chr_fe_read_all() and qemu_chr_fe_set_msgfds();
chardev/char-socket.c: tcp_chr_write() and tcp_chr_sync_read().
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import Chardev

#: seconds for an answer
PATIENCE = 10.0


def _failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class BlockingFrontend:
    """Who asks on a character device. Errors are OSError with the errno that QEMU ends up with."""

    def __init__(self, close_fd: Callable[[int], None]) -> None:
        self._close_fd = close_fd
        self._chardev: Chardev | None = None
        self._data = bytearray()
        self._fds: list[int] = []
        #: called when the helper has gone, and when it has come back
        self.on_client: Callable[[bool], None] | None = None

    def attach(self, chardev: Chardev, *, fe_open: bool = False) -> None:
        """Take the device. Raises QapiError if somebody has it."""
        chardev.attach(self, fe_open=fe_open, paused=True)
        self._chardev = chardev

    def detach(self) -> None:
        """Leave the device."""
        if self._chardev is not None:
            self._chardev.detach()
            self._chardev = None
        self._drop()

    @property
    def connected(self) -> bool:
        """Whether the helper is there."""
        return self._chardev is not None and self._chardev.connected

    def write_all(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send, with copies of descriptors where the device can do that. Raises OSError."""
        chardev = self._chardev
        if chardev is not None and chardev.backend != "socket":
            # it is written, but nothing can be read there, which is no error of the system's
            raise _failure(0)
        if chardev is None or not chardev.connected:
            raise _failure(errno.EIO)
        if fds:
            chardev.attach_fds(fds)
        chardev.write(data)
        chardev.wait(PATIENCE, lambda: not chardev.unread)
        if chardev.output_failed:
            chardev.disconnect()
            raise _failure(errno.EINVAL)

    def read_all(self, size: int) -> bytes:
        """The next `size` bytes that come; fewer before the end. Raises OSError."""
        chardev = self._chardev
        if chardev is None:
            raise _failure(errno.EIO)
        if not chardev.wait(PATIENCE, lambda: len(self._data) >= size or not chardev.connected):
            raise _failure(errno.ETIMEDOUT)
        if not self._data:
            raise _failure(errno.EOPNOTSUPP)
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken

    def received_fds(self) -> list[int]:
        """The descriptors that have come since the last call; the caller has them now."""
        fds, self._fds = self._fds, []
        return fds

    # -- the character device's side ---------------------------------------------------------

    @property
    def can_hotswap(self) -> bool:
        """What has been agreed on with one helper another does not know."""
        return False

    def chr_opened(self) -> None:
        """The helper is there."""
        self._drop()
        if self.on_client is not None:
            self.on_client(True)

    def chr_received(self, data: bytes, fds: Sequence[int]) -> None:
        """Part of an answer."""
        self._data += data
        self._fds += fds

    def chr_closed(self) -> None:
        """The helper has gone."""
        if self.on_client is not None:
            self.on_client(False)

    def _drop(self) -> None:
        self._data.clear()
        for fd in self.received_fds():
            self._close_fd(fd)
