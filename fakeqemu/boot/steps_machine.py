"""The steps of the boot from the net backends to the running guest.

See system/vl.c: qmp_x_exit_preconfig(), qemu_init_board(), qemu_create_cli_devices() and
qemu_machine_creation_done().
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.boot.board import board
from fakeqemu.boot.board.drives import check_orphans
from fakeqemu.boot.board.nics import create_nic_backends
from fakeqemu.boot.board.usb import create_usb_devices
from fakeqemu.boot.chardevs import open_legacy_chardev
from fakeqemu.boot.checks import options as checks
from fakeqemu.boot.checks.backends import netdev_arguments
from fakeqemu.boot.checks.board import check_board, check_enclave_memory, check_ram, place_memory
from fakeqemu.boot.requests import SetupPost, Work
from fakeqemu.boot.state import error_location
from fakeqemu.dataclass import replace
from fakeqemu.migration import cpr
from fakeqemu.migration.object import MigrationObject, current_migration
from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.model.net.check import warnings as net_warnings
from fakeqemu.model.qdev.backends import DeviceFrontend
from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError

if TYPE_CHECKING:
    from fakeqemu.boot.checks.options import CpuModel
    from fakeqemu.boot.state import BootState

#: machine types that load neither firmware nor a kernel the usual ways
_WITHOUT_FIRMWARE = ("none", "x-remote", "nitro")


def warn_of_deprecation(boot: BootState) -> None:
    """A deprecated machine type is said to be one on standard error."""
    machine = boot.vm.state.type
    assert machine is not None
    boot.read(machine=machine.name, deprecated=machine.deprecated)
    if machine.deprecated and boot.vm.state.accelerator != checks.TEST_ACCELERATOR:
        boot.warn(
            f"Machine type '{machine.name}' is deprecated: {machine.deprecation_reason}"
        )


def create_migration_object(boot: BootState) -> None:
    """Lay default, compat, -global and early parameters over each other; check the whole."""
    vm = boot.vm
    assert vm.state.type is not None
    boot.read(
        machine=vm.state.type.name,
        globals={
            f"{each.driver}.{each.property}": each.value
            for each in boot.configuration.globals
            if each.driver == "migration"
        },
        early=boot.parameters.early.values(),
    )
    implied = boot.parameters.early.implied_mode
    migration = MigrationObject(vm, early=boot.parameters.early)
    boot.parameters.object = vm.migration.object = migration
    if vm.runstate.check("inmigrate"):
        migration.incoming_mode = implied
    if boot.configuration.tpmdevs:
        vm.tpm.block_migration()
    for client in vm.net.clients:
        client.block_migration()
    prepare = boot.configuration.prepare
    if prepare is not None:
        with error_location(prepare.location):
            migration.prepared.begin(
                prepare.values.get("uri"),
                prepare.values.get("channels"),
                exit_on_error=prepare.values.get("exit-on-error", True),
            )


def choose_cpu_model(boot: BootState) -> None:
    """-cpu, or the machine's own."""
    vm = boot.vm
    assert vm.state.type is not None
    model = checks.choose_cpu_model(boot.configuration, boot.profile, vm.state.type)
    boot.cpu_model = model
    boot.read(cpu=boot.configuration.cpu, model=model.type if model else None)
    if model is not None:
        vm.cpus.type = model.type


def resolve_memory(boot: BootState) -> None:
    """The object that is the machine's memory, where -machine names it."""
    backend = boot.settings.memory_backend
    boot.read(memory_backend=backend, size=boot.settings.ram_size)
    if backend is None:
        return
    size = board.use_memory(boot.vm, backend)
    if not boot.settings.ram_size_given:
        boot.settings.ram_size = boot.vm.state.memory.size = size


