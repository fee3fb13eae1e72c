"""The virtual machine: the parts a management tool can see, held together.

Each part owns its own state; this class owns none but the parts and where the boot stands.

See hw/core/machine.c: machine_initfn().
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from fakeqemu.clock import Clock, Timer
from fakeqemu.guard import Failed, Guard
from fakeqemu.journal import Journal
from fakeqemu.model.boards.cpus import Cpus
from fakeqemu.model.boards.guest_memory import GuestMemory
from fakeqemu.model.boards.memory import Memory
from fakeqemu.model.boards.numa import Numa
from fakeqemu.model.dump.dump import Dump
from fakeqemu.model.events import Events
from fakeqemu.model.fds.cpr_fds import SavedFds
from fakeqemu.model.fds.fdset import Fdsets, NamedFds
from fakeqemu.model.host import CprChannel, Host
from fakeqemu.model.lifecycle import Lifecycle
from fakeqemu.model.net.net import Net
from fakeqemu.model.net.tap import Taps
from fakeqemu.model.qdev.monitor import Devices
from fakeqemu.model.qom.tree import Qom, QomObject
from fakeqemu.model.qom.user_creatable import Objects
from fakeqemu.model.runstate import RunState
from fakeqemu.model.ui.console import Display
from fakeqemu.model.yank import Yank
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.configuration import Configuration, GlobalProperty
    from fakeqemu.migration.object import MigrationObject
    from fakeqemu.migration.parameters.early import EarlyParameters
    from fakeqemu.migration.transfer.data import Workload
    from fakeqemu.model.block.layer import BlockLayer
    from fakeqemu.model.boards.onboard_ports import Port
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.guest.guest import Guest
    from fakeqemu.model.hw.ioport import IoSpace
    from fakeqemu.model.trace import TraceEvents
    from fakeqemu.model.ui.vnc import Displays
    from fakeqemu.profile import MachineType, Profile

#: the boot's phases, each reached once and in this order
PHASES = (
    "no-machine",
    "machine-created",
    "accel-created",
    "late-backends-created",
    "machine-initialized",
    "machine-ready",
)


class Machine:
    """One emulated QEMU process, minus its sockets."""

    def __init__(
        self, profile: Profile, configuration: Configuration, clock: Clock, host: Host
    ) -> None:
        self.profile = profile
        self.configuration = configuration
        self.clock = clock
        self.host = host
        self.journal = Journal(clock)
        #: what every call from outside goes through
        self.guard = Guard(self.journal, self.exit)
        self.events = Events(clock, self.journal)
        self.runstate = RunState(profile.traits, self.journal)
        self.lifecycle = Lifecycle(self)
        #: character devices by id, in order of creation
        self.chardevs: dict[str, Chardev] = {}
        #: -global that some object has taken
        self.used_globals: set[GlobalProperty] = set()
        #: guest ports on character devices
        self.ports: list[Port] = []
        #: set by the boot step that makes it; None before
        self.migration: MigrationObject | None = None
        #: what `-incoming config:` said; None without early parameters, empty once taken
        self.early: EarlyParameters | None = None
        #: what -acpitable gives, as fw_cfg holds it
        self.acpi_tables = b""
        #: -boot splash=: name and content of the item that firmware finds it under
        self.boot_splash: tuple[str, bytes] | None = None
        #: where the old process of a CPR start waits for us to listen; None without one
        self.cpr_channel: CprChannel | None = None
        #: CPR state left by the process that executed this one; None if none has
        self.exec_state: bytes | None = None
        #: descriptors to be handed to the next process, or got from the last
        self.saved_fds = SavedFds()
        self.taps = Taps()
        #: a migration parameter's value now, early or later; None where there is none.
        #: Set by the boot, like the next one: those who know are above this room.
        self.read_parameter: Callable[[Machine, str], Any] = lambda _vm, _name: None
        #: whether backends are to take over descriptors of an old process
        self.cpr_is_incoming: Callable[[], bool] = lambda: False
        #: makes a character device (its label, its address as -serial takes it)
        self.open_legacy_chardev: Callable[[str, str], None] = _no_legacy_chardev
        #: set with the machine object; None before
        self.machine_type: MachineType | None = None
        #: name of the accelerator in use; empty until it is chosen
        self.accelerator = ""
        self.qom = Qom([])
        self.cpus = Cpus(self)
        self.memory = Memory()
        #: what is in the guest's memory
        self.guest_memory = GuestMemory(self)
        self.devices = Devices(self)
        self.net = Net(self)
        self.objects = Objects(self)
        self.numa = Numa(self)
        self.yank = Yank(self)
        self.dump = Dump(self)
        self.display = Display(self)
        self.fdsets = Fdsets()
        #: how busy the guest is, for the time a migration takes; None: an idle guest
        self.guest_workload: Workload | None = None
        self._named_fds: WeakKeyDictionary[Any, NamedFds] = WeakKeyDictionary()

        self._phase = PHASES[0]
        #: whether the boot waits for x-exit-preconfig
        self.preconfig = False
        #: goes on with the boot; set by whoever runs it while `preconfig` is true
        self.exit_preconfig: Callable[[], None] | None = None
        #: whether commands are served; before, monitors queue them
        self.main_loop_running = False
        #: called once, when the main loop starts
        self.on_main_loop: list[Callable[[], None]] = []
        #: what the process is to leave with; None while it lives
        self.exit_code: int | None = None
        #: what serves QMP; made and used by `fakeqemu.qmp` alone
        self.dispatcher: Any = None
        #: called once with the exit code; the reply being made is still to be sent
        self.on_exit: list[Callable[[int], None]] = []

    @cached_property
    def block(self) -> BlockLayer:
        """Block nodes, backends, jobs and exports; made when first asked for, as few ask."""
        from fakeqemu.model.block.layer import BlockLayer

        return BlockLayer(self)

    @cached_property
    def io(self) -> IoSpace:
        """The guest's I/O ports; made when first looked at."""
        from fakeqemu.model.hw.ioport import IoSpace

        return IoSpace(self)

    @cached_property
    def guest(self) -> Guest:
        """The guest, which does what it is told."""
        from fakeqemu.model.guest.guest import Guest

        return Guest(self)

    @cached_property
    def trace_events(self) -> TraceEvents:
        """Trace events; made when first asked for, as few ask."""
        from fakeqemu.model.trace import TraceEvents

        return TraceEvents(self)

    @cached_property
    def vnc(self) -> Displays:
        """VNC displays; made when first asked for, as few ask."""
        from fakeqemu.model.ui.vnc import Displays

        return Displays(self)

    def inactivate_disks(self) -> None:
        """Another process has the disks from now on: the end of an outgoing migration."""
        if "block" in self.__dict__:
            self.block.inactivate()

    def activate_disks(self) -> None:
        """The disks are ours (again). Raises QapiError if somebody else holds one."""
        if "block" in self.__dict__:
            self.block.activate()

    def call_later(
        self, delay: int, call: Callable[[], object], failed: Failed | None = None
    ) -> Timer:
        """Run `call` once, `delay` nanoseconds of the machine's clock from now.

        `failed`: how its owner fails for a bug in it.
        """
        return self.clock.call_later(delay, self.guard.bind(call, failed))

    @property
    def phase(self) -> str:
        """The phase last reached, one of PHASES."""
        return self._phase

    def enter_phase(self, phase: str) -> None:
        """The boot has come to `phase`."""
        if PHASES.index(phase) < PHASES.index(self._phase):
            raise RuntimeError(f"phase {phase} after {self._phase}")
        self._phase = phase
        self.journal.note("phase", phase)

    def phase_reached(self, phase: str) -> bool:
        """Whether the boot has come to `phase` or past it."""
        return PHASES.index(self._phase) >= PHASES.index(phase)

    def migrating(self) -> bool:
        """Whether an outgoing migration is under way."""
        return self.migration is not None and self.migration.running

    def memory_is_mapped(self, backend: QomObject, besides: QomObject | None = None) -> bool:
        """Whether a memory backend is the guest's memory, or part of it, other than `besides`."""
        links = [self.qom.container("/machine").values.get("memory-backend")]
        devices = (device for device in self.devices.user_devices() if device is not besides)
        links += [device.values.get("memdev") for device in devices]
        links += [f"/objects/{node.memdev}" for node in self.numa.nodes.values()]
        return backend.path in links

    @property
    def expects_incoming(self) -> bool:
        """Whether the machine waits, or waited, for another to migrate into it."""
        return self.configuration.main_incoming is not None

    @property
    def ready(self) -> bool:
        """Whether machine initialization has completed."""
        return self.phase_reached("machine-ready")

    def main_loop_started(self) -> None:
        """Serve commands from now on, those that wait first."""
        self.main_loop_running = True
        callbacks, self.on_main_loop = self.on_main_loop, []
        for callback in callbacks:
            self.guard.call(callback)

    def exit(self, code: int) -> None:
        """The process is to leave with `code` once what it has to say is said."""
        if self.exit_code is not None:
            return
        self.exit_code = code
        self.journal.note("exit", str(code))
        for callback in tuple(self.on_exit):
            self.guard.call(callback, code)

    def named_fds(self, monitor: Any) -> NamedFds:
        """The descriptors that `monitor` has got by getfd."""
        return self._named_fds.setdefault(monitor, NamedFds())


def _no_legacy_chardev(_label: str, text: str) -> None:
    raise QapiError(f"'{text}' is not a valid char driver")
