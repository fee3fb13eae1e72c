"""A copy of a prepared machine in the running loop: no boot, the model as it was prepared."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import Clock, VirtualClock
from fakeqemu.guard import allow_deep_input
from fakeqemu.io.host import OsHost
from fakeqemu.io.loop import Loop
from fakeqemu.io.process.clock import LoopClock
from fakeqemu.model.fds.fdset import NamedFds
from fakeqemu.model.qom.tree import QomObject
from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.testing.machine.monitor_socketpair import SocketpairMonitor
from fakeqemu.testing.prepared.children import reduce_parent
from fakeqemu.testing.prepared.files import BaseFiles, OverlayFiles
from fakeqemu.testing.prepared.snapshot import NotCopyableError, Snapshot
from fakeqemu.testing.runners.base import InProcessRunner, Spec

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.machine import Machine

_SHARED_CHARDEV = "character device {0.id!r} ({0.backend}) belongs to the host: {1}"


class PreparedState:
    """A machine that stands still, to make others of."""

    def __init__(self, runner: InProcessRunner, directory: str) -> None:
        """`runner` has the machine, with a virtual clock. Raises NotCopyableError."""
        vm, host, controller = runner.vm, runner.host, runner.controller
        assert vm is not None and host is not None and controller is not None
        controller.leave_loop()
        clock = vm.clock
        assert isinstance(clock, VirtualClock)
        if vm.process.exit_code is not None:
            raise NotCopyableError("it has ended")
        self._check(vm, host)
        self._directory = directory
        self._now = clock.now()
        files = host.files if "files" in host.__dict__ else None
        self.base = BaseFiles(files)
        named: dict[int, Any] = {
            id(runner): "runner",
            id(host): "host",
            id(clock): "clock",
            id(runner.listener): "listener",
        }
        transports = {}
        for chardev in vm.chardevs.values():
            if chardev.backend == "socket":
                self._check_socket(chardev, directory)
                transports[id(chardev.transport)] = chardev.id
        if files is not None:
            named[id(files)] = "files"
        named |= dict.fromkeys(transports, "transport")
        journal = vm.journal
        kept = journal.waiter, journal.check, journal.aliases
        journal.waiter, journal.check, journal.aliases = None, None, {}
        try:
            self._snapshot = Snapshot.take(
                (vm, controller, clock.pending()), named, directory, self._reduce
            )
        except BaseException:
            self.base.close()
            raise
        finally:
            journal.waiter, journal.check, journal.aliases = kept

    def copy(
        self, runner: InProcessRunner, host: OsHost, clock: Clock, directory: str
    ) -> tuple[Machine, Any]:
        """A copy for `runner`: the machine and what a tester controls it with.

        Raises QapiError for a socket that cannot be.
        """
        own = {
            "runner": runner,
            "host": host,
            "clock": clock,
            "listener": runner.listener,
            "transport": None,
        }
        if self.base.files:
            host.__dict__["files"] = OverlayFiles(self.base)
        own["files"] = host.files
        vm, controller, timers = self._snapshot.restore(
            own, lambda text: text.replace(self._directory, directory)
        )
        host.adopt(vm)
        for due, timer in timers:
            resume(clock, max(0, due - self._now), timer)
        for chardev in vm.chardevs.values():
            if chardev.backend == "socket":
                host.open_chardev(chardev)
                chardev.pause(chardev.paused)
        return vm, controller

    @property
    def now(self) -> int:
        """What the machine's clock shows."""
        return self._now

    def close(self) -> None:
        """No copies are made any more."""
        self.base.close()

    def _reduce(self, one: Any, references: Mapping[int, int]) -> Any:
        fd = getattr(one, "fd", None) if type(one).__module__.startswith("fakeqemu.model") else 0
        if (isinstance(one, NamedFds) and len(one)) or (fd and fd > 0):
            raise NotCopyableError("it has descriptors that others handed over")
        if isinstance(one, QomObject) and references:
            return reduce_parent(one, references, self._directory)
        return self.base.reduce(one)

    @staticmethod
    def _check(vm: Machine, host: OsHost) -> None:
        if host.has_obligations():
            raise NotCopyableError(
                "the host has something to clean up when it ends (memory that others can map, a "
                "pid file, a migration channel or listener)"
            )
        for chardev in vm.chardevs.values():
            if chardev.log is not None:
                raise NotCopyableError(
                    _SHARED_CHARDEV.format(chardev, "copies would write to one log")
                )

    @staticmethod
    def _check_socket(chardev: Chardev, directory: str) -> None:
        address = chardev.address
        if not chardev.is_server:
            why = "each copy would have to connect again"
        elif chardev.connected:
            why = "a client is connected"
        elif chardev.options.get("logfile"):
            why = "copies would write to one log"
        elif address.get("type") == "unix" and address.get("path", "").startswith(directory):
            return
        else:
            why = "copies would listen at one address"
        raise NotCopyableError(_SHARED_CHARDEV.format(chardev, why))


class CopyRunner(InProcessRunner):
    """Runs a copy of a prepared machine."""

    def __init__(self, spec: Spec, state: PreparedState) -> None:
        super().__init__(spec)
        self._state = state

    async def start(self) -> None:
        """Make the copy. Raises StartupError."""
        spec = self._spec
        allow_deep_input()
        loop = self._loop = asyncio.get_running_loop()
        adapter = Loop(loop)
        host = self._host = OsHost(adapter, stderr=self.stderr)
        clock = self._clock(adapter)
        if isinstance(clock, VirtualClock):
            now, due = self._state.now, clock.next_at()
            if clock.now() < now and (due is None or due >= now):
                clock.skip(now)
        elif isinstance(clock, LoopClock):
            clock.start_at(self._state.now)
        try:
            self.vm, self._controller = self._state.copy(self, host, clock, str(spec.directory))
        except QapiError as error:
            raise StartupError(str(error)) from None
        self.journal = self.vm.journal
        if spec.client:
            self._monitor = SocketpairMonitor(self.vm, host.loop)
            self.client_side = self._monitor.client_side


def resume(clock: Clock, delay: int, timer: Any) -> None:
    """Let a timer that was pending run on another clock."""
    if isinstance(clock, VirtualClock):
        clock.take(delay, timer)
    else:
        clock.call_later(delay, timer.run)
