"""`fakeqemu record`, `replay` and `diff`: the command's own words and exit statuses."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing.recording.diff import compare
from fakeqemu.testing.recording.format import load
from fakeqemu.testing.recording.proxy import Recorder
from fakeqemu.testing.recording.replay import Replay

#: a machine that any recording can be played against, if nothing else is said
DEFAULT_OPTIONS = ("-machine", "none", "-nodefaults", "-display", "none")


def record(client_side: str, real_side: str, output: str | None) -> int:
    """Record until SIGINT or SIGTERM; 1 if not all could be written. Raises OSError, ValueError."""

    def failed(error: OSError) -> None:
        where = "standard output" if output is None else output
        sys.stderr.write(f"fakeqemu: the recording ends: {where}: {error.strerror}\n")
        sys.stderr.flush()

    async def run() -> int:
        out = sys.stdout if output is None else Path(output).open("w")  # noqa: SIM115
        try:
            async with Recorder(client_side, real_side, out, failed) as recorder:
                _ready(client_side)
                await until_signal()
        finally:
            if output is not None:
                with contextlib.suppress(OSError):  # has been said
                    out.close()
        return 1 if recorder.failure is not None else 0

    return asyncio.run(run())


def replay(file: str, address: str, match: str) -> int:
    """Serve until SIGINT or SIGTERM; 1 if anything came that was not expected."""

    async def run() -> int:
        async with Replay(load(file), address, match) as server:
            _ready(address)
            await until_signal()
        for complaint in server.complaints:
            sys.stderr.write(f"fakeqemu: {complaint}\n")
        return 1 if server.complaints else 0

    return asyncio.run(run())


def diff(file: str, profile: Profile, options: list[str], *, shape_only: bool) -> int:
    """Print the differences; 1 if there are any."""
    try:
        found = asyncio.run(compare(load(file), profile, options or DEFAULT_OPTIONS))
    except StartupError as error:
        raise ValueError(error.message) from None
    told = [each for each in found if each.kind == "shape" or not shape_only]
    for each in told:
        sys.stdout.write(f"{each}\n")
    shapes = sum(each.kind == "shape" for each in found)
    sys.stdout.write(f"{shapes} differences of shape, {len(found) - shapes} of value\n")
    return 1 if told else 0


def _ready(address: str) -> None:
    """Print the line that says that clients may connect."""
    sys.stderr.write(f"fakeqemu: listening at {address}\n")
    sys.stderr.flush()


async def until_signal() -> None:
    """Wait for SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()
