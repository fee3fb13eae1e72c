"""Processes that tests talk to without waiting for their sockets to appear."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def fake(profile: str, *options: str) -> list[str]:
    """The command of a fake one."""
    return [sys.executable, "-m", "fakeqemu", "run", "--profile", profile, *options, "--"]


class QemuProcess:
    """A running QEMU, real or fake, with a QMP socket that it takes over listening already.

    A real one may greet twice, or not at all, who connects while its threads set the monitor up
    (7.2 in monitor_init_qmp, one start in some thousands). So a second monitor, on a connected
    pair of sockets, says when the first is set up: its greeting comes from the same thread, later.
    """

    def __init__(
        self, command: Sequence[str | Path], argv: Sequence[str], folder: Path, **settings: Any
    ) -> None:
        self.path = str(folder / "qmp")
        Path(self.path).unlink(missing_ok=True)
        ours, theirs = socket.socketpair()
        with socket.socket(socket.AF_UNIX) as listener, ours:
            listener.bind(self.path)
            listener.listen()
            fd = listener.fileno()
            self.process = subprocess.Popen(
                [*command, *argv, "-display", "none",
                 "-chardev", f"socket,id=qmp,fd={fd},server=on,wait=off",
                 "-mon", "chardev=qmp,mode=control",
                 "-chardev", f"socket,id=ready,fd={theirs.fileno()}",
                 "-mon", "chardev=ready,mode=control"],
                pass_fds=[fd, theirs.fileno()],
                **{
                    "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL,
                    "stderr": subprocess.DEVNULL, **settings,
                },
            )  # fmt: skip
            theirs.close()
            ours.settimeout(30)
            ours.recv(1)  # or end of file: whoever connects learns of it

    def stop(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait(10)

    async def __aenter__(self) -> QemuProcess:
        from qemu.qmp import QMPClient

        self.client = QMPClient("process")
        await self.client.connect(self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.disconnect()
        self.stop()

    async def qmp(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """The reply's value."""
        return await self.client.execute(command, arguments)
