"""Says libvirt's part of a transcript again and keeps what the emulators answer.

Everything libvirt had at hand is made anew: listening sockets and files behind inherited
descriptors, images, the connection of a migration. Paths and ports are put in place of the
recorded ones. An event of the recording is waited for before libvirt's next word, since libvirt
waited too.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accept.images import make_image

from replay.compare import by_chance, differences, event_key
from replay.transcript import Line, Message, Start, Transcript
from tests.support.waiting import block_until, listens

#: seconds an answer or an event may take
PATIENCE = 20.0
#: steps in which one side of a migration is killed, and the other is to notice
DEADLY = frozenset({"migrate.kill-source", "migrate.kill-destination"})
_PORT = re.compile(r'(127\.0\.0\.1:(?=\d)|"port": ?"(?=\d{4}))(\d+)')


class Stopped(Exception):  # noqa: N818 - the end of a play, not of a program
    """The play cannot go on: an emulator said nothing, or went away."""


@dataclass
class Connection:
    """One connection to an emulator's monitor."""

    socket: socket.socket
    replies: deque[Message] = field(default_factory=deque)
    events: deque[Message] = field(default_factory=deque)
    unread: bytes = b""
    closed: bool = False
    #: jobs that were ready once; they may be so again after a pause
    ready: set[str] = field(default_factory=set)

    def close(self) -> None:
        """Go away, as a libvirtd that ends."""
        self.closed = True
        self.socket.close()

    def pump(self, timeout: float) -> bool:
        """Read what is there or comes within `timeout`; false at the end."""
        self.socket.settimeout(max(timeout, 0.001))
        try:
            data = self.socket.recv(1 << 20)
        except TimeoutError:
            return True
        except OSError:
            return False
        self.unread += data
        *lines, self.unread = self.unread.split(b"\r\n")
        for line in lines:
            message = json.loads(line)
            if "event" in message:
                if not by_chance(message, self.ready):
                    self.events.append(message)
            elif "QMP" not in message:
                self.replies.append(message)
        return bool(data)

    def take(self, queue: deque[Message], what: str) -> Message:
        """The next message of a kind. Raises Stopped."""
        end = time.monotonic() + PATIENCE
        while not queue:
            left = end - time.monotonic()
            if left <= 0:
                raise Stopped(f"{what} did not come; waiting: {list(self.events)[:3]}")
            if not self.pump(left) and not queue:
                raise Stopped(f"the monitor was closed before {what}") from None
        return queue.popleft()


@dataclass
class Emulator:
    """One emulator process of the play."""

    process: subprocess.Popen[bytes]
    monitor: Path
    start: Start
    connections: dict[int, Connection] = field(default_factory=dict)
    dead: bool = False


