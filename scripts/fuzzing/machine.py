"""A fakeqemu in a process and a directory of its own, limited, with plain sockets to speak to it.

No asyncio and no library of ours: what is looked for would be hidden by it.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from fakeqemu.testing.runners.forkclient import SERVER, ForkedProcess

ROOT = Path(__file__).resolve().parent.parent.parent
#: seconds that a start and a reply may take on a busy host
DEADLINE = 30.0
#: bytes that a file may have and that the process may map
FILE_SIZE = 64 << 20
ADDRESS_SPACE = 3 << 30
_NULL = open(os.devnull, "r+b")  # noqa: PTH123, SIM115 - as long as the program
BARE = ("-display", "none", "-nodefaults", "-no-user-config", "-no-shutdown")

Message = dict[str, Any]


class Gone(Exception):  # noqa: N818
    """The machine has closed the connection."""


class Late(Exception):  # noqa: N818
    """The machine has not answered in time."""


def program() -> list[str]:
    """The words that start the checkout's own command; FAKEQEMU_FUZZ_EMULATOR replaces them."""
    own = os.environ.get("FAKEQEMU_FUZZ_EMULATOR")
    return [sys.executable, own] if own else [sys.executable, "-m", "fakeqemu"]


def emulator(profile: str, own: Sequence[str] = ()) -> list[str]:
    """The words that start a machine, up to QEMU's own."""
    words = ("run", "--profile", profile, "--program", "qemu-system-x86_64", *own, "--")
    return [*program(), *words]


#: what a machine may use up
_LIMITS = {
    resource.RLIMIT_FSIZE: FILE_SIZE,
    resource.RLIMIT_AS: ADDRESS_SPACE,
    resource.RLIMIT_CORE: 0,
}


def limit() -> None:
    """Set what a machine may use up; run in the child."""
    for resource_, most in _LIMITS.items():
        resource.setrlimit(resource_, (most, most))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


class Machine:
    """One process; use it with `with`. `qmp` sockets are q0.sock, q1.sock, ... in `directory`.

    `forked` says that how a process starts is not what is tried: it is a child of the fork server,
    there in a twentieth of the time.
    """

    def __init__(
        self,
        profile: str,
        argv: Sequence[str],
        *,
        qmp: int = 2,
        own: Sequence[str] = (),
        files: dict[str, bytes] | None = None,
        child: Callable[[], None] = limit,
        directory: Path | None = None,
        forked: bool = False,
    ) -> None:
        self._own = directory is None
        self._clients: list[Client] = []
        self.directory = directory or Path(tempfile.mkdtemp(prefix="fakeqemu-fuzz-"))
        for name, data in (files or {}).items():
            (self.directory / name).write_bytes(data)
        words = list(argv)
        for number in range(qmp):
            words += ["-qmp", f"unix:q{number}.sock,server=on,wait=off"]
        self._stderr = (self.directory / "stderr").open("ab")
        words = [*emulator(profile, own), *words]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process: subprocess.Popen[bytes] | ForkedProcess
        if forked and "FAKEQEMU_FUZZ_EMULATOR" not in os.environ:
            fds = {0: _NULL.fileno(), 1: _NULL.fileno(), 2: self._stderr.fileno()}
            start = words.index("run")
            self.process = SERVER.spawn(words[start:], fds, env=env, cwd=self.directory)
            for resource_, most in _LIMITS.items():
                resource.prlimit(self.process.pid, resource_, (most, most))
            return
        self.process = subprocess.Popen(
            words,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            env=env,
            preexec_fn=child,  # noqa: PLW1509 - there are no threads here
            start_new_session=True,
        )

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, and everything that it has started, and hang up."""
        for client in self._clients:
            client.close()
        if isinstance(self.process, ForkedProcess):
            self.process.kill()
        elif self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._stderr.close()
        if self._own:
            shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return (self.directory / "stderr").read_text(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def connect(self, name: str = "q0.sock") -> socket.socket:
        """A connection to one of its sockets. Raises Gone if the machine ends, Late."""
        end = time.monotonic() + DEADLINE
        path = self.directory / name
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(DEADLINE)
            try:
                client.connect(relative(path))
                return client
            except OSError:
                client.close()
            if not self.alive:
                raise Gone(f"exit status {self.process.returncode}: {self.stderr[-500:]}")
            if time.monotonic() > end:
                raise Late(f"{name} does not answer")
            time.sleep(0.005)

    def client(self, number: int = 0) -> Client:
        """A negotiated QMP client. Raises Gone, Late."""
        client = Client(self.connect(f"q{number}.sock"))
        self._clients.append(client)
        client.message()
        client.ask("qmp_capabilities")
        return client

    # -- what it uses up ---------------------------------------------------------------------

    def cpu(self) -> float:
        """Seconds of processor time; 0 when it has ended."""
        try:
            text = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return 0.0
        fields = text.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Bytes that are resident; 0 when it has ended."""
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except OSError:
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """Open file descriptors; 0 when it has ended."""
        try:
            return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))
        except OSError:
            return 0


def relative(path: Path) -> str:
    """A path of a socket that may be longer than an address takes."""
    text = str(path)
    return text if len(text) < 100 else os.path.relpath(text)


class Client:
    """QMP over a socket: requests, replies, events kept."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.events: list[Message] = []
        self._buffer = b""
        self._count = 0

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def send(self, data: bytes, deadline: float = DEADLINE) -> None:
        """Bytes as they are. Raises Gone, Late."""
        self.socket.settimeout(deadline)
        try:
            self.socket.sendall(data)
        except TimeoutError:
            raise Late("input is not taken") from None
        except OSError:
            raise Gone("closed") from None

    def message(self, deadline: float = DEADLINE) -> Message:
        """The next message. Raises Gone, Late."""
        end = time.monotonic() + deadline
        while b"\n" not in self._buffer:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                raise Late(f"nothing in {deadline} s")
            try:
                data = self.socket.recv(1 << 18)
            except OSError:
                data = b""
            if not data:
                raise Gone("closed")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: Message = json.loads(line)
        return message

    def ask(self, command: str, arguments: Any = None, *, deadline: float = DEADLINE) -> Message:
        """The reply to a command, `return` or `error`. Raises Gone, Late."""
        self._count += 1
        request = {"execute": command, "id": self._count}
        if arguments is not None:
            request["arguments"] = arguments
        self.send(json.dumps(request).encode() + b"\n", deadline)
        while True:
            message = self.message(deadline)
            if "event" in message:
                self.events.append(message)
                del self.events[:-100]
            elif message.get("id") == self._count or "id" not in message:
                return message

    def drain(self, quiet: float = 0.02) -> bytes:
        """What comes until nothing has come for `quiet` seconds."""
        out, self._buffer = self._buffer, b""
        while select.select([self.socket], [], [], quiet)[0]:
            try:
                data = self.socket.recv(1 << 18)
            except OSError:
                break
            if not data:
                break
            out += data
        return out


def strings(value: Any) -> Iterator[str]:
    """All texts in a JSON value, member names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
