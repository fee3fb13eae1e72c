"""Runs a program without what only Linux has: `python -m tests.support.without_linux FILE ARGS`.

It stands in for a host such as macOS: no epoll, memfd, eventfd, pidfd, locks of open files, holes,
/proc and /sys, abstract sockets, credentials beside messages.
"""

from __future__ import annotations

import builtins
import ctypes
import fcntl
import os
import runpy
import select
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

#: names that begin so are not there
HIDDEN: dict[Any, tuple[str, ...]] = {
    select: ("epoll", "EPOLL"),
    os: ("memfd_create", "MFD_", "eventfd", "EFD_", "pidfd_", "posix_fallocate", "sched_", "splice",
         "copy_file_range", "O_DIRECT", "O_TMPFILE", "SEEK_DATA", "SEEK_HOLE", "prlimit",
         "getrandom", "setns", "unshare"),
    fcntl: ("F_OFD_", "F_SEAL", "F_ADD_SEALS", "F_GET_SEALS", "F_SETPIPE"),
    socket: ("SO_PEERCRED", "SCM_CREDENTIALS", "SO_PASSCRED", "MSG_CMSG_CLOEXEC", "MSG_NOSIGNAL",
             "AF_VSOCK", "AF_NETLINK", "AF_PACKET", "IPPROTO_MPTCP", "TCP_KEEPIDLE", "VMADDR_",
             "SOCK_CLOEXEC", "SOCK_NONBLOCK", "accept4"),
    signal: ("pidfd_send_signal", "sigtimedwait", "sigwaitinfo"),
}  # fmt: skip


def hide() -> None:
    """Take it all away in this process."""
    # socket has imported it already
    setattr(selectors, "DefaultSelector", selectors.PollSelector)  # noqa: B010
    for module, names in HIDDEN.items():
        for name in [each for each in vars(module) if each.startswith(names)]:
            if name != "O_DIRECTORY":
                delattr(module, name)
    for owner, name in (
        (builtins, "open"), (os, "open"), (os, "stat"), (os, "lstat"), (os, "listdir"),
        (os, "scandir"), (os, "readlink"), (os, "access"),
    ):  # fmt: skip
        setattr(owner, name, _without_proc(getattr(owner, name)))
    for name in ("bind", "connect"):
        setattr(socket.socket, name, _without_abstract(getattr(socket.socket, name)))
    library = ctypes.CDLL

    class Library:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._library = library(*args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            if name in ("fallocate", "prctl", "memfd_create", "sched_setaffinity"):
                raise AttributeError(name)
            return getattr(self._library, name)

    setattr(ctypes, "CDLL", Library)  # noqa: B010
    sys.platform = "darwin-like"


def _without_proc(call: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
        text = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
        if isinstance(text, str) and text.startswith(("/proc", "/sys/")):
            raise FileNotFoundError(2, "No such file or directory", text)
        return call(path, *args, **kwargs)

    return guarded


def _without_abstract(call: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(sock: Any, address: Any) -> Any:
        if isinstance(address, str | bytes) and address[:1] in ("\0", b"\0"):
            raise OSError(22, "Invalid argument")
        return call(sock, address)

    return guarded


if __name__ == "__main__":
    hide()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