def configure_numa(boot: BootState) -> None:
    """-numa."""
    boot.read(numa=[entry.text for entry in boot.configuration.numa])
    for entry in boot.configuration.numa:
        arguments = checks.numa_arguments(entry, boot.profile, boot.vm.state.type)
        with error_location(entry.location):
            boot.vm.numa.set_node(arguments)
        if "mem" in arguments and boot.vm.state.accelerator != "qtest":
            boot.messages.warn("Parameter -numa node,mem is deprecated, use -numa node,memdev "
                               "instead", entry.location)


def create_qtest(boot: BootState) -> Work:
    """-qtest. Raises StartupError."""
    text, log = boot.configuration.qtest, boot.configuration.qtest_log
    boot.read(qtest=text, log=log)
    if text is not None:
        from fakeqemu.boot import qtest

        yield from qtest.create_qtest(boot, text, log)


def create_net_backends(boot: BootState) -> None:
    """-netdev, -nic, -net: a TAP reads here, early, whether it is to open its device."""
    boot.read(netdevs=[entry.id for entry in boot.configuration.netdevs])
    boot.vm.chardevs.open_legacy = partial(open_legacy_chardev, boot.vm)
    for entry in boot.configuration.netdevs:
        arguments = entry.values if entry.json else netdev_arguments(entry, boot.profile)
        with error_location(entry.location):
            client = boot.vm.net.add(arguments)
        for text in client.warnings:
            boot.messages.warn(text, entry.location)
        boot.vm.net.option_ids.add(arguments["id"])
    if "local" in schemainfo.parameter_types(boot.profile):
        boot.read(local={tap.id: tap.local for tap in boot.vm.taps})
    create_nic_backends(boot)


def create_tpm(boot: BootState) -> None:
    """-tpmdev."""
    boot.read(tpmdevs=[entry.id for entry in boot.configuration.tpmdevs])
    if boot.configuration.tpmdevs:
        from fakeqemu.boot.checks.host_devices import open_tpmdev
    for entry in boot.configuration.tpmdevs:
        open_tpmdev(entry, boot.vm)


def reset_devices(boot: BootState) -> None:
    """The machine is reset: its TPM starts, queues are enabled. Raises StartupError."""
    boot.read(tpmdevs=[entry.id for entry in boot.configuration.tpmdevs])
    for client in boot.vm.net.clients:
        client.nic_was_reset()
    if boot.configuration.tpmdevs:
        from fakeqemu.boot.checks.host_devices import start_tpm

        start_tpm(boot.vm)
    if len(boot.vm.cpus) and not boot.vm.state.is_a("x86-machine"):
        from fakeqemu.boot.board import of_targets

        of_targets.at_reset(boot)


def load_plugins(boot: BootState) -> None:
    """-plugin: a library of the host's, which cannot be run here. Raises StartupError."""
    from fakeqemu.model.host_files import is_file

    boot.read(plugins=[entry.values["file"] for entry in boot.configuration.plugins])
    for entry in boot.configuration.plugins:
        name = entry.values["file"]
        if boot.vm.host.file_error(name) is None and "/" in name:
            raise NotModelledError("-plugin")
        # the name that the loader tries last; see GLib's g_module_open()
        library = name if is_file(boot.vm.host, name) or name.endswith(".so") else f"{name}.so"
        raise StartupError(
            f"Could not load plugin {name}: {library}: cannot open shared object file: "
            "No such file or directory"
        )


def create_board(boot: BootState) -> None:
    """CPUs, chips, buses and memory of the machine."""
    machine, model = boot.vm.state.type, boot.cpu_model
    assert machine is not None
    check_ram(boot.vm, machine, boot.settings)
    board.create_memory(boot.vm)
    boot.vm.numa.complete(boot.warn)
    if model is not None:
        place_memory(boot.vm, _choose_features(boot, model))
    check_enclave_memory(boot.vm, boot.settings)
    check_board(boot.configuration, machine, boot.settings, boot.profile)
    if machine.name not in _WITHOUT_FIRMWARE:
        if boot.vm.state.is_a("x86-machine"):
            from fakeqemu.boot.checks.firmware_files import load_firmware
        else:
            from fakeqemu.boot.checks.firmware_of_targets import load_firmware
        load_firmware(boot)
    cpr.check_memory(boot.vm)
    if machine.default_cpu_type is not None and not boot.vm.state.is_a("x86-machine"):
        from fakeqemu.boot.board import of_targets

        of_targets.before_board(boot)
    ports = board.create_board(boot.vm)
    if machine.default_cpu_type is not None:
        for port in ports:
            boot.vm.chardevs[port.chardev].attach(DeviceFrontend())
    boot.read(cpus=len(boot.vm.cpus))


