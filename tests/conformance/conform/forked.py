"""Starts emulators by fakeqemu's warm fork server: the same records, without the imports.

Only this module knows fakeqemu, and only `--fork-server` needs it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from fakeqemu.testing.runners.forkclient import SERVER, ForkedProcess


class Forked:
    """One child; as much of `asyncio.subprocess.Process` as a play wants."""

    def __init__(self, child: ForkedProcess) -> None:
        self._child = child
        self.pid = child.pid
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._transports: list[Any] = []
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = loop.create_future()
        loop.add_reader(child.fileno(), self._readable)

    @property
    def returncode(self) -> int | None:
        return self._child.returncode

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    def kill(self) -> None:
        fd = self._child.fileno()
        self._child.kill()
        if self._child.returncode is not None:
            # it had ended, and its status was read before the loop came to it
            self._end(fd, self._child.returncode)

    async def read_from(self, fd: int) -> asyncio.StreamReader:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb")
        )
        self._transports.append(transport)
        return reader

    def _readable(self) -> None:
        fd = self._child.fileno()
        try:
            status = self._child.wait(0)
        except TimeoutError:
            return
        except EOFError:
            status = -9
        self._end(fd, status)

    def _end(self, fd: int, status: int) -> None:
        if fd >= 0:
            asyncio.get_running_loop().remove_reader(fd)
        if not self._ended.done():
            self._ended.set_result(status)


def number(file: Any) -> int:
    """The descriptor of a socket, or a descriptor itself."""
    return file if isinstance(file, int) else int(file.fileno())


async def launch(argv: list[str], cwd: Path, stdin: Any, stdout: Any, fds: dict[int, int]) -> Any:
    """`argv` as a fork: what follows `-m fakeqemu`.

    `stdin`, `stdout`: a socket or a descriptor, or asyncio's constants DEVNULL and PIPE.
    """
    arguments = argv[argv.index("fakeqemu") + 1 :]
    err_in, err_out = os.pipe()
    out_in, out_out = os.pipe() if stdout == asyncio.subprocess.PIPE else (-1, -1)
    null = os.open(os.devnull, os.O_RDWR)
    try:
        child = SERVER.spawn(
            arguments,
            {
                0: null if stdin == asyncio.subprocess.DEVNULL else number(stdin),
                1: out_out if out_out >= 0 else number(stdout),
                2: err_out,
                **fds,
            },
            cwd=cwd,
        )
    finally:
        for fd in (null, err_out, out_out):
            if fd >= 0:
                os.close(fd)
    process = Forked(child)
    process.stderr = await process.read_from(err_in)
    if out_in >= 0:
        process.stdout = await process.read_from(out_in)
    return process
