"""Creates frontends of character devices that reach beyond the machine: qtest and gdb servers.

See system/qtest.c: qtest_server_init(); gdbstub/system.c: gdbserver_start().
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fakeqemu.model.chardev.chardev import Chardev
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.io.host import OsHost
    from fakeqemu.model.machine import Machine


def make_qtest(host: OsHost, vm: Machine, chardev: Chardev, log: str | None) -> Any:
    """Put a qtest server on a chardev; it has `detach()`.

    `log`: a path, "none", or None for standard error. Raises QapiError if the chardev is in use.
    """
    from fakeqemu.qmp.qtest import QtestServer

    return QtestServer(vm, chardev, _log(host, log))


def serve_gdb(vm: Machine) -> Callable[[str | None], None]:
    """What puts the machine's one gdb server on a chardev, by its id, or on none."""
    server: Any = None

    def serve(chardev: str | None) -> None:
        nonlocal server
        if server is None:
            from fakeqemu.gdbstub.server import GdbServer

            server = GdbServer(vm)
        server.sit_on(vm.chardevs[chardev] if chardev is not None else None)

    return serve


def _log(host: OsHost, path: str | None) -> Callable[[str], None] | None:
    if path is None:
        return host.say
    if path == "none":
        return None
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except OSError:
        # a real one goes on without, too
        return None
    host.at_end(lambda: os.close(fd))
    return lambda line: _write(fd, line)


def _write(fd: int, line: str) -> None:
    try:
        os.write(fd, c_bytes(line) + b"\n")
    except OSError as error:
        sys.stderr.write(f"{error}\n")