def _choose_features(boot: BootState, model: CpuModel) -> dict[str, Any]:
    """What the CPUs have; each of them warns of what it does not have. Raises QapiError."""
    from fakeqemu.model.boards.board import expansion, settle_address_bits

    vm, machine_type = boot.vm, boot.vm.state.type
    assert machine_type is not None
    values = dict(expansion(boot.profile, model.type))
    given = checks.check_cpu_features(model, vm.state.accelerator, boot.profile)
    if not given and model.type == machine_type.default_cpu_type:
        # the machine's own model has all that it asks for
        settle_address_bits(values, ())
        _warn_of_threads(boot, values)
        return values
    from fakeqemu.model.boards.cpu_features import (
        CpuFeatures,
        check_numbers,
        version_of_max,
        work_out,
    )

    if not vm.state.is_a("x86-machine"):
        vm.cpus.features = CpuFeatures(given)
        return {**values, **given}

    features = work_out(boot.profile, model.type, given, vm.state.accelerator)
    by_value = checks.check_cpu_features(
        replace(model, plus=(), minus=()), vm.state.accelerator, boot.profile
    )
    features.values.update(version_of_max(boot.profile, model.type, by_value))
    vm.cpus.features = features
    check_numbers(given, vm.cpus.topology)
    values.update(features.values)
    for index in range(vm.cpus.topology.cpus):
        for line in features.warnings:
            boot.warn(line)
        if features.enforced:
            raise QapiError("TCG doesn't support requested features")
        if index == 0:
            settle_address_bits(values, features.values)
            _warn_of_threads(boot, values)
    return values


def _warn_of_threads(boot: BootState, cpu: Mapping[str, Any]) -> None:
    """AMD CPUs have threads only with a feature. See target/i386/cpu.c: x86_cpu_realizefn()."""
    threads = boot.vm.cpus.topology.levels["threads"]
    if threads > 1 and cpu.get("vendor") == "AuthenticAMD" and not cpu.get("topoext"):
        boot.warn(boot.profile.traits.hyperthreading_warning.format(threads))


def find_orphaned_drives(boot: BootState) -> None:
    """-drive that the board has no place for: those of boards without devices of users."""
    boot.read(drives=[entry.text for entry in boot.configuration.drives])
    check_orphans(boot)


def add_fw_cfg_items(boot: BootState) -> None:
    """-fw_cfg."""
    boot.read(items=[entry.text for entry in boot.configuration.fw_cfg])
    machine = boot.vm.state.type
    assert machine is not None
    taken: set[str] = set()
    if boot.configuration.fw_cfg:
        from fakeqemu.boot.checks.backends import check_fw_cfg
        from fakeqemu.boot.checks.firmware_files import check_fw_cfg_item
    for entry in boot.configuration.fw_cfg:
        check_fw_cfg(entry, machine, boot.messages)
        check_fw_cfg_item(boot, entry, taken)


def plug_usb_devices(boot: BootState) -> None:
    """-usbdevice."""
    boot.read(devices=[entry.text for entry in boot.configuration.usb_devices])
    create_usb_devices(boot)


def create_devices(boot: BootState) -> None:
    """-device: all of key=value form first, then those in JSON."""
    boot.read(devices=[entry.text for entry in boot.configuration.devices])
    for entry in boot.configuration.devices:
        try:
            with error_location(entry.location):
                boot.vm.devices.create(entry.values, typed=entry.json)
        except StartupError as error:
            error.location = error.location or entry.location
            raise


