"""A process's journal as it grows: as JSON lines in a file, for people on standard error."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fakeqemu.io.process.error_prefix import write_lines
from fakeqemu.journal import json_of, line_of

if TYPE_CHECKING:
    from fakeqemu.journal import JournalEntry
    from fakeqemu.model.machine import Machine

#: kinds of entries that -v shows
_MATTERS = frozenset((
    "bug", "error", "event", "fault", "job", "migration", "not-modelled", "protocol", "runstate",
    "stub",
))  # fmt: skip


class JournalFile:
    """Appends every entry to a file, each with one write: several machines may share one.

    A directory gets a file of the machine's own, `journal-PID.jsonl`. What cannot be written any
    more is said once and left out; the machine goes on. Nobody who does not read holds it up.
    """

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        if os.path.isdir(path):  # noqa: PTH112
            path = os.path.join(path, f"journal-{os.getpid()}.jsonl")  # noqa: PTH118
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._path = path
        self._fd = os.open(path, flags | os.O_NONBLOCK, 0o666)
        #: whether a reader may be slow
        self._may_block = not stat.S_ISREG(os.fstat(self._fd).st_mode)
        #: of a line that a reader has not taken whole
        self._rest = b""
        self._lost = 0

    def attach(self, vm: Machine) -> None:
        """Write what the machine does from now on."""
        for entry in vm.journal:
            self._write(entry)
        vm.journal.listen(self._write)

    def _write(self, entry: JournalEntry) -> None:
        if self._fd < 0:
            return
        line = json_of(entry).encode("utf-8", "backslashreplace") + b"\n"
        try:
            if self._rest:
                self._rest = self._rest[os.write(self._fd, self._rest) :]
            if self._rest:
                self._lost += 1
                return
            if self._lost:
                line = b'[%d, "lost", "%d", {}]\n%b' % (entry.time, self._lost, line)
            self._rest = line[os.write(self._fd, line) :]
            self._lost = 0
            if self._rest and not self._may_block:
                os.write(self._fd, self._rest)  # says what is wrong
                self._rest = b""
        except BlockingIOError:
            self._lost += 1
        except OSError as error:
            os.close(self._fd)
            self._fd = -1
            if error.errno != errno.EPIPE:
                write_lines(
                    f"fakeqemu: the journal ends: {self._path}: {os.strerror(error.errno or 0)}"
                )


def say_everything(vm: Machine) -> None:
    """Each entry as a line on standard error."""
    vm.journal.listen(lambda entry: write_lines(f"fakeqemu: {line_of(entry).strip()}"))


def say_what_matters(vm: Machine) -> None:
    """The same of states, events and what goes wrong."""

    def noted(entry: JournalEntry) -> None:
        if entry.kind in _MATTERS:
            write_lines(f"fakeqemu: {line_of(entry).strip()}")

    vm.journal.listen(noted)
