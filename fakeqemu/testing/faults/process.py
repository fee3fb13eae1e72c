"""What faults do to the process itself, and who is spared: the handle's own client, as it comes."""

from __future__ import annotations

import contextlib
import os
import signal as signals
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fakeqemu.io.loop import Loop
from fakeqemu.testing.faults.model import Exit

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.machine import Machine
    from fakeqemu.qmp.session import QmpSession


def exit_status(exit: Exit) -> int:
    """What the process leaves with: below zero, a signal."""
    if exit.signal is None:
        return exit.code
    if isinstance(exit.signal, int):
        return -exit.signal
    return -int(signals.Signals[f"SIG{exit.signal.upper().removeprefix('SIG')}"])


def stop_process(
    loop: Loop, seconds: float | None, resume: Callable[[], None]
) -> None:
    """Really stop it, at the loop's next turn; `resume` when it goes on, after `seconds`."""

    def stop() -> None:
        os.kill(os.getpid(), signals.SIGSTOP)
        resume()

    if seconds is not None:
        # whoever is stopped cannot wake himself: a child does it
        wake = f"sleep {seconds}; kill -CONT {os.getpid()}"
        os.posix_spawnp("sh", ["sh", "-c", wake], os.environ)
    loop.call_soon(stop)


def remove_sockets(vm: Machine) -> Iterator[Chardev]:
    """Delete the socket files of the character devices; each device as it loses its own."""
    for chardev in vm.chardevs.values():
        address = chardev.address
        if address.get("type") == "unix" and chardev.is_server and "path" in address:
            yield chardev
            with contextlib.suppress(OSError):
                Path(address["path"]).unlink()


def arriving(session: QmpSession) -> bool:
    """Whether it is the handle's own client, which introduces itself: that always goes well."""
    chardev = getattr(session.monitor, "chardev", None)
    own = chardev is not None and chardev.backend == "pair"
    return own and (not session.negotiated or session.subject == "qmp_capabilities")
