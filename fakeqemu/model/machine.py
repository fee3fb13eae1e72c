"""The virtual machine: the parts a management tool can see, held together.

Each part owns its own state; this class owns none but the parts and where the boot stands.

See hw/core/machine.c: machine_initfn().
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import Clock
from fakeqemu.model.boards.cpus import Cpus
from fakeqemu.model.boards.guest_memory import GuestMemory
from fakeqemu.model.boards.machine_state import MachineState
from fakeqemu.model.boards.memory_devices.address_space import is_mapped
from fakeqemu.model.boards.numa import Numa
from fakeqemu.model.chardev.chardevs import Chardevs
from fakeqemu.model.fds.cpr_fds import SavedFds
from fakeqemu.model.fds.fdset import Fdsets, MonitorFds
from fakeqemu.model.fds.iommufd import IommuBackends
from fakeqemu.model.host import CprChannel, Host
from fakeqemu.model.hw.vfio import VfioDevices
from fakeqemu.model.lifecycle import Lifecycle
from fakeqemu.model.migration import CurrentMigration
from fakeqemu.model.net.descriptors import BackendDescriptors
from fakeqemu.model.net.net import Net
from fakeqemu.model.net.tap import Taps
from fakeqemu.model.process import Process
from fakeqemu.model.qdev.backends import DeviceBackends
from fakeqemu.model.qdev.bus import Buses
from fakeqemu.model.qdev.monitor import Devices
from fakeqemu.model.qom.tree import Qom
from fakeqemu.model.qom.user_creatable import Objects
from fakeqemu.model.runstate import RunState
from fakeqemu.model.ui.console import Display
from fakeqemu.model.yank import Yank

if TYPE_CHECKING:
    from fakeqemu.configuration import Configuration
    from fakeqemu.model.block.layer import BlockLayer
    from fakeqemu.model.boards.machine_state import Port
    from fakeqemu.model.dump.dump import Dump
    from fakeqemu.model.guest.agent import AgentHooks
    from fakeqemu.model.guest.guest import Guest
    from fakeqemu.model.guest.log import GuestLog
    from fakeqemu.model.guest.workload import Workload
    from fakeqemu.model.hw.ioport import IoSpace
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.model.tpm.tpm import Tpm
    from fakeqemu.model.trace import TraceEvents
    from fakeqemu.model.ui.input import InputHandlers
    from fakeqemu.model.ui.vnc import Displays
    from fakeqemu.profile import Profile


class Machine:
    """One emulated QEMU process, minus its sockets."""

    def __init__(
        self, profile: Profile, configuration: Configuration, clock: Clock, host: Host
    ) -> None:
        self.process = process = Process(profile, clock, host)
        self.profile = profile
        self.configuration = configuration
        self.clock = clock
        self.host = host
        self.journal = process.journal
        self.guard = process.guard
        self.events = process.events
        self.runstate = RunState(profile.traits, self.journal)
        self.lifecycle = Lifecycle(process, self.runstate, configuration)
        self.chardevs = Chardevs(process, self.lifecycle, configuration.escape)
        #: guest ports on character devices
        self.ports: list[Port] = []
        #: this machine's migration, for those who stand below it
        self.migration = CurrentMigration()
        #: where the old process of a CPR start waits for us to listen; None without one
        self.cpr_channel: CprChannel | None = None
        #: CPR state left by the process that executed this one; None if none has
        self.exec_state: bytes | None = None
        #: descriptors to be handed to the next process, or got from the last
        self.saved_fds = SavedFds()
        self.fdsets = Fdsets(process, self.runstate)
        self.named_fds = MonitorFds()
        self.qom = Qom()
        self.state = MachineState(process, configuration, self.qom)
        self.taps = Taps(process, self.runstate, self.state, self.migration)
        self.cpus = Cpus(process, self.lifecycle, self.state)
        self.objects = Objects(process, self.qom, self.chardevs)
        self.chardevs.check_tls_credentials = self.objects.check_tls_credentials
        descriptors = BackendDescriptors(
            *(host, self.named_fds, self.saved_fds, self.migration),
            reads_early=profile.traits.early_parameters,
        )
        self.iommus = IommuBackends(process, self.objects, descriptors)
        self.net = Net(
            process,
            self.runstate,
            self.chardevs,
            lifecycle=self.lifecycle,
            migration=self.migration,
            objects=self.objects,
            taps=self.taps,
            descriptors=descriptors,
        )
        self.numa = Numa(self.state, self.cpus, self.objects)
        #: what is in the guest's memory
        self.guest_memory = GuestMemory(self.state, self.numa)
        self.buses = Buses(self.qom, profile)
        self.devices = Devices(
            process,
            self.state,
            self.cpus,
            self.numa,
            lifecycle=self.lifecycle,
            buses=self.buses,
            backends=DeviceBackends(
                profile,
                self.runstate,
                self.chardevs,
                self.net,
                block=lambda: self.block,
                tpm=lambda: self.tpm,
            ),
            migration=self.migration,
            vfio=VfioDevices(process, self.iommus),
        )
        self.devices.on_removed.append(self._device_removed)
        self.objects.users["memory-backend"] = self._memory_in_use
        self.yank = Yank(self.chardevs, self.migration)
        self.display = Display(self.state, self.lifecycle, self.chardevs)
        #: how busy the guest is, for the time a migration takes; None: an idle guest
        self.guest_workload: Workload | None = None
        #: where a tester stands between the guest agent and who asks it
        self.agent_hooks: AgentHooks | None = None
        #: whether the boot waits for x-exit-preconfig
        self.preconfig = False
        #: goes on with the boot; set by whoever runs it while `preconfig` is true
        self.exit_preconfig: Callable[[], None] | None = None
        #: what serves QMP; made and used by `fakeqemu.qmp` alone
        self.dispatcher: Any = None

    @cached_property
    def block(self) -> BlockLayer:
        """Block nodes, backends, jobs and exports; made when first asked for, as few ask."""
        from fakeqemu.model.block.layer import BlockLayer

        return BlockLayer(
            self.process,
            self.runstate,
            self.lifecycle,
            self.state,
            objects=self.objects,
            fdsets=self.fdsets,
            yank=self.yank,
        )

    @cached_property
    def tpm(self) -> Tpm:
        """The TPM; made when first asked for, as few ask."""
        from fakeqemu.model.tpm.tpm import Tpm

        return Tpm(
            self.process,
            self.runstate,
            self.lifecycle,
            self.migration,
            only_migratable=self.configuration.only_migratable,
        )

    @cached_property
    def io(self) -> IoSpace:
        """The guest's I/O ports; made when first looked at."""
        from fakeqemu.model.hw.chips import makers
        from fakeqemu.model.hw.ioport import IoSpace

        return IoSpace(
            self.process,
            self.runstate,
            self.lifecycle,
            self.state,
            makers(self.guest_memory, self.cpus, self.numa, self.chardevs, self.buses),
        )

    @cached_property
    def guest(self) -> Guest:
        """The guest, which does what it is told."""
        from fakeqemu.model.guest.guest import Guest
        from fakeqemu.model.guest.ports import GuestPorts

        return Guest(
            self.process,
            self.runstate,
            self.lifecycle,
            state=self.state,
            cpus=self.cpus,
            devices=self.devices,
            ports=GuestPorts(self.events, self.qom, self.chardevs, self.ports),
            agent_hooks=lambda: self.agent_hooks,
        )

    @cached_property
    def trace_events(self) -> TraceEvents:
        """Trace events; made when first asked for, as few ask."""
        from fakeqemu.model.trace import TraceEvents

        return TraceEvents(self.profile, self.cpus, self.configuration.trace_patterns)

    @cached_property
    def dump(self) -> Dump:
        """The dump of the guest's memory; made when first asked for, as few ask."""
        from fakeqemu.model.dump.dump import Dump

        return Dump(
            self.process,
            self.runstate,
            self.lifecycle,
            memory=self.guest_memory,
            cpus=self.cpus,
            named_fds=self.named_fds,
            migration=self.migration,
        )

    @cached_property
    def vnc(self) -> Displays:
        """VNC displays; made when first asked for, as few ask."""
        from fakeqemu.model.ui.vnc import Displays

        return Displays(
            self.process, self.lifecycle, self.configuration, self.display, self.objects
        )

    @cached_property
    def log(self) -> GuestLog:
        """Where the log of the guest's doings goes; made when first asked for."""
        from fakeqemu.model.guest.log import GuestLog

        return GuestLog(self.host, self.configuration)

    @cached_property
    def input(self) -> InputHandlers:
        """Keyboards and mice; made when first asked for, or when a device goes."""
        from fakeqemu.model.ui.input import InputHandlers

        return InputHandlers(self.qom, self.process.phases)

    @property
    def has_block(self) -> bool:
        """Whether anybody has asked for the block layer."""
        return "block" in self.__dict__

    def inactivate_disks(self) -> None:
        """Another process has the disks from now on: the end of an outgoing migration."""
        if self.has_block:
            self.block.inactivate()

    def activate_disks(self) -> None:
        """Activate the disks. Raises QapiError if another process holds a lock on one."""
        if self.has_block:
            self.block.activate()

    def _device_removed(self, device: DeviceObject) -> None:
        self.input.removed(device)

    def _memory_in_use(self, name: str) -> bool:
        backend = self.objects.get(name)
        return backend is not None and is_mapped(self.qom, self.numa, backend)
