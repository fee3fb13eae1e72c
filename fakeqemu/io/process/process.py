"""A machine as a process: parse, boot, serve, leave, with QEMU's words and exit codes.

Start-up is most of what a short test pays for, so packages are imported when they are needed, and
asyncio only once a machine has booted, or has to wait for somebody.

See system/main.c: main(); system/runstate.c: qemu_main_loop(), main_loop_should_exit() and
qemu_cleanup().
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.error_report import EarlyExit
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import Clock
from fakeqemu.dataclass import dataclass, field
from fakeqemu.guard import allow_deep_input, describe
from fakeqemu.io.chardev.stdio import occupy_closed
from fakeqemu.io.host import OsHost
from fakeqemu.io.loop import EarlyLoop, Loop
from fakeqemu.io.process.boot_driver import BootDriver
from fakeqemu.io.process.clock import LoopClock
from fakeqemu.io.process.error_prefix import print_text, report, write_lines
from fakeqemu.io.process.exit_status import leave
from fakeqemu.io.process.late_imports import allow_late_imports
from fakeqemu.io.process.signals import default_signals, report_text, watch_signals
from fakeqemu.journal import DEFAULT_ENTRIES
from fakeqemu.profile import Profile
from fakeqemu.qapi import reads
from fakeqemu.qapi.errors import FakeQemuError, InternalError, QapiError, StartupError

if TYPE_CHECKING:
    from fakeqemu.configuration import Configuration
    from fakeqemu.io.net_taps import TapInterfaces
    from fakeqemu.io.process.daemonize import Daemon
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
    #: how many entries of the journal are kept; 0: all
    journal: int = DEFAULT_ENTRIES
    #: which TAP interfaces other machines have open; None: nobody looks
    interfaces: TapInterfaces | None = None
    #: what else there is to say of a command line that QEMU refuses with these words
    hint: Callable[[str], str | None] = lambda _: None
    #: called with the machine before it boots
    before_boot: Sequence[Callable[[Machine], None]] = field(default=())


def run_process(
    argv: Sequence[str], profile: Profile, options: ProcessOptions | None = None
) -> int:
    """Run one QEMU with arguments `argv` (without the program's name); its exit status.

    Where QEMU would be ended by a signal this does not return.
    """
    account = os.environ.get(reads.VARIABLE)
    log = reads.start() if account else None
    process = _Process(profile, options or ProcessOptions())
    code = process.run(list(argv))
    if log is not None and account:
        from pathlib import Path

        log.add_to(Path(account))
    return leave(code)


class _Process:
    def __init__(self, profile: Profile, options: ProcessOptions) -> None:
        self._profile = profile
        self._options = options
        self._daemon: Daemon | None = None

    def run(self, argv: list[str]) -> int:
        occupy_closed()
        default_signals()
        allow_deep_input()
        try:
            configuration = parse_command_line(
                argv, self._profile, self._options.program
            )
        except EarlyExit as leave:
            self._print_lines(leave.earlier)
            print_text(leave.stdout)
            return leave.code
        except StartupError as error:
            self._print_error(error)
            if (hint := self._options.hint(error.message)) is not None:
                write_lines(f"fakeqemu: {hint}")
            return error.code
        except QapiError as error:
            self._print_lines([error.desc])
            return 1
        except Exception as bug:
            self._print_lines([f"fakeqemu: internal error: {describe(bug)}"])
            return 1
        print_text("".join(configuration.printed))
        configuration.as_posted = self._options.as_posted
        if configuration.daemonize:
            from fakeqemu.io.process.daemonize import Daemon

            self._daemon = Daemon.start()
        if configuration.run_with or configuration.overcommit:
            from fakeqemu.io.process.privileges import prepare

            try:
                prepare(configuration)
            except StartupError as error:
                self._print_error(error)
                return error.code
        return self._main(configuration)

    def _main(self, configuration: Configuration) -> int:
        """Boot as far as nobody has to be waited for, then import asyncio and serve."""
        allow_late_imports()
        early = EarlyLoop()
        over = _Outcome()
        host = OsHost(Loop(early), program=self._options.program)
        host.own_process = True
        host.interfaces = self._options.interfaces
        host.on_setup_post = lambda: self._setup_post(configuration)
        clock = self._options.clock or LoopClock(host.loop, self._options.speed)
        boot = Boot.of(configuration, self._profile, clock, host)
        host.serve(boot.vm)
        if self._options.journal:
            boot.vm.journal.keep_last(self._options.journal)
        boot.vm.process.on_exit.append(lambda _: over.settle())
        if self._options.check_replies:
            from fakeqemu.qmp.checks import check_everything

            check_everything(boot.vm, over.settle)
        booted = self._boot(boot, host, over)
        _import_asyncio()
        import asyncio

        early.make_room()
        return asyncio.run(self._serve(early, boot, host, booted, over))

    def _setup_post(self, configuration: Configuration) -> None:
        """See os-posix.c: os_setup_post(). Raises QapiError."""
        if configuration.runas is not None:
            from fakeqemu.io.process.privileges import become

            # needed even to end, and perhaps out of that user's reach
            _import_asyncio()
            become(configuration.runas)
        if self._daemon is not None:
            self._daemon.started()

    async def _serve(
        self, early: EarlyLoop, boot: Boot, host: OsHost, booted: _Outcome, over: _Outcome
    ) -> int:
        """Serve until the machine ends, then close `host`; the exit status."""
        import asyncio

        vm = boot.vm
        loop = asyncio.get_running_loop()
        # a callback that nobody guards: a bug all the same
        loop.set_exception_handler(
            lambda _, context: vm.guard.report(context.get("exception") or RuntimeError())
        )
        early.start(loop)
        try:
            await booted.wait()
            if over.done:
                await over.wait()
            watch_signals(host.loop, lambda number, sender: _signalled(vm, host, number, sender))
            gc.freeze()
            gc.enable()
            boot.finish()
            await over.wait()
        except StartupError as error:
            self._print_error(error, vm)
            return await _close_failed(host, error.code)
        except EarlyExit as leave:
            self._print_lines(leave.earlier)
            print_text(leave.stdout)
            return await _close_failed(host, leave.code)
        except InternalError:
            # it has been reported where it happened
            return await _close_failed(host, 1)
        except FakeQemuError as error:
            host.warn(str(error))
            return await _close_failed(host, 1)
        except Exception as bug:
            vm.guard.report(bug)
            return await _close_failed(host, 1)
        host.close()
        if host.exit_delay:
            await asyncio.sleep(host.exit_delay)
        return vm.process.exit_code or 0

    def _boot(self, boot: Boot, host: OsHost, over: _Outcome) -> _Outcome:
        """Go through the steps; over early if the machine ends."""
        booted = _Outcome()
        over.then(booted.settle)
        try:
            for call in self._options.before_boot:
                call(boot.vm)
            BootDriver(boot.run(), host, booted.settle).start()
        except Exception as error:
            booted.settle(error)
        return booted

    def _print_error(self, error: StartupError, vm: Machine | None = None) -> None:
        if error.heading:
            self._print_lines(error.earlier, vm)
            write_lines(error.heading)
            self._print_lines([error.message], vm)
            return
        if not error.own_line:
            self._print_lines(error.lines, vm)
            return
        self._print_lines(error.earlier, vm)
        write_lines(error.message)

    def _print_lines(self, lines: Sequence[str], vm: Machine | None = None) -> None:
        for line in lines:
            report(self._options.program, line, vm)


def _import_asyncio() -> None:
    """As a Python has it that was built without OpenSSL, which asyncio provides for.

    No machine speaks TLS through it, and that is a sixth of its import and 4 MB of memory.
    """
    if "asyncio" in sys.modules or "ssl" in sys.modules:
        return
    # what an import takes for not there
    sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        import asyncio  # noqa: F401
    finally:
        del sys.modules["ssl"]


class _Outcome:
    """What something came to; it may be known before there is a loop."""

    def __init__(self) -> None:
        self.done = False
        self._error: BaseException | None = None
        self._waiters: list[Callable[[], object]] = []

    def settle(self, error: BaseException | None = None) -> None:
        """It is over, unless it was before: well, or with `error`."""
        if self.done:
            return
        self.done, self._error = True, error
        for waiter in self._waiters:
            waiter()

    def then(self, call: Callable[[], object]) -> None:
        """Call `call` once it is over."""
        self._waiters.append(call)

    async def wait(self) -> None:
        """Return when it is over. Raises its error."""
        if not self.done:
            import asyncio

            future = asyncio.get_running_loop().create_future()
            self.then(lambda: future.set_result(None))
            await future
        if self._error is not None:
            raise self._error


async def _close_failed(host: OsHost, code: int) -> int:
    """Clients that came in time are greeted and see the end; socket files stay."""
    import asyncio

    for chardev in host.vm.chardevs.values() if host.vm is not None else ():
        if (hush := getattr(chardev.transport, "hush", None)) is not None:
            hush()
    for _ in range(3):
        await asyncio.sleep(0)
    host.close(keep_files=True)
    return code


def _signalled(vm: Machine, host: OsHost, number: int, sender: int) -> None:
    """A signal ends the machine whatever -no-shutdown says."""
    if host.heeds_signal is not None and not host.heeds_signal(number):
        return
    if vm.process.exit_code is not None:
        return  # a second signal before the main loop has looked for the first is one to QEMU
    host.warn(report_text(number, sender))
    vm.lifecycle.actions["shutdown"] = "poweroff"
    vm.lifecycle.shutdown("host-signal")
