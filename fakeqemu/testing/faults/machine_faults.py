"""Faults of the machine's own parts: disks, jobs, what a destination loads, start and end.

Each part has one place where a tester may let it fail; it is filled when such a fault is added.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.formats.extents import BlockIoError
from fakeqemu.io.host import OsHost
from fakeqemu.qapi.errors import QapiError
from fakeqemu.testing.faults.build import errno_of
from fakeqemu.testing.faults.model import (
    DiskError,
    Fault,
    JobError,
    LateExit,
    LateSocket,
    LoadFails,
)

if TYPE_CHECKING:
    from random import Random

    from fakeqemu.model.block.backends.guest_io import GuestRequest
    from fakeqemu.model.block.jobs.job import Job
    from fakeqemu.model.machine import Machine

Matching = Callable[[str, Callable[[Fault], bool]], Iterator[tuple[Fault, "Random"]]]

_TEXTS = {"EIO": "Input/output error", "ENOSPC": "No space left on device"}
#: bytes that a guest reads or writes to meet an error
_SECTOR = 512


class MachineFaults:
    """Those of one machine."""

    def __init__(self, vm: Machine, matching: Matching) -> None:
        """`matching`: gives the faults of a stage that are carried out now."""
        self._vm = vm
        self._matching = matching
        vm.process.on_exit.insert(0, self._exiting)  # before whoever ends the host

    def check(self, fault: Fault) -> None:
        """Whether this machine can have the fault now. Raises ValueError."""
        started = self._vm.process.main_loop_running
        if isinstance(fault, LateSocket) and started:
            raise ValueError("late-socket is for a start, and the machine has started: "
                             "put it into its scenario")
        if isinstance(fault, DiskError) and started and fault.device is not None:
            self._backend(fault.device)

    def added(self, fault: Fault) -> None:
        """Let its part of the machine ask, from now on."""
        match fault:
            case LoadFails():
                self._vm.migration.load_fault = self._load
            case JobError():
                self._when_served(self._watch_jobs)
            case DiskError():
                self._when_served(lambda: self._watch_disks(fault))
            case LateSocket(seconds=seconds, file=file):
                host = self._vm.host
                if isinstance(host, OsHost):
                    host.start_delay = seconds
                    for _ in self._matching("process", lambda each: each is fault):
                        if file:
                            self._make_files()

    # -- the parts -------------------------------------------------------------------------------

    def _load(self, section: str) -> int:
        def wanted(fault: Fault) -> bool:
            return isinstance(fault, LoadFails) and fault.section in (None, section)

        for fault, _ in self._matching("load", wanted):
            assert isinstance(fault, LoadFails)
            return errno_of(fault.desc)
        return 0

    def _watch_jobs(self) -> None:
        self._vm.block.jobs.fault = self._job

    def _job(self, job: Job, *, over: bool) -> str:
        def wanted(fault: Fault) -> bool:
            if not isinstance(fault, JobError) or fault.job not in (None, job.id) or job.internal:
                return False
            return over or job.done * 100 >= fault.percent * max(job.total, 1)

        for fault, _ in self._matching("job", wanted):
            assert isinstance(fault, JobError)
            return fault.desc
        return ""

    def _watch_disks(self, fault: DiskError) -> None:
        self._vm.block.guest_io.fault = self._request
        if fault.access:
            self._when_running(lambda: self._access(fault))

    def _request(self, request: GuestRequest) -> None:
        def wanted(fault: Fault) -> bool:
            return (
                isinstance(fault, DiskError)
                and fault.operation in (None, request.operation)
                and self._is_of(fault, request.backend)
            )

        for fault, _ in self._matching("disk", wanted):
            assert isinstance(fault, DiskError)
            raise BlockIoError(_TEXTS[fault.errno])

    def _is_of(self, fault: DiskError, backend: Any) -> bool:
        if fault.device is None:
            return True
        with contextlib.suppress(ValueError):
            return self._backend(fault.device) is backend
        return False

    def _backend(self, name: str) -> Any:
        from fakeqemu.model.guest.disks import backend_of

        try:
            found = backend_of(self._vm.block, name)
        except QapiError as error:
            raise ValueError(f"no disk {name!r}: {error.desc}") from None
        if found is None:
            raise ValueError(f"node {name!r} is no disk of a device")
        return found

    def _access(self, fault: DiskError) -> None:
        """The guest uses the disk as guests do: without changing what is on it."""
        from fakeqemu.model.block.backends.guest_io import GuestRequest

        block = self._vm.block
        for backend in tuple(block.backends.shown()):
            if backend.device is None or backend.node is None or not self._is_of(fault, backend):
                continue
            operation = fault.operation or "write"
            with contextlib.suppress(QapiError):  # which the guest sees
                data = backend.read(0, _SECTOR) if operation == "write" else None
                block.guest_io.perform(GuestRequest(backend, operation, 0, _SECTOR, data))

    # -- the process -----------------------------------------------------------------------------

    def _make_files(self) -> None:
        """Socket files that nobody listens at: those of a process that has bound and no more."""
        for option in self._vm.configuration.chardevs:
            values = option.values
            server, abstract = (
                values.get(name) in ("on", True) for name in ("server", "abstract")
            )
            if values.get("backend") == "socket" and "path" in values and server and not abstract:
                with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as bound:
                    bound.bind(values["path"])

    def _exiting(self, _code: int) -> None:
        host = self._vm.host
        for fault, _ in self._matching("process", lambda each: isinstance(each, LateExit)):
            assert isinstance(fault, LateExit)
            if isinstance(host, OsHost):
                host.exit_delay = max(host.exit_delay, fault.seconds)

    # -- when ------------------------------------------------------------------------------------

    def _when_served(self, call: Callable[[], None]) -> None:
        if self._vm.process.main_loop_running:
            call()
        else:
            self._vm.process.on_main_loop.append(call)

    def _when_running(self, call: Callable[[], None]) -> None:
        """As soon as the guest runs."""
        vm = self._vm
        if vm.runstate.running:
            vm.process.call_later(0, call)
            return

        def changed(running: bool, _state: str) -> None:
            if running:
                vm.lifecycle.on_state_change.remove(changed)
                vm.process.call_later(0, call)

        vm.lifecycle.on_state_change.append(changed)
