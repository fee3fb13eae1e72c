"""What the player does with an emulator that has ended: it waits for nothing that cannot come."""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from conform.forked import launch
from conform.session import STEP_TIMEOUT, Session, StepError

#: a command line that is refused at once
REFUSED = ["-m", "fakeqemu", "run", "--", "-machine", "nosuch"]


async def test_an_end_that_was_read_before_the_loop_came_to_it(tmp_path: Path) -> None:
    nowhere = asyncio.subprocess.DEVNULL
    with socket.socket() as out:
        process = await launch(REFUSED, tmp_path, nowhere, out, {})
        # the loop does not run meanwhile
        assert select.select([process._child.fileno()], [], [], 10)[0], "it has not ended"
        process.kill()
        async with asyncio.timeout(5):
            assert await process.wait() == 1


async def test_nobody_waits_for_the_socket_of_what_has_ended(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    with pytest.raises(StepError, match="cannot connect"):
        async with asyncio.timeout(STEP_TIMEOUT / 2):
            await Session().connect(str(tmp_path / "q"), process)


async def test_what_listens_is_connected_to_though_its_maker_has_ended(tmp_path: Path) -> None:
    """A daemon's parent leaves once the daemon listens."""
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "q"))
        listener.listen()
        session = Session()
        await session.connect(str(tmp_path / "q"), process)
        session.close()
