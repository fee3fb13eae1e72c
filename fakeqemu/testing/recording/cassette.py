"""A test's conversation with QEMU, kept in a file: recorded from a real one, checked without it.

A cassette listens at `socket_path`. Behind it is a real QEMU (and what is said is recorded), the
model (and what it says is compared with the recording when the test ends), or the recording
alone. A file is a recording as `fakeqemu record` writes it, with texts of one run left out.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from fakeqemu.profile import Profile
from fakeqemu.testing.machine.fake import FakeQemu
from fakeqemu.testing.names import check_name
from fakeqemu.testing.recording.diff import Difference, differences, event_differences
from fakeqemu.testing.recording.format import Conversation, load, parse
from fakeqemu.testing.recording.proxy import Recorder
from fakeqemu.testing.recording.replay import Replay
from fakeqemu.testing.runners.choose import make_directory, remove_directory
from fakeqemu.testing.runners.thread import LoopThread

#: when a real QEMU is recorded: where there is no recording; never; where the test asks something
#: else than before; always
RecordMode = Literal["once", "none", "new", "all"]
RECORD_MODES = ("once", "none", "new", "all")
#: who answers where nothing is recorded
Against = Literal["model", "recording"]


class CassetteSettings(TypedDict, total=False):
    """Keywords of the marker `fakeqemu_cassette`."""

    name: str
    profile: str
    record: RecordMode
    against: Against
    values: bool
    redact: Mapping[str, str]
    deadline: float


class CassetteError(AssertionError):
    """There is no recording to use, or what is said is not what was recorded."""


class Redaction:
    """Texts of one run that a file has under a name of their own."""

    def __init__(self, directory: Path, more: Mapping[str, str]) -> None:
        """`more`: a name for the file -> the text of this run."""
        found = {"${dir}": str(directory), "${home}": str(Path.home()),
                 "${host}": socket.gethostname()}  # fmt: skip
        with contextlib.suppress(KeyError, OSError):  # a user without a name
            found["${user}"] = getpass.getuser()
        texts = {**found, **more}
        # "root" is part of many words, and a short name of too many
        self._names = {
            text: name for name, text in texts.items() if len(text) > 4 or name in more
        }

    def hide(self, line: str) -> str:
        """A line for the file."""
        for text in sorted(self._names, key=len, reverse=True):
            line = line.replace(_inner(text), self._names[text])
        return line

    def show(self, line: str) -> str:
        """A line of the file as this run has it."""
        for text, name in self._names.items():
            line = line.replace(name, _inner(text))
        return line


class Cassette:
    """One test's conversations. `start`, then `finish` or `stop`."""

    def __init__(
        self,
        file: Path,
        options: Sequence[str] = (),
        *,
        profile: str = "next",
        record: RecordMode = "once",
        against: Against = "model",
        values: bool = False,
        redact: Mapping[str, str] | None = None,
        deadline: float = 10.0,
        real: str | None = None,
    ) -> None:
        """`real`: the program of a real QEMU of the profile's version, if there is one.

        `values`: whether values are compared too, not only shapes. Raises UnknownNameError.
        """
        self.file = file
        self.profile = Profile.load(profile)
        self.record = check_name("mode of recording", record, RECORD_MODES)
        self.against = check_name("way of a cassette", against, ("model", "recording"))
        self._options = list(options)
        self._values = values
        self._deadline = deadline
        self._real = None if record == "none" else real
        self.directory = make_directory()
        self._redaction = Redaction(self.directory, redact or {})
        self._thread: LoopThread | None = None
        self._behind: Any = None
        self._server: Recorder | Replay | None = None
        self._said = io.StringIO()

    @property
    def socket_path(self) -> str:
        """Where the code under test connects."""
        return str(self.directory / "qmp")

    @property
    def is_recording(self) -> bool:
        """Whether a real QEMU answers."""
        wanted = not self.file.exists() if self.record == "once" else self.record != "none"
        return wanted and self._real is not None

    def __repr__(self) -> str:
        doing = "recording" if self.is_recording else f"checked against the {self.against}"
        return f"<Cassette {self.file.name}: {doing}>"

    def start(self) -> None:
        """Listen. Raises CassetteError if there is neither a recording nor who makes one."""
        if not self.is_recording and not self.file.exists():
            raise CassetteError(self._missing())
        if self.record == "all" and not self.is_recording:
            raise CassetteError(self._missing())
        self._thread = LoopThread("cassette")
        address = f"unix:{self.socket_path}"
        try:
            if not self.is_recording and self.against == "recording":
                self._server = Replay(self._recorded(), address, "order")
            else:
                self._start_behind()
                self._server = Recorder(address, f"unix:{self._far_side}", self._said)
            self._thread.run(self._server.__aenter__(), self._deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything; the recording is not touched."""
        thread, self._thread = self._thread, None
        if thread is not None:
            if self._server is not None:
                thread.run(self._server.__aexit__(), self._deadline)
            if isinstance(self._behind, FakeQemu):
                thread.run(self._behind.stop(), self._deadline)
            thread.stop()
        if isinstance(self._behind, int):
            _end(self._behind)
        remove_directory(self.directory)

    def finish(self) -> None:
        """End everything, and keep or compare what was said. Raises CassetteError."""
        recording = self.is_recording
        before = self._recorded() if self.file.exists() else []
        self.stop()
        if isinstance(self._server, Replay):
            if self._server.complaints:
                raise CassetteError("\n".join([str(self), *self._server.complaints]))
            return
        said = parse(self._said.getvalue().splitlines())
        if not recording:
            self._compare(before, said)
        elif self.record != "new" or _requests(before) != _requests(said):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            lines = self._said.getvalue().splitlines(keepends=True)
            self.file.write_text("".join(map(self._redaction.hide, lines)), "utf-8")

    # -- inside ------------------------------------------------------------------------------

    @property
    def _far_side(self) -> Path:
        return self.directory / "far"

    def _start_behind(self) -> None:
        qmp = f"unix:{self._far_side},server=on,wait=off"
        if not self.is_recording:
            assert self._thread is not None
            self._behind = FakeQemu(
                *self._options, profile=self.profile, socket=self._far_side, client=False,
                deadline=self._deadline,
            )  # fmt: skip
            self._thread.run(self._behind.start(), self._deadline)
            return
        assert self._real is not None
        pid = self.directory / "pid"
        # a daemon's parent ends when its sockets are there
        own = ["-display", "none", "-daemonize", "-pidfile", str(pid)]
        done = subprocess.run(
            [self._real, *self._options, "-qmp", qmp, *own],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode:
            raise CassetteError(f"{self._real} does not start: {done.stderr.strip()}")
        self._behind = int(pid.read_text())

    def _recorded(self) -> list[Conversation]:
        load(self.file)  # for its complaints
        lines = self.file.read_text("utf-8").splitlines()
        return parse(map(self._redaction.show, lines), str(self.file))

    def _compare(self, recorded: list[Conversation], said: list[Conversation]) -> None:
        complaints = []
        if len(recorded) != len(said):
            complaints.append(f"{len(recorded)} connections were recorded, {len(said)} came")
        for number, (old, new) in enumerate(zip(recorded, said, strict=False), 1):
            complaints += _other_requests(old, new, number)
            found: list[Difference] = []
            if old.greeting is not None:
                found += differences(old.greeting, new.greeting, number, 0, "greeting")
            for index, (one, other) in enumerate(
                zip(old.exchanges, new.exchanges, strict=False), 1
            ):
                if one.reply is not None:
                    found += differences(one.reply, other.reply, number, index, one.command)
            found += event_differences(old, new, number)
            complaints += [str(each) for each in found if self._values or each.kind == "shape"]
        if complaints:
            raise CassetteError("\n".join([f"{self.file}: not as it was recorded:", *complaints]))

    def _missing(self) -> str:
        version = self.profile.version
        wanted = f"a real QEMU {version.major}.{version.minor}"
        if self.record == "none":
            return f"{self.file}: there is no recording, and record='none' makes none"
        return f"{self.file}: to record it, {wanted} is needed (FAKEQEMU_REAL_QEMU, or in PATH)"


def real_of(profile: Profile) -> str | None:
    """The program of a real QEMU of that profile's version: FAKEQEMU_REAL_QEMU, or in PATH."""
    program = os.environ.get("FAKEQEMU_REAL_QEMU") or shutil.which("qemu-system-x86_64")
    if not program or profile.base is not None:
        return None
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except OSError:
        return None
    found = re.search(r"version (\d+)\.(\d+)", done.stdout)
    version = profile.version
    same = found is not None and (int(found[1]), int(found[2])) == (version.major, version.minor)
    with open(program, "rb") as file:  # noqa: PTH123 - one of ours is a script that says so
        ours = b"fakeqemu" in file.read(4096)
    return program if same and not ours else None


def _inner(text: str) -> str:
    """Text as it stands within a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _requests(conversations: list[Conversation]) -> list[list[str]]:
    return [[exchange.key for exchange in each.exchanges] for each in conversations]


def _other_requests(old: Conversation, new: Conversation, number: int) -> list[str]:
    for index, (one, other) in enumerate(zip(old.exchanges, new.exchanges, strict=False), 1):
        if one.key != other.key:
            return [f"{number}.{index}: {one.key} was recorded, {other.key} came"]
    if len(old.exchanges) == len(new.exchanges):
        return []
    count = len(old.exchanges), len(new.exchanges)
    return [f"{number}: {count[0]} commands were recorded, {count[1]} came"]


def _end(pid: int) -> None:
    """End a daemon, and wait for it where that can be done."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
        try:
            os.kill(pid, signal.SIGTERM)
            if pidfd >= 0 and not select.select([pidfd], [], [], 10)[0]:
                os.kill(pid, signal.SIGKILL)
        finally:
            if pidfd >= 0:
                os.close(pidfd)
