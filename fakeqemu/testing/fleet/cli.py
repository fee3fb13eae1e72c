"""`fakeqemu fleet`: run a fleet file, or a shard of it, until a signal or a command ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys

from fakeqemu.journal import DEFAULT_ENTRIES
from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing.fleet.file import parse_shard
from fakeqemu.testing.fleet.fleet import Fleet
from fakeqemu.testing.recording.cli import until_signal


def run_fleet(
    file: str, shard: str | None, directory: str | None, control: str | None
) -> int:
    """Run until SIGINT or SIGTERM; of each journal the last entries are kept.

    Raises ValueError for what is wrong in the file.
    """
    fleet = Fleet(
        file,
        shard=None if shard is None else parse_shard(shard),
        directory=directory,
        control=control,
        journal=DEFAULT_ENTRIES,
    )

    async def run() -> int:
        try:
            async with fleet:
                sys.stdout.write(f"{len(fleet)} machines, sockets in {fleet.directory}\n")
                if fleet.control_address is not None:
                    sys.stdout.write(f"control socket at {fleet.control_address}\n")
                sys.stdout.flush()
                tell_service_manager("READY=1")
                await until_signal()
                tell_service_manager("STOPPING=1")
        except StartupError as error:
            sys.stderr.write(f"fakeqemu: {error.message}\n")
            return error.code
        return 0

    return asyncio.run(run())


def tell_service_manager(state: str) -> None:
    """What sd_notify(3) does, if NOTIFY_SOCKET is set."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)
