"""Descriptors that others name by a number: those that they gave the process, not its own.

A real QEMU looks a number up in its table of descriptors, whatever it finds there. This process
has other ones of its own, the event loop's among them: they are taken for closed.

See util/qemu-sockets.c: socket_get_fd(); monitor/fds.c: monitor_fd_param().
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import c_int, digits

if TYPE_CHECKING:
    from fakeqemu.model.fds.fdset import Fdset


def is_passed(fd: int, sets: Iterable[Fdset]) -> bool:
    """Whether `fd` came through exec, or is one whose number clients see in an fdset."""
    try:
        return os.get_inheritable(fd) or any(fd == each.fd for one in sets for each in one.fds)
    except (OSError, OverflowError):
        return False


def check_passed(address: Mapping[str, Any], passed_fd: Callable[[int], int]) -> None:
    """Refuse a flat SocketAddress that names a descriptor of the process's own.

    One with `number` was handed over by a client, under a name. Raises QapiError.
    """
    if address.get("type") != "fd" or "number" in address:
        return
    fd = digits(str(address["str"]))
    if fd is not None and c_int(fd) == fd and passed_fd(fd) < 0:
        raise QapiError(f"File descriptor '{fd}' is not a socket")