def warn_of_unused_net_clients(boot: BootState) -> None:
    """Warn of net clients that no device uses."""
    configuration = boot.configuration
    test = boot.vm.state.accelerator == checks.TEST_ACCELERATOR
    if not configuration.defaults.net and (not test or configuration.has_defaults):
        net = boot.vm.net
        for warning in net_warnings(net.hubs, net.clients, net.nic_configs, test=test):
            boot.warn(warning)


def warn_of_unused_globals(boot: BootState) -> None:
    """-global that concerned nothing."""
    boot.read(globals=[f"{each.driver}.{each.property}" for each in boot.configuration.globals])
    used = boot.vm.devices.properties.used_globals
    for warning in checks.unused_globals(boot.configuration, boot.profile, used):
        boot.warn(warning)


def check_firmware_tables(boot: BootState) -> None:
    """-smbios: whether the board can make tables of it. Raises StartupError."""
    if boot.configuration.smbios:
        from fakeqemu.boot.checks.firmware_tables import check_smbios

        check_smbios(boot.vm)


def start_gdb_servers(boot: BootState) -> Work:
    """-gdb and -s. Raises StartupError."""
    boot.read(gdb=[entry.text for entry in boot.configuration.gdb])
    if boot.configuration.gdb:
        from fakeqemu.boot import gdbserver

        yield from gdbserver.start_gdb_servers(boot)


def load_snapshot(boot: BootState) -> None:
    """-loadvm: the guest resumes from there, even if an -incoming is still waiting.

    See migration/savevm.c: load_snapshot_resume().
    """
    name = boot.configuration.loadvm
    boot.read(loadvm=name)
    if name is not None:
        from fakeqemu.model.block.operations import savevm

        boot.vm.activate_disks()  # an -incoming that brings nobody left them inactive
        savevm.load(boot.vm, name)
        if boot.vm.lifecycle.autostart:
            boot.vm.lifecycle.vm_start()


def start_incoming(boot: BootState) -> None:
    """The main channel of -incoming, unless it is to wait for migrate-incoming."""
    incoming = boot.configuration.main_incoming
    boot.read(incoming=incoming.text if incoming else None)
    if incoming is not None and not incoming.is_defer:
        from fakeqemu.migration.incoming.incoming_option import start_from_command_line

        address = incoming.channel["addr"] if incoming.channel is not None else None
        try:
            migration = current_migration(boot.vm)
            assert migration is not None
            end = incoming.exit_on_error
            start_from_command_line(migration.incoming, address, incoming.text, exit_on_error=end)
        except QapiError as exc:
            location = f"-{incoming.option} {incoming.text}"
            raise StartupError(exc.desc, location=location, hint=exc.hint) from exc


def start_guest(boot: BootState) -> None:
    """Start the guest, unless there is -S or an incoming migration."""
    lifecycle = boot.vm.lifecycle
    boot.read(autostart=lifecycle.autostart, runstate=boot.vm.runstate.current)
    if boot.configuration.main_incoming is None and lifecycle.autostart:
        lifecycle.cont()


def open_displays(boot: BootState) -> None:
    """-display and -vnc: from here clients can look at the screen."""
    boot.read(vnc=[entry.text for entry in boot.configuration.vnc])
    if boot.configuration.display.get("type") in ("curses", "egl-headless"):
        from fakeqemu.boot.checks.host_devices import open_display

        open_display(boot.configuration.display, boot.profile, boot.vm.host)
    for entry in boot.configuration.vnc:
        with error_location(entry.location):
            boot.vm.vnc.open(entry)


def setup_post(boot: BootState) -> Work:
    """A daemonized process lets its parent go.

    A process in mode cpr-exec changes neither root nor user and never lets its parent go, which
    waits for ever: what it executes later would want its old surroundings (seen with 11.1).
    """
    migration = current_migration(boot.vm)
    skipped = boot.profile.traits.cpr_exec and migration is not None and migration.mode == cpr.EXEC
    boot.read(skipped=skipped)
    if not skipped:
        yield SetupPost()
