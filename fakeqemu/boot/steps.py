"""The steps of the boot up to the monitors, each a function that may refuse with QEMU's words.

A step reads the configuration, makes its part of the machine and notes for the journal what it
has looked at. Refusals are `StartupError`; a `QapiError` that escapes is one without location.
Steps in which real QEMU blocks are generators.

See system/vl.c: qemu_create_early_backends(), qemu_create_machine(), qemu_create_late_backends()
and qemu_process_early_options().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.boot.board import board
from fakeqemu.boot.board.drives import create_drives
from fakeqemu.boot.chardevs import (
    chardev_options,
    check_stdio,
    monitor_options,
)
from fakeqemu.boot.checks import machine_properties, options as checks
from fakeqemu.boot.checks.backends import (
    check_display,
    check_display_options,
    check_icount,
)
from fakeqemu.boot.checks.board import check_named_objects
from fakeqemu.boot.default_devices import add_default_devices
from fakeqemu.boot.requests import (
    AttachMonitor,
    WaitForClient,
    WaitForCprState,
    Work,
    WritePidFile,
)
from fakeqemu.boot.state import error_location
from fakeqemu.configuration import OptionString
from fakeqemu.migration import cpr
from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.migration.parameters.early import EarlyParameters
from fakeqemu.migration.parameters.parameters import Layer
from fakeqemu.model.boards.memory_devices.address_space import region_size
from fakeqemu.model.chardev.chardev import ChardevOptions
from fakeqemu.qapi import reads
from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError
from fakeqemu.qapi.readers.qemu_opts import parse_number

if TYPE_CHECKING:
    from fakeqemu.boot.state import BootState

#: a machine's property that says how much address space memory modules can have
_MODULES = "device-memory-region-size"
#: -object types that wait for what they name: character devices, net backends, block nodes
_LATE_OBJECTS = frozenset(
    {
        "rng-egd",
        "qtest",
        "cryptodev-vhost-user",
        "vhost-user-blk-server",
        "filter-buffer",
        "filter-dump",
        "filter-mirror",
        "filter-redirector",
        "colo-compare",
        "filter-rewriter",
        "filter-replay",
        "monitor-hmp",
        "monitor-qmp",
    }
)


# -- before the accelerator --------------------------------------------------------------------


def fill_fd_sets(boot: BootState) -> None:
    """-add-fd: the descriptor goes into the set, under a number of its own."""
    boot.read(descriptors=[entry.text for entry in boot.configuration.add_fd])
    for entry in boot.configuration.add_fd:
        with error_location(entry.location):
            fd, number = parse_number("fd", entry.values["fd"]), entry.values["set"]
            copy = boot.vm.host.dup_fd(fd)
            opaque = entry.values.get("opaque")
            boot.vm.fdsets.add(copy, parse_number("set", number), opaque)
    for fd in {entry.values["fd"] for entry in boot.configuration.add_fd}:
        boot.vm.host.close_fd(parse_number("fd", fd))


def write_pid_file(boot: BootState) -> Work:
    """-pidfile."""
    path = boot.configuration.pidfile
    boot.read(pidfile=path)
    if path is not None:
        try:
            yield WritePidFile(path)
        except QapiError as exc:
            raise StartupError(f"cannot create PID file: {exc.desc}") from exc


def take_early_parameters(boot: BootState) -> None:
    """-incoming makes the machine wait for one; `config:` and a cpr channel say more."""
    configuration = boot.configuration
    boot.read(incoming=[each.text for each in configuration.incoming])
    if configuration.early_parameters:
        boot.read(parameters=[each.text for each in configuration.early_parameters])
    traits = boot.profile.traits
    early = EarlyParameters(
        defaults=schemainfo.unset_early_values(boot.profile), as_posted=configuration.as_posted
    )
    for each in configuration.incoming:
        if (values := each.early_values) is not None:
            early.add_config(
                values, Layer.CONFIG if each.option == "incoming" else Layer.OPTION
            )
    for given in configuration.early_parameters:
        early.add_config(given.values, Layer.OPTION)
    boot.vm.exec_state = boot.vm.host.left_by_exec() if boot.profile.traits.cpr_exec else None
    if not traits.cpr_channel_implies_mode:
        pass
    elif boot.vm.exec_state is not None:
        early.imply_mode(cpr.EXEC)
    elif configuration.cpr_incoming is not None:
        early.imply_mode(cpr.TRANSFER)
    boot.parameters.early = early
    if traits.migration_object_creatable:
        from fakeqemu.migration.proposed.user_object import TYPE, UserMigrationObjects

        boot.vm.objects.makers[TYPE] = UserMigrationObjects(boot.vm, boot.parameters).make
    if traits.iommufd_saved or traits.early_parameters or traits.tap_cpr or traits.tap_has_local:
        boot.vm.migration.parameters = boot.parameters
    # As posted, any -incoming at all makes the machine wait; meant is: one with a channel.
    lone_waits = early.as_posted or traits.lone_parameters_wait
    if any(each.form != "config" or lone_waits for each in configuration.incoming):
        boot.vm.runstate.set("inmigrate")


def configure_replay(boot: BootState) -> None:
    """-icount rr=: a guest's run as a record in a file."""
    entry = boot.configuration.icount
    boot.read(icount=entry.text if entry is not None else None)
    if entry is not None:
        from fakeqemu.boot.checks.replay import open_record

        open_record(boot.vm, entry)


