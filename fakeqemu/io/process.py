"""A machine as a process: parse, boot, serve, leave, with QEMU's words and exit codes.

Start-up is most of what a short test pays for, so rooms are imported when they are needed and
the event loop is our own.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fakeqemu.boot.messages import Exit
from fakeqemu.boot.options import parse_command_line
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import Clock
from fakeqemu.commands import load_all
from fakeqemu.io.clock import LoopClock
from fakeqemu.io.daemon import Daemon
from fakeqemu.io.death import leave
from fakeqemu.io.drive import Drive
from fakeqemu.io.host import LoopHost
from fakeqemu.io.loop import PollLoop
from fakeqemu.io.signals import default_signals, report_text, watch_signals
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import FakeQemuError, StartupError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """How to run, apart from QEMU's own command line."""

    #: what stands before each message
    program: str = "qemu-system-x86_64"
    #: how many times as fast as the wall the machine's clock runs
    speed: float = 1.0
    #: check each reply and event against the schema, and fail loudly
    check_replies: bool = False
    #: early parameters as the patches were posted, not as they were meant
    as_posted: bool = False
    #: the machine's clock; None: real time, `speed` times as fast
    clock: Clock | None = None
    #: called with the machine before it boots
    prepare: Sequence[Callable[[Machine], None]] = field(default=())


def run_process(
    argv: Sequence[str], profile: Profile, options: ProcessOptions | None = None
) -> int:
    """Run one QEMU with arguments `argv` (without the program's name); its exit status.

    Where QEMU would be ended by a signal this does not return.
    """
    process = _Process(profile, options or ProcessOptions())
    return leave(process.run(list(argv)))


class _Process:
    def __init__(self, profile: Profile, options: ProcessOptions) -> None:
        self._profile = profile
        self._options = options
        self._daemon: Daemon | None = None

    def run(self, argv: list[str]) -> int:
        default_signals()
        try:
            configuration = parse_command_line(
                argv, self._profile, self._options.program
            )
        except Exit as leave:
            self._print_lines(leave.earlier)
            sys.stdout.write(leave.stdout)
            sys.stdout.flush()
            return leave.code
        except StartupError as error:
            self._print_lines([*error.earlier, error.message])
            return error.code
        configuration.as_posted = self._options.as_posted
        if configuration.daemonize:
            self._daemon = Daemon.start()
        loop = PollLoop()
        host = LoopHost(loop, program=self._options.program)
        host.may_exec = True
        if self._daemon is not None:
            host.on_setup_post = self._daemon.started
        clock = self._options.clock or LoopClock(loop, self._options.speed)
        boot = Boot.of(configuration, self._profile, clock, host)
        host.serve(boot.vm)
        if self._options.check_replies:
            from fakeqemu.qmp.checks import check_everything

            check_everything(boot.vm)
        for prepare in self._options.prepare:
            prepare(boot.vm)
        return self._serve(boot, host, loop)

    def _serve(self, boot: Boot, host: LoopHost, loop: PollLoop) -> int:
        vm = boot.vm
        over: list[BaseException | None] = []
        try:
            Drive(boot.run(), host, over.append).start()
            loop.run_until(lambda: bool(over) or vm.exit_code is not None)
            if over and over[0] is not None:
                raise over[0]
            watch_signals(loop, lambda number, sender: _signalled(vm, host, number, sender))
            gc.freeze()
            gc.enable()
            boot.finish()
            # while a client that has just been greeted thinks of its first command
            loop.call_soon(load_all)
            loop.run_until(lambda: vm.exit_code is not None)
        except StartupError as error:
            self._print_lines([*error.earlier, error.message], host)
            self._leave_failed(host, loop, error.code)
            return error.code
        except FakeQemuError as error:
            host.warn(str(error))
            self._leave_failed(host, loop, 1)
            return 1
        code = vm.exit_code or 0
        if self._daemon is not None:
            self._daemon.failed(code)
        host.close()
        return code

    def _leave_failed(self, host: LoopHost, loop: PollLoop, code: int) -> None:
        """Clients that came in time are greeted and see the end; socket files stay."""
        for _ in range(3):
            loop.turn(0)
        host.close(keep_files=True)
        if self._daemon is not None:
            self._daemon.failed(code)

    def _print_lines(self, lines: Sequence[str], host: LoopHost | None = None) -> None:
        teller = host or LoopHost(PollLoop(), program=self._options.program)
        for line in lines:
            teller.warn(line)


def _signalled(vm: Machine, host: LoopHost, number: int, sender: int) -> None:
    """A signal ends the machine whatever -no-shutdown says."""
    if host.heeds_signal is not None and not host.heeds_signal(number):
        return
    host.warn(report_text(number, sender))
    vm.lifecycle.actions["shutdown"] = "poweroff"
    vm.lifecycle.shutdown("host-signal")
