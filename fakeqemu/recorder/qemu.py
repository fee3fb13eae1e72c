"""A real QEMU, started for questions and thrown away, and what is known of the program before.

The QMP connection is a socket pair handed over as a descriptor, so nothing has to be waited
for and no file is left. Some questions abort the real program: that shows as `Gone`, and
whoever asked goes on with a new process.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

Request = tuple[str, dict[str, Any]]
Reply = dict[str, Any]

TIMEOUT = 60.0
#: seconds for a start to be refused
_PATIENCE = 10.0

#: in the order in which they are tried
_ACCELERATORS = ("tcg", "qtest", "kvm")


class Board(NamedTuple):
    """The machine that devices and objects are looked at in."""

    #: the machine type
    name: str
    #: MiB that it starts with
    memory: int = 256
    #: whether PCIe root ports can be plugged into it
    root_ports: bool = False


#: those that are preferred to the program's default one
_BOARDS = (
    Board("q35", 64, root_ports=True),
    Board("virt", root_ports=True),
    Board("pseries"),
    Board("s390-ccw-virtio"),
)
_MICROVM = "microvm"


class Emulator:
    """A program, and how it is started. Raises Gone if it does not even start without a machine."""

    def __init__(self, program: str) -> None:
        self.program = program
        self._accelerator = self._find_accelerator()
        with Qemu(self, *self.none) as qemu:
            #: "x86_64"
            self.target: str = qemu.value("query-target")["arch"]
            version = qemu.value("query-version")["qemu"]
            #: (10, 0)
            self.version: tuple[int, int] = version["major"], version["minor"]
            types = qemu.value("query-machines")
        known = {name for each in types for name in (each["name"], each.get("alias"))}
        usual = [Board(each["name"]) for each in types if each.get("is-default")]
        chosen = [*(board for board in _BOARDS if board.name in known), *usual]
        self.board = chosen[0] if chosen else Board("none")
        #: the machine type whose virtio devices sit on no PCI
        self.mmio_board = _MICROVM if _MICROVM in known else self.board.name

    @property
    def none(self) -> list[str]:
        """A machine without anything, for questions about the program."""
        return ["-machine", "none", "-nodefaults", *self._accelerator]

    def machine(self, name: str, *options: str) -> list[str]:
        """A stopped machine of one type."""
        return ["-machine", name, *self._accelerator, "-S", *options]

    def _find_accelerator(self) -> list[str]:
        known = output(self, "-accel", "help")[1].split()
        for name in _ACCELERATORS:
            if name in known:
                options = ["-accel", name]
                with contextlib.suppress(Gone), Qemu(self, "-machine", "none", *options):
                    return options
        return []


class Gone(Exception):  # noqa: N818
    """The process ended before it answered; `answered` holds the replies that came."""

    def __init__(self, answered: list[Reply]) -> None:
        super().__init__("QEMU is gone")
        self.answered = answered


class Qemu:
    """One process, connected and negotiated. Use it as a context manager."""

    def __init__(
        self, emulator: Emulator, *argv: str, monitor: bool = False, ports: bool = False
    ) -> None:
        """`monitor`: with a human monitor, `ports`: with a qtest server, a socket each."""
        ours, theirs = socket.socketpair()
        pairs = [theirs]
        args = [*argv, "-display", "none"]
        args += ["-chardev", f"socket,id=recorder,fd={theirs.fileno()}"]
        args += ["-mon", "chardev=recorder,mode=control"]
        if monitor:
            self.monitor, end = socket.socketpair()
            self.monitor.settimeout(TIMEOUT)
            pairs.append(end)
            args += ["-chardev", f"socket,id=human,fd={end.fileno()}"]
            args += ["-mon", "chardev=human,mode=readline"]
        if ports:
            self.ports, end = socket.socketpair()
            self.ports.settimeout(TIMEOUT)
            pairs.append(end)
            args += ["-chardev", f"socket,id=recorder-ports,fd={end.fileno()}"]
            args += ["-object", "qtest,id=recorder-ports,chardev=recorder-ports,log=none"]
        self.process = subprocess.Popen(
            [emulator.program, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[pair.fileno() for pair in pairs],
        )
        for pair in pairs:
            pair.close()
        ours.settimeout(TIMEOUT)
        self._socket = ours
        self._lines = ours.makefile("r", encoding="utf-8")
        self._errors = ""
        try:
            self.greeting = self._read()
            self.ask("qmp_capabilities")
        except Gone:
            self.close()
            raise

    def __enter__(self) -> Qemu:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if it has not ended by itself, and collect its standard error."""
        if self.process.poll() is None:
            self.process.kill()
        if self.process.stderr is not None and not self.process.stderr.closed:
            self._errors = self.process.stderr.read()
            self.process.stderr.close()
        self.process.wait()
        self._lines.close()
        self._socket.close()
        for each in ("monitor", "ports"):
            if hasattr(self, each):
                getattr(self, each).close()

    def warnings(self) -> list[str]:
        """The lines on standard error without the program's name; ends the process."""
        self.close()
        lines = self._errors.splitlines()
        return [line.split(": ", 1)[-1] for line in lines if line.startswith("qemu-system-")]

    def image(self) -> bytes:
        """The program file's content, also behind a wrapper script."""
        return Path(f"/proc/{self.process.pid}/exe").read_bytes()

    def ask(self, command: str, arguments: dict[str, Any] | None = None) -> Reply:
        """One command's reply, `{"return": ...}` or `{"error": ...}`."""
        return self.ask_all([(command, arguments or {})])[0]

    def value(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """What a command that must succeed returns."""
        reply = self.ask(command, arguments)
        if "return" not in reply:
            raise RuntimeError(f"{command} {arguments}: {reply}")
        return reply["return"]

    def ask_all(self, requests: Sequence[Request]) -> list[Reply]:
        """All replies in order, the commands sent ahead in batches; `Gone` on the way."""
        replies: list[Reply] = []
        for start in range(0, len(requests), 256):
            batch = requests[start : start + 256]
            text = "".join(
                json.dumps({"execute": c, **({"arguments": a} if a else {})}) + "\n"
                for c, a in batch
            )
            try:
                self._socket.sendall(text.encode())
            except OSError:
                raise Gone(replies) from None
            for _ in batch:
                try:
                    replies.append(self._read())
                except Gone:
                    raise Gone(replies) from None
        return replies

    def hmp(self, line: str) -> str:
        """The text a human monitor command prints, with plain line ends."""
        text: str = self.value("human-monitor-command", {"command-line": line})
        return text.replace("\r\n", "\n")

    def _read(self) -> Reply:
        while True:
            try:
                line = self._lines.readline()
            except OSError:
                line = ""
            if not line:
                raise Gone([])
            message: Reply = json.loads(line)
            if "event" not in message:
                return message


def ask_surviving(
    emulator: Emulator,
    argv: Sequence[str],
    requests: Sequence[Request],
    first: Request | None = None,
) -> list[Reply | None]:
    """All replies; None for a request that ends even a process that was asked nothing else.

    Some requests leave a process so broken that a later one ends it: so the one at which it
    ended is tried again alone. Each process is asked `first` before, its reply is dropped.
    """
    replies: list[Reply | None] = []
    alone = False
    while len(replies) < len(requests):
        rest = requests[len(replies) :]
        with Qemu(emulator, *argv) as qemu:
            try:
                if first is not None:
                    qemu.ask_all([first])
                replies += qemu.ask_all(rest[:1] if alone else rest)
                alone = False
            except Gone as gone:
                replies += gone.answered
                if alone:
                    replies.append(None)
                alone = not alone
    return replies


def output(
    emulator: Emulator, *argv: str, timeout: float = TIMEOUT, given: str = ""
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a run that ends by itself.

    `given`: what it reads from standard input. Raises subprocess.TimeoutExpired.
    """
    done = subprocess.run(
        [emulator.program, *argv],
        input=given,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def refusal(emulator: Emulator, *argv: str, timeout: float = _PATIENCE) -> str:
    """Standard error of a start that fails; empty if it does not soon."""
    try:
        code, _, errors = output(emulator, *argv, timeout=timeout)
    except subprocess.TimeoutExpired:
        return ""
    return errors if code else ""


def names_of(entries: Iterable[dict[str, Any]]) -> list[str]:
    """The `name` members of a reply's list."""
    return [entry["name"] for entry in entries]