def dump_device_tree(boot: BootState) -> None:
    """-machine dumpdtb=: the board's device tree instead of a start."""
    if boot.settings.properties.get("dumpdtb") and boot.profile.traits.dumpdtb_needs_tree:
        from fakeqemu.boot.checks import board as of_board

        of_board.dump_device_tree(boot.vm)


def start_replay(boot: BootState) -> None:
    """-icount rr=: whether the guest's run can be recorded. Raises StartupError."""
    if boot.configuration.icount is not None:
        from fakeqemu.boot.checks.replay import start

        start(boot.vm)


def configure_clock(boot: BootState) -> None:
    """-rtc."""
    boot.read(rtc=boot.configuration.rtc)
    checks.check_clock(boot.configuration)


def merge_memory_options(boot: BootState) -> None:
    """-m becomes a part of the machine's options."""
    memory = boot.configuration.memory
    boot.read(memory=memory.text if memory is not None else None)
    checks.merge_memory(boot.configuration, boot.profile)


def create_machine(boot: BootState) -> None:
    """The machine object of the type asked for."""
    configuration = boot.configuration
    if configuration.acpi_tables:
        from fakeqemu.boot.checks.firmware_tables import acpi_blob

        boot.vm.state.acpi_tables = acpi_blob(configuration.acpi_tables)
    machine = checks.select_machine(configuration, boot.profile)
    boot.read(asked=configuration.machine_type, machine=machine.name)
    board.create_machine(boot.vm, machine)


def load_cpr_state(boot: BootState) -> Work:
    """With a cpr channel: wait here, before any socket, until the old process has spoken."""
    vm, incoming = boot.vm, boot.configuration.cpr_incoming
    boot.read(channel=incoming.text if incoming else None, exec=vm.exec_state is not None)
    if vm.exec_state is not None:
        cpr.take_over_exec(vm, vm.exec_state)
        if incoming is not None:
            boot.warn(f"ignoring cpr channel for migration mode {cpr.EXEC}")
        return
    if incoming is None or incoming.channel is None:
        return
    address = incoming.channel["addr"]
    channel = yield WaitForCprState(address, cpr.incoming_reader(vm, address))
    for line in channel.complaints:
        boot.messages.report(line)
    if channel.error is not None:
        channel.close()
        raise channel.error
    cpr.keep(vm, channel.saved)
    vm.cpr_channel = channel


def set_up_display(boot: BootState) -> None:
    """-display: whether there is such a one here."""
    boot.read(display=boot.configuration.display.get("type"))
    check_display(boot.configuration, boot.profile, boot.vm.host)


def add_defaults(boot: BootState) -> None:
    """What QEMU adds where neither an option nor -nodefaults forbids it."""
    assert boot.vm.state.type is not None
    add_default_devices(boot.configuration, boot.profile, boot.vm.state.type)
    boot.read(has_defaults=boot.configuration.has_defaults)


def check_display_suboptions(boot: BootState) -> None:
    """-display: what the one that was chosen cannot do."""
    boot.read(display=boot.configuration.display)
    check_display_options(boot.configuration, boot.profile, boot.messages)


def create_early_objects(boot: BootState) -> None:
    """Those -object that nothing has to be there for."""
    _create_objects(boot, early=True)


def create_late_objects(boot: BootState) -> None:
    """Memory backends, and those -object that name a backend."""
    _create_objects(boot, early=False)


def finish_preallocation(boot: BootState) -> None:
    """Memory that -object reserved in the background is there: here it was at once."""
    wanted = [o for o in boot.configuration.objects if o.values.get("prealloc")]
    boot.read(objects=[entry.values["id"] for entry in wanted])


def _create_objects(boot: BootState, *, early: bool) -> None:
    wanted = [o for o in boot.configuration.objects if _is_early(o) == early]
    boot.read(objects=[entry.values["id"] for entry in wanted])
    for entry in wanted:
        try:
            boot.vm.objects.add(entry.values)
        except QapiError as exc:
            raise StartupError(exc.desc, hint=exc.hint) from exc


def _is_early(entry: OptionString) -> bool:
    kind: str = entry.values["qom-type"]
    return kind not in _LATE_OBJECTS and not kind.startswith("memory-backend-")


def start_spice(boot: BootState) -> None:
    """-spice: its server is not modelled."""
    boot.read(spice=[entry.text for entry in boot.configuration.spice])
    if boot.configuration.spice:
        raise NotModelledError("-spice")