class Play:
    """One transcript played in a directory."""

    def __init__(self, transcript: Transcript, directory: Path, command: Sequence[str]) -> None:
        self.transcript = transcript
        self.directory = directory
        self.command = command
        self.emulators: dict[int, Emulator] = {}
        #: what was not as recorded
        self.found: list[str] = []
        self.answers = 0
        self._ports: dict[str, str] = {}
        #: where a stream of memory was saved to
        self._saved = directory / "stream"
        #: the connection for the next that migrates
        self._out: socket.socket | None = None
        #: emulator -> what it was last asked
        self._last: dict[int, Message] = {}
        #: jobs that were ready once
        self._ready: set[str] = set()

    # -- the play ------------------------------------------------------------------------------

    def run(self) -> None:
        """Play all of it. Raises Stopped."""
        try:
            for number, line in enumerate(self.transcript.lines):
                self._line(number, line)
        except Stopped as stopped:
            logs = sorted(self.directory.glob("emulator*/log"))
            said = logs[-1].read_text()[-600:] if logs else ""
            raise Stopped(f"{stopped}; {said}") from None
        finally:
            if self._out is not None:
                self._out.close()
            for emulator in self.emulators.values():
                self._end(emulator)

    def _line(self, number: int, line: Line) -> None:
        if line.emulator not in self.emulators:
            self._start(line.emulator, number)
        emulator = self.emulators[line.emulator]
        if emulator.dead:
            return
        if line.connection not in emulator.connections:
            for old in emulator.connections.values():
                old.close()
            emulator.connections[line.connection] = self._connect(emulator)
        connection = emulator.connections[line.connection]
        if connection.closed:
            return
        if line.sent:
            self._send(number, line, connection)
        elif line.is_event:
            self._expect_event(line, emulator, connection)
        else:
            self._expect_reply(line, connection)
            self._dial(number, line)

    def _expect_reply(self, line: Line, connection: Connection) -> None:
        request = self._last[line.emulator]
        what = f"{line.step}: answer to {json.dumps(request)[:200]}"
        reply = connection.take(connection.replies, what)
        reply.pop("id", None)
        self.answers += 1
        wanted = self._ours(line.message)
        for difference in differences(wanted, reply, request["execute"]):
            self.found.append(f"{line.step}: {difference}")

    def _expect_event(self, line: Line, emulator: Emulator, connection: Connection) -> None:
        wanted = event_key(self._ours(line.message))
        if by_chance(line.message, self._ready):
            return
        poked = self._last[line.emulator]["execute"] == "human-monitor-command"
        if "reason=guest-reset" in wanted and not poked:
            return  # by the firmware, which starts anew by one more reset
        if line.step in DEADLY and "status=failed" in wanted:
            for other in self.emulators.values():
                if other is not emulator:
                    self._end(other)
        if "reason=host-signal" in wanted:
            emulator.process.send_signal(signal.SIGTERM)
        event = connection.take(connection.events, f"{line.step}: {' '.join(wanted)}")
        if event_key(event) != wanted:
            self.found.append(f"{line.step}: {event_key(event)} instead of {wanted}")

    def _send(self, number: int, line: Line, connection: Connection) -> None:
        message = self._ours(line.message)
        self._prepare(number, message)
        data = json.dumps(message).encode() + b"\r\n"
        self._last[line.emulator] = message
        if line.with_fd:
            fd = self._descriptor(number, line)
            socket.send_fds(connection.socket, [data], [fd])
            os.close(fd)
        else:
            try:
                connection.socket.sendall(data)
            except OSError as error:
                raise Stopped(f"{line.step}: {message['execute']}: {error}") from None

    # -- what libvirt had at hand --------------------------------------------------------------

    def _start(self, index: int, number: int) -> None:
        start = self.transcript.starts[index]
        for other in self.emulators.values():
            if other.start.name != start.name:
                continue
            if other.start.daemon == start.daemon or "-incoming" not in start.argv:
                self._end(other)
        # whether there is KVM is the host's matter
        argv = [self._ours(word).replace("accel=kvm:", "accel=") for word in start.argv]
        directory = self.directory / f"emulator{index}"
        directory.mkdir()
        monitor = directory / "monitor"
        opened: list[tuple[int, int]] = []
        if "-qmp" in argv:
            self._for_probe(argv, monitor)
        for fd, kind in start.fds.items():
            made = self._inherited(index, number, fd, kind, start, monitor)
            if made is not None:
                opened.append((made, fd))
        self._make_files(argv)
        process = self._spawn([*self.command, *argv], opened, directory)
        self.emulators[index] = Emulator(process, monitor, start)

    @staticmethod
    def _for_probe(argv: list[str], monitor: Path) -> None:
        argv[argv.index("-qmp") + 1] = f"unix:{monitor},server=on,wait=off"
        if "-pidfile" in argv:
            argv[argv.index("-pidfile") + 1] = f"{monitor}.pid"
        if "-daemonize" in argv:
            argv.remove("-daemonize")

    def _inherited(
        self, index: int, number: int, fd: int, kind: str, start: Start, monitor: Path
    ) -> int | None:
        words = " ".join(start.argv)
        if kind == "listen":
            listener = socket.socket(socket.AF_UNIX)
            named = re.search(rf"id=(\w+),fd={fd},", words)
            listening = named is not None
            if listening:
                is_monitor = named is not None and named[1] == "charmonitor"
                path = monitor if is_monitor else monitor.with_name(f"channel{fd}")
                listener.bind(str(path))
                listener.listen(1)
                return listener.detach()
            return None
        if re.search(rf"fd={fd},opaque", words):
            return os.open(self.directory / f"file{index}-{fd}", os.O_WRONLY | os.O_CREAT)
        if self._incoming_uri(index, number) == f"fd:{fd}":
            if start.step.startswith("migrate."):
                self._out, theirs = socket.socketpair()
                return theirs.detach()
            return os.open(self._saved, os.O_RDONLY)
        return None

    def _incoming_uri(self, index: int, number: int) -> str | None:
        for line in self.transcript.lines[number:]:
            if line.emulator == index and line.message.get("execute") == "migrate-incoming":
                uri: str = line.message["arguments"]["uri"]
                return uri
        return None

    @staticmethod
    def _spawn(
        argv: list[str], opened: list[tuple[int, int]], directory: Path
    ) -> subprocess.Popen[bytes]:
        # out of the way of the numbers they are to have
        high = [
            (os.dup2(fd, 600 + n, inheritable=False), number)
            for n, (fd, number) in enumerate(opened)
        ]
        for fd, _ in opened:
            os.close(fd)

        def place() -> None:
            for fd, number in high:
                os.dup2(fd, number)

        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=place,  # noqa: PLW1509 - there are no threads here
                close_fds=False,
            )
        for fd, _ in high:
            os.close(fd)
        return process

    def _connect(self, emulator: Emulator) -> Connection:
        process, path = emulator.process, emulator.monitor
        client = socket.socket(socket.AF_UNIX)
        try:
            block_until(lambda: listens(path) or process.poll() is not None, "the monitor")
            client.connect(str(path))
        except OSError as error:
            client.close()
            log = path.with_name("log").read_text()
            raise Stopped(f"no monitor: {error}; {log[-500:]}") from None
        return Connection(client)

    def _make_files(self, argv: list[str]) -> None:
        if "-bios" in argv:
            self._make_image(Path(argv[argv.index("-bios") + 1]))
        for word in argv:
            if not word.startswith("{"):
                continue
            options = json.loads(word)
            if options.get("qom-type") == "secret":
                path = Path(options["file"])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes(32))
            elif options.get("driver") == "file":
                self._make_image(Path(options["filename"]))

    def _make_image(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return
        if path.suffix == ".bin":
            path.write_bytes(bytes(65536))
        elif path.suffix == ".raw":
            path.write_bytes(b"x" * (24 << 20))
        elif path.suffix == ".img":
            make_image(path, "1M", "raw")
        elif path.name == "garbage.qcow2":
            path.write_bytes(b"this is no qcow2 image " * 4096)
        else:
            make_image(path)

    def _prepare(self, number: int, message: Message) -> None:
        """Make what a command names: an image, or the empty file that becomes one."""
        arguments = message.get("arguments", {})
        if message["execute"] == "blockdev-add" and arguments.get("driver") == "file":
            path = Path(arguments["filename"])
            node = arguments["node-name"]
            if any(
                line.message.get("execute") == "blockdev-create"
                and line.message["arguments"]["options"].get("file") == node
                for line in self.transcript.lines[number : number + 12]
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"")
            else:
                self._make_image(path)
        for name in ("filename", "path", "uri"):
            text = arguments.get(name)
            if isinstance(text, str) and text.removeprefix("unix:").startswith("/"):
                Path(text.removeprefix("unix:")).parent.mkdir(parents=True, exist_ok=True)

    def _descriptor(self, number: int, line: Line) -> int:
        """What goes with a getfd, by what is done with it next."""
        name = line.message["arguments"]["fdname"]
        for later in self.transcript.lines[number:]:
            if later.emulator != line.emulator or not later.sent:
                continue
            text = json.dumps(later.message)
            if f'"fd:{name}"' in text and later.message["execute"] == "migrate":
                return self._way_out(line)
            if f'"fd:{name}"' in text:
                return os.open(self.directory / "dump", os.O_RDWR | os.O_CREAT)
            if later.message["execute"] == "chardev-add" and name in text:
                listener = socket.socket(socket.AF_UNIX)
                listener.bind(str(self.directory / f"socket{number}"))
                listener.listen(1)
                return listener.detach()
        return os.open(os.devnull, os.O_RDWR)

    def _dial(self, number: int, line: Line) -> None:
        """Connect to a destination as soon as it listens, if libvirt will hand that on."""
        request = self._last[line.emulator]
        if request["execute"] not in ("migrate-incoming", "migrate-recover"):
            return
        kind, _, where = request["arguments"]["uri"].partition(":")
        if kind not in ("tcp", "unix") or not any(
            later.with_fd and later.message["arguments"]["fdname"] == "migrate"
            for later in self.transcript.lines[number:]
        ):
            return
        if kind == "unix":
            self._out = socket.socket(socket.AF_UNIX)
            self._out.connect(where)
        else:
            host, _, port = where.rpartition(":")
            self._out = socket.create_connection((host, int(port)), PATIENCE)
            self._out.setblocking(True)

    def _way_out(self, line: Line) -> int:
        """Where memory goes: to the destination, or into a file."""
        if self._out is not None:
            out, self._out = self._out, None
            return out.detach()
        assert not line.step.startswith("migrate."), "nobody listens"
        return os.open(self._saved, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    # -- other places, other ports -------------------------------------------------------------

    def _ours(self, value: Any) -> Any:
        """A recorded value with the paths and ports of this play."""
        text = json.dumps(value)
        text = text.replace("/scratch/", f"{self.directory}/")
        text = re.sub(r"/(?:var/lib|run|var/log)/libvirt/", f"{self.directory}/", text)
        text = _PORT.sub(lambda found: found[1] + self._port(found[2], text), text)
        return json.loads(text)

    def _port(self, recorded: str, text: str) -> str:
        if len(recorded) < 5 and "audiodev" in text:
            # a display number
            return str(int(self._port(f"display{recorded}", "")) - 5900)
        if recorded not in self._ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._ports[recorded] = str(probe.getsockname()[1])
        return self._ports[recorded]

    # -- the end -------------------------------------------------------------------------------

    @staticmethod
    def _end(emulator: Emulator) -> None:
        if not emulator.dead:
            emulator.dead = True
            for connection in emulator.connections.values():
                connection.close()
            emulator.process.kill()
            emulator.process.wait()


def emulator_command(profile: str) -> list[str]:
    """The fake as a version, its replies checked against the schema."""
    return [sys.executable, "-m", "fakeqemu", "run", "--profile", profile, "--check-replies", "--"]


__all__ = ["Play", "Stopped", "emulator_command"]
