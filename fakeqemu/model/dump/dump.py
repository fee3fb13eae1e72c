"""Dumps of guest memory: what is refused and in which order, the file, DUMP_COMPLETED.

A dump at the caller's feet takes no time; a detached one takes as long as a disk would that
writes a gigabyte per second, and meanwhile neither `cont` nor a migration is let through.

See dump/dump.c: qmp_dump_guest_memory(), dump_init() and dump_process().
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from fakeqemu.model.boards.guest_memory import PAGE
from fakeqemu.model.dump import elf as dumpelf, kdump as dumpkdump
from fakeqemu.model.dump.output import DumpOutput, Piece
from fakeqemu.model.fds.fdset import open_failure
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Cpus
    from fakeqemu.model.boards.guest_memory import GuestMemory
    from fakeqemu.model.fds.fdset import MonitorFds
    from fakeqemu.model.lifecycle import Lifecycle
    from fakeqemu.model.migration import CurrentMigration
    from fakeqemu.model.process import Process
    from fakeqemu.model.runstate import RunState

_IN_PROGRESS = "There is a dump in process, please wait."
_BLOCKER = "Live migration disabled: dump-guest-memory in progress"
_BYTES_PER_NS = 1


class Dump:
    """The dump of one machine; there is at most one at a time."""

    def __init__(
        self,
        process: Process,
        runstate: RunState,
        lifecycle: Lifecycle,
        *,
        memory: GuestMemory,
        cpus: Cpus,
        named_fds: MonitorFds,
        migration: CurrentMigration,
    ) -> None:
        self._process = process
        self._traits = process.profile.traits
        self._runstate = runstate
        self._lifecycle = lifecycle
        self._memory = memory
        self._cpus = cpus
        self._named_fds = named_fds
        self._migration = migration
        self.status = "none"
        self._completed = 0
        self._total = 0
        self._resume = False
        #: when a detached dump began, in the machine's time
        self._began: int | None = None
        self._unblock: Callable[[], None] = lambda: None
        lifecycle.cont_blockers[_IN_PROGRESS] = lambda: self.status == "active"

    def query(self) -> dict[str, Any]:
        """DumpQueryResult."""
        completed = self._completed
        if self.status == "active" and self._began is not None:
            passed = (self._process.clock.now() - self._began) * _BYTES_PER_NS
            completed = min(passed, self._total) // 4096 * 4096
        return {"status": self.status, "completed": completed, "total": self._total}

    def start(self, options: dict[str, Any], monitor: Any) -> None:
        """What dump-guest-memory does. Raises QapiError."""
        if self._runstate.check("inmigrate"):
            raise QapiError(self._traits.dump_incoming_text)
        if self.status == "active":
            raise QapiError(_IN_PROGRESS)
        asked = options.get("format", "elf")
        raw = asked.startswith("kdump-raw-")
        format = asked.replace("-raw-", "-")
        self._check(options, format)
        output = self._open(options["protocol"], monitor)
        try:
            if raw and not output.seekable:
                raise QapiError("kdump-raw formats require a seekable file")
            self._block_migration()
        except QapiError:
            output.close()
            raise
        self._begin()
        try:
            dumped = self._subject(options)
        except QapiError:
            self._end(output, "failed")
            self._go_on()
            raise
        self._total = dumped.total
        if options.get("detach", False):
            self._began = self._process.clock.now()

            def finish() -> None:
                self._write(output, format, raw, dumped)

            def failed(error: QapiError) -> None:
                self._finish(output, error.desc)

            self._process.call_later(self._total // _BYTES_PER_NS, finish, failed)
            return
        error = self._write(output, format, raw, dumped)
        if error is not None:
            raise QapiError(error)

    def _check(self, options: dict[str, Any], format: str) -> None:
        if format != "elf" and (options["paging"] or "begin" in options or "length" in options):
            raise QapiError("kdump-compressed format doesn't support paging or filter")
        for here, other in (("begin", "length"), ("length", "begin")):
            if here in options and other not in options:
                raise QapiError(texts.missing_parameter(other))
        formats = self._formats()
        for kind in ("lzo", "snappy"):
            if format.endswith(kind) and format not in formats:
                raise QapiError(f"kdump-{kind} is not available now")
        if format == "win-dmp" and format not in formats:
            raise QapiError(self._traits.win_dump_refusal)

    def _formats(self) -> list[str]:
        query = self._process.profile.query("query-dump-guest-memory-capability")
        formats: list[str] = query["return"]["formats"]
        return formats

    def _open(self, protocol: str, monitor: Any) -> DumpOutput:
        if protocol.startswith("fd:"):
            return self._process.host.output_of_fd(self._named_fds.of(monitor).take(protocol[3:]))
        if not protocol.startswith("file:"):
            raise QapiError(self._traits.dump_protocol_text)
        path = protocol[5:]
        try:
            return self._process.host.create_output(path, 0o400)
        except OSError as error:
            if self._traits.fdset_failures_named:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                raise QapiError(open_failure(path, flags, error, steps_named=True)) from None
            verb = self._traits.dump_open_verb
            raise QapiError(f"Could not {verb} '{path}': {error.strerror}") from None

    def _block_migration(self) -> None:
        migration = self._migration.object
        if migration is None:
            return
        blockers = migration.blockers
        blocker = blockers.add(_BLOCKER, internal=True)
        self._unblock = lambda: blockers.remove(blocker)

    def _begin(self) -> None:
        self._resume = self._lifecycle.vm_stop("save-vm")
        self.status = "active"
        self._completed = self._total = 0
        self._began = None

    def _subject(self, options: dict[str, Any]) -> dumpelf.DumpLayout:
        """What is to be dumped. Raises QapiError if that is nothing."""
        begin, length = options.get("begin", 0), options.get("length")
        if length == 0:
            raise QapiError(self._traits.dump_zero_length_text)
        # both are unsigned to QEMU once they are in
        begin, length = begin % (1 << 64), (length or 0) % (1 << 64)
        dumped = dumpelf.subject(self._memory, self._cpus, begin, length)
        if not dumped.total:
            raise QapiError("dump: no guest memory to dump")
        return dumped

    def _write(
        self, output: DumpOutput, format: str, raw: bool, dumped: dumpelf.DumpLayout
    ) -> str | None:
        """Write the file and finish; why that failed."""
        error = None
        saved = 0
        for pieces, failure in self._parts(format, raw, dumped):
            before = output.written
            try:
                output.write(pieces)
            except OSError as problem:
                error = failure.format(problem.strerror)
                if format == "elf":
                    saved = (output.written - before) // PAGE * PAGE
                break
        if format == "win-dmp":
            error = self._traits.win_dump_refusal
        self._finish(output, error, saved)
        return error

    def _finish(self, output: DumpOutput, error: str | None, saved: int = 0) -> None:
        self._completed = min(saved, self._total) if error else self._total
        self._end(output, "failed" if error else "completed")
        data = {"result": self.query(), **({"error": error} if error else {})}
        self._process.events.emit("DUMP_COMPLETED", data)
        self._go_on()

    def _parts(
        self, format: str, raw: bool, dumped: dumpelf.DumpLayout
    ) -> Iterable[tuple[Iterable[Piece], str]]:
        """The file in parts, and what is said when one cannot be written."""
        machine = self._traits.kdump_machine
        if format == "elf":
            yield [dumpelf.header(dumped)], "dump: failed to write elf header: {}"
            yield dumpelf.content(self._memory, dumped), "dump: failed to save memory: {}"
            yield [dumpelf.names()], "dump: failed to write string table data: {}"
        elif raw:
            yield from dumpkdump.raw(self._memory, machine, dumped)
        elif format.startswith("kdump-"):
            yield from dumpkdump.flattened(self._memory, machine, dumped)

    def _go_on(self) -> None:
        """Let the guest run if it ran before."""
        if self._resume:
            self._lifecycle.vm_start()

    def _end(self, output: DumpOutput, status: str) -> None:
        output.close()
        self.status = status
        self._unblock()
        self._unblock = lambda: None