def create_chardevs(boot: BootState) -> Work:
    """-chardev, and those of -qmp and -monitor; a listening one with wait=on blocks here."""
    boot.read(chardevs=[entry.id for entry in boot.configuration.chardevs])
    for entry in boot.configuration.chardevs:
        for options in chardev_options(entry, boot.profile, boot.messages):
            check_stdio(options, boot.configuration)
            with error_location(entry.location):
                yield from create_chardev(boot, options)


def create_file_systems(boot: BootState) -> None:
    """-fsdev."""
    boot.read(fsdevs=[entry.id for entry in boot.configuration.fsdevs])
    for entry in boot.configuration.fsdevs:
        from fakeqemu.boot.fsdevs import check_fsdev

        check_fsdev(entry, boot.profile)


def create_block_devices(boot: BootState) -> None:
    """-blockdev, then -drive and the drives that QEMU adds by itself."""
    configuration = boot.configuration
    boot.read(
        blockdevs=[entry.values.get("node-name") for entry in configuration.blockdevs],
        drives=[entry.text for entry in configuration.drives],
    )
    for entry in configuration.blockdevs:
        with error_location(entry.location):
            boot.vm.block.add(entry.values)
    create_drives(boot.vm)


def create_audio(boot: BootState) -> None:
    """-audiodev: whether there is such a driver, and what it needs of the host."""
    boot.read(audiodevs=[entry.id for entry in boot.configuration.audiodevs])
    for entry in boot.configuration.audiodevs:
        from fakeqemu.boot.checks.host_devices import check_audiodev

        check_audiodev(entry.values, boot.profile, boot.vm.host)


def create_chardev(boot: BootState, options: ChardevOptions) -> Work:
    """Make one character device; one that waits for its client has everything wait."""
    vm = boot.vm
    if options.id in vm.chardevs:
        raise QapiError(f"Chardev with id '{options.id}' already exists")
    chardev = vm.chardevs.open(options)
    if options.backend == "socket" and chardev.is_server and options.options.get("wait"):
        yield WaitForClient(chardev)


def apply_machine_options(boot: BootState) -> None:
    """-machine properties, -smp, -m, -boot."""
    vm = boot.vm
    assert vm.state.type is not None
    settings = machine_properties.apply_machine_options(
        boot.configuration, boot.profile, vm.state.type, boot.messages
    )
    boot.settings = settings
    vm.cpus.topology = settings.topology
    vm.state.memory.size, vm.state.memory.maxmem = settings.ram_size, settings.maxram_size
    vm.state.memory.slots = settings.ram_slots
    machine = vm.qom.container("/machine")
    machine.values.update({n: v for n, v in settings.properties.items() if n in machine.shapes})
    check_named_objects(vm, settings)
    if reads.log is not None:
        for name in machine.values.keys() & settings.properties.keys():
            machine.values = reads.log.watch(machine.values, name)
    if _MODULES in machine.values:
        machine.values[_MODULES] = region_size(vm.state)
    boot.read(properties=sorted(settings.properties), ram_size=settings.ram_size)


def choose_accelerator(boot: BootState) -> None:
    """The first of -accel, or of -machine accel=, that works here."""
    check_icount(boot.configuration)
    if boot.configuration.icount is not None:
        from fakeqemu.boot.checks.replay import check_modelled

        check_modelled(boot.configuration.icount)
    chosen = checks.choose_accelerator(
        boot.configuration,
        boot.profile,
        boot.vm.host,
        boot.messages,
        boot.settings.accelerators,
    )
    boot.vm.state.accelerator = chosen.name
    boot.read(accelerator=chosen.name)


def open_trace_file(boot: BootState) -> None:
    """-trace file=. Raises StartupError."""
    traces = boot.configuration.trace
    path = traces[-1].values.get("file") if traces else None
    boot.read(events=boot.configuration.trace_patterns, file=path)
    if path is not None:
        from fakeqemu.boot.checks.log_options import create_trace_file

        create_trace_file(path, boot.configuration, boot.vm.host)


# -- late backends -----------------------------------------------------------------------------


def attach_monitors(boot: BootState) -> Work:
    """From here a client is greeted, although nothing answers before the main loop."""
    boot.read(monitors=[entry.values.get("chardev") for entry in boot.configuration.monitors])
    for entry in boot.configuration.monitors:
        options = monitor_options(entry, boot.vm.chardevs)
        with error_location(entry.location):
            yield AttachMonitor(options, boot.vm.chardevs[options.chardev])
            # the label of -qmp's and -monitor's device is not the monitor's own id
            boot.vm.objects.add_monitor(
                options.id if entry.option == "mon" else None,
                chardev=options.chardev,
                human=options.mode == "readline",
                pretty=options.pretty,
            )


def create_serials(boot: BootState) -> Work:
    """-serial, -parallel, -debugcon: their character devices, after the monitors."""
    boot.read(ports=[entry.text for entry in boot.configuration.serials])
    if boot.configuration.serials:
        from fakeqemu.boot.serials import create_ports

        yield from create_ports(boot)
