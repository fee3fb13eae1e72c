"""The boot: QEMU's steps in QEMU's order, as one visible table.

The order is what management software trips over: what exists when, what an early client sees,
which of two faults is reported. Each step is a function in `boot.steps`; a step that real QEMU
blocks in is a generator and yields a request to whoever drives the boot. Every step leaves one
entry in the journal with what it read.

See system/vl.c: qemu_init(); system/main.c.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from fakeqemu.boot import steps, steps_machine as machine
from fakeqemu.boot.board.vga import warn_of_unused_vga
from fakeqemu.boot.checks.board import check_cxl_targets
from fakeqemu.boot.requests import Request, Work
from fakeqemu.boot.state import BootState
from fakeqemu.clock import Clock
from fakeqemu.configuration import Configuration
from fakeqemu.dataclass import dataclass, replace
from fakeqemu.model.host import Host
from fakeqemu.model.machine import Machine
from fakeqemu.profile import Profile
from fakeqemu.qapi import reads
from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError

StepFunction = Callable[[BootState], Work | None]


@dataclass(frozen=True, slots=True)
class BootStep:
    """One step of the boot."""

    #: as the journal and `fakeqemu explain` call it
    name: str
    run: StepFunction
    #: the phase reached when the step is done, if it ends one
    phase: str | None = None


#: up to the point where -preconfig waits; the migration object comes in where the trait says
_INCOMING_OPTION = BootStep("incoming option", steps.take_early_parameters)
_EARLY_PARAMETERS = BootStep("early parameters", steps.take_early_parameters)
_BEFORE_LATE_BACKENDS = (
    BootStep("fd sets", steps.fill_fd_sets),
    BootStep("pid file", steps.write_pid_file),
    BootStep("trace", steps.open_trace_file),
    BootStep("replay", steps.configure_replay),
    BootStep("clock", steps.configure_clock),
    BootStep("memory options", steps.merge_memory_options),
    BootStep("machine object", steps.create_machine),
    BootStep("cpr state", steps.load_cpr_state),
    BootStep("display", steps.set_up_display),
    BootStep("default devices", steps.add_defaults),
    BootStep("display options", steps.check_display_suboptions),
    BootStep("early objects", steps.create_early_objects),
    BootStep("spice", steps.start_spice),
    BootStep("chardevs", steps.create_chardevs),
    BootStep("file systems", steps.create_file_systems),
    BootStep("block devices", steps.create_block_devices),
    BootStep("audio", steps.create_audio),
    BootStep("machine options", steps.apply_machine_options, "machine-created"),
    BootStep("accelerator", steps.choose_accelerator, "accel-created"),
    BootStep("machine deprecation", machine.warn_of_deprecation),
)
_MIGRATION_OBJECT = BootStep("migration object", machine.create_migration_object)
_PREALLOCATION = BootStep("memory preallocation", steps.finish_preallocation)
_LATE_BACKENDS: tuple[BootStep, ...] = (
    BootStep("qtest", machine.create_qtest),
    BootStep("net backends", machine.create_net_backends),
    BootStep("late objects", steps.create_late_objects),
    _PREALLOCATION,
    BootStep("tpm", machine.create_tpm),
    BootStep("monitors", steps.attach_monitors),
    BootStep("serial ports", steps.create_serials),
)
_LATE_BACKENDS_CREATED: tuple[BootStep, ...] = (
    *_LATE_BACKENDS[:-1],
    replace(_LATE_BACKENDS[-1], phase="late-backends-created"),
)
_BEFORE_BOARD = (
    BootStep("cpu model", machine.choose_cpu_model),
    BootStep("memory", machine.resolve_memory),
    BootStep("numa", machine.configure_numa),
)
#: what -preconfig puts off until x-exit-preconfig
BOARD_STEPS = (
    BootStep("plugins", machine.load_plugins),
    BootStep("board", machine.create_board, "machine-initialized"),
    BootStep("orphaned drives", machine.find_orphaned_drives),
    BootStep("fw_cfg items", machine.add_fw_cfg_items),
    BootStep("usb devices", machine.plug_usb_devices),
    BootStep("devices", machine.create_devices),
    BootStep("net clients", machine.warn_of_unused_net_clients),
    BootStep("unused globals", machine.warn_of_unused_globals, "machine-ready"),
    BootStep("CXL targets", check_cxl_targets),
    BootStep("firmware tables", machine.check_firmware_tables),
    BootStep("device tree", steps.dump_device_tree),
    BootStep("replay start", steps.start_replay),
    BootStep("first reset", machine.reset_devices),
    BootStep("gdb server", machine.start_gdb_servers),
    BootStep("unused vga", warn_of_unused_vga),
    BootStep("snapshot", machine.load_snapshot),
    BootStep("incoming", machine.start_incoming),
    BootStep("autostart", machine.start_guest),
)
#: steps that -preconfig puts off too when the monitors come before late backends
_AFTER_MONITOR = frozenset(
    {
        *("qtest", "net backends", "late objects", "tpm", "serial ports", "migration object"),
        *("memory preallocation", "memory", "numa", "displays"),
    }
)
_LAST = (
    BootStep("displays", machine.open_displays),
    BootStep("setup post", machine.setup_post),
)


def steps_of(profile: Profile, *, preconfig: bool) -> tuple[BootStep, ...]:
    """The steps that a start of `profile` walks, in order."""
    traits = profile.traits
    first = _EARLY_PARAMETERS if traits.early_parameters else _INCOMING_OPTION
    late = _LATE_BACKENDS_CREATED if traits.late_backends_phase else _LATE_BACKENDS
    if not traits.prealloc_wait:
        late = tuple(step for step in late if step is not _PREALLOCATION)
    if traits.migration_object_before_late_backends:
        middle = (_MIGRATION_OBJECT, *late)
    else:
        middle = (*late, _MIGRATION_OBJECT)
    if preconfig and traits.monitor_before_backends:
        everything = (first, *_BEFORE_LATE_BACKENDS, *middle, *_BEFORE_BOARD, *_LAST)
        return tuple(step for step in everything if step.name not in _AFTER_MONITOR)
    board = () if preconfig else BOARD_STEPS
    return (first, *_BEFORE_LATE_BACKENDS, *middle, *_BEFORE_BOARD, *board, *_LAST)


def steps_after_preconfig(profile: Profile) -> tuple[BootStep, ...]:
    """The steps that x-exit-preconfig walks."""
    if not profile.traits.monitor_before_backends:
        return BOARD_STEPS
    walked = {step.name for step in steps_of(profile, preconfig=True)}
    everything = steps_of(profile, preconfig=False)
    return tuple(step for step in everything if step.name not in walked)


@dataclass(slots=True)
class Boot(BootState):
    """A boot under way.

    Drive it with `for request in boot.run()`, sending back what a request answers; then call
    `finish()`. Errors are `StartupError`.
    """

    @classmethod
    def of(
        cls, configuration: Configuration, profile: Profile, clock: Clock, host: Host
    ) -> Boot:
        """A boot of a new machine."""
        return cls(Machine(profile, configuration, clock, host))

    def run(self) -> Generator[Request, Any, None]:
        """Walk all steps; yields what the driver has to do on the way."""
        for warning in self.configuration.warnings:
            self.vm.host.warn(warning)
        preconfig = self.configuration.preconfig
        for name in self.configuration.passes:
            self.vm.journal.note("boot", name)
        for step in steps_of(self.profile, preconfig=preconfig):
            yield from self._walk(step)
        if preconfig:
            self.vm.preconfig = True
            self.vm.exit_preconfig = self._exit_preconfig

    def finish(self) -> None:
        """The main loop begins: commands that wait are served."""
        if reads.log is not None:
            reads.log.accept()
        self.vm.process.main_loop_started()

    def _walk(self, step: BootStep) -> Generator[Request, Any, None]:
        self.reads.clear()
        try:
            work = step.run(self)
            if work is not None:
                yield from work
        except QapiError as exc:
            raise self._failed(StartupError(exc.desc, hint=exc.hint)) from exc
        except StartupError as exc:
            raise self._failed(exc) from None
        finally:
            self.vm.journal.note("boot", step.name, **dict(self.reads))
        for line in self.messages.lines:
            self.vm.host.warn(line)
        self.messages.lines.clear()
        if step.phase is not None:
            self.vm.process.phases.enter(step.phase)

    def _failed(self, error: StartupError) -> StartupError:
        """The error, with what the step had to say before it."""
        if not error.earlier:
            error.earlier = tuple(self.messages.lines)
        return error

    def _exit_preconfig(self) -> None:
        self.vm.preconfig = False
        self.vm.exit_preconfig = None
        try:
            for step in steps_after_preconfig(self.profile):
                for request in self._walk(step):
                    self._perform(request)
        except StartupError as error:
            for line in error.lines:
                self.vm.host.warn(line)
            self.vm.process.exit(error.code)

    def _perform(self, request: Request) -> None:
        """What a step asks for after preconfig: it cannot wait, as a command is under way."""
        perform = getattr(self.vm.host, "perform", None)
        if perform is None:
            return
        answers: list[Any] = []
        perform(request, answers.append)
        if not answers:
            raise StartupError(NotModelledError("a step that waits after preconfig").desc)
