"""The machine's view for stream and time model: section names, sizes, pages that are not zero.

See migration/savevm.c: qemu_savevm_state_setup(), configuration_post_load() and
vmstate_register_ram().
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fakeqemu.dataclass import fields, replace
from fakeqemu.formats.migration_stream.constants import PAGE_SIZE
from fakeqemu.formats.migration_stream.load_context import LoadContext, LocalBlock
from fakeqemu.formats.migration_stream.source import DeviceSection, Source, SourceBlock
from fakeqemu.formats.migration_stream.vmstate import tpm_emulator, vmstate_fields as layout
from fakeqemu.migration import cpr
from fakeqemu.migration.channels.address import requires_unix_socket
from fakeqemu.migration.outgoing.phase import MigrationFailedError
from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.migration.transfer.data import PAGE, Limits
from fakeqemu.model.boards import pci_info as pci
from fakeqemu.model.boards.ramblocks import RamBlock, blocks_of
from fakeqemu.model.guest.workload import Workload
from fakeqemu.model.net.tap import TapBackend, tap_section
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qdev.devpath import device_path, section_name

if TYPE_CHECKING:
    from fakeqemu.migration.block_dirty_bitmaps import IncomingBitmaps
    from fakeqemu.migration.parameters.settings import MigrationSettings
    from fakeqemu.model.machine import Machine

#: section of a real QEMU's CPU; see target/i386/machine.c: vmstate_x86_cpu
REGISTERS_SECTION = "cpu"
_PCI_SECTION = re.compile(r"([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f:.]*[0-9a-f]{2}\.[0-7])/")
#: of a device on a pseries machine's bridges, or on an s390x machine's channels
_TARGET_SECTION = re.compile(
    r"(pci@[0-9a-f]+:(?:[0-9a-f:.]*:)?[0-9a-f]{2}\.[0-7]|/[0-9a-f]{2}\.[0-3]\.[0-9a-f]{4})/"
)


#: version of the section of a TAP
_TAP_VERSION = 1

#: bytes of memory that are not zero before and after the firmware of a PC has run
_FIRMWARE_FRESH = 50 * PAGE
_FIRMWARE_STARTED = 120 * PAGE


def machine_name(vm: Machine) -> str:
    """The machine type as the stream names it."""
    asked = vm.configuration.machine_type
    machine = vm.profile.default_machine if asked is None else vm.profile.machine(asked)
    return machine.name if machine is not None else ""


def _uuid(vm: Machine) -> UUID | None:
    return UUID(vm.configuration.uuid) if vm.configuration.uuid else None


def _describes(vm: Machine) -> bool:
    return not vm.qom.root.children or not vm.qom.container("/machine").values.get(
        "suppress-vmdesc"
    )


def _property(migration: MigrationSettings, name: str) -> bool:
    """A property of the migration object that some versions lack; false there."""
    return name in migration.properties and bool(migration.properties[name])


def source(vm: Machine, migration: MigrationSettings) -> Source:
    """The machine as the stream writer's `Source`."""
    properties = migration.properties
    on = frozenset(name for name, state in _states(migration).items() if state)
    taps = vm.taps.to_send() if requires_unix_socket(migration.parameters) else []
    return Source(
        machine_name(vm),
        tuple(SourceBlock(block.name, block.size) for block in blocks_of(vm.state, vm.numa)),
        on,
        _uuid(vm),
        tuple(_tap_section(tap) for tap in taps),
        late_devices=lambda: _tpm_section(vm),
        descriptors=tuple(vm.taps.descriptor(tap) for tap in taps),
        configuration=bool(properties["send-configuration"]),
        footers=bool(properties["send-section-footer"]),
        flush_each_section=_property(migration, "multifd-flush-after-each-section"),
        description=_describes(vm),
        global_state=bool(properties["store-global-state"]),
        switchover_start=_property(migration, "send-switchover-start"),
        ram_id=_ram_id(vm),
        page_size_summary=_page_sizes(vm),
        content=_content(vm, migration),
        unsent=(*_cpu_sections(vm), *_user_sections(vm)),
    )


def expectation(
    vm: Machine,
    migration: MigrationSettings,
    file_offset: int = 0,
    bitmaps: IncomingBitmaps | None = None,
) -> LoadContext:
    """The machine as the stream reader's `LoadContext`."""
    blocks = {
        block.name: LocalBlock(
            block.size, block.reserved if block.reserved > block.size else None
        )
        for block in blocks_of(vm.state, vm.numa)
    }
    properties = migration.properties
    return LoadContext(
        machine_name(vm),
        _states(migration),
        _uuid(vm),
        blocks,
        blocks_complete=vm.state.type is not None,
        section=lambda name, instance: _section_version(vm, name, instance),
        runstates=schemainfo.run_states(vm.profile),
        configuration=bool(properties["send-configuration"]),
        footers=bool(properties["send-section-footer"]),
        description=_describes(vm),
        page_size_summary=_page_sizes(vm),
        file_offset=file_offset,
        memory=vm.guest_memory,
        bitmaps=bitmaps,
    )


def _tap_section(tap: TapBackend) -> DeviceSection:
    """The section that an open device goes along with: a byte for its descriptor."""
    fields = (layout.VmStateField("fd", "fd", 1),)
    return DeviceSection(layout.VmState(tap_section(tap.id), _TAP_VERSION, fields), b"\0")


def _tpm_section(vm: Machine) -> list[DeviceSection]:
    """The state of a TPM emulator. Raises MigrationFailedError."""
    if not vm.configuration.tpmdevs or vm.tpm.emulator is None:
        return []
    from fakeqemu.model.tpm.emulator import TpmError

    try:
        blobs = vm.tpm.save()
    except TpmError as error:
        vm.host.warn(str(error))
        text = f"pre-save failed: {tpm_emulator.SECTION}"
        if vm.profile.traits.pre_save_failure_reported:
            vm.host.warn(text)
        recorded = vm.profile.traits.pre_save_failure_recorded
        raise MigrationFailedError(text if recorded else "") from None
    return [DeviceSection(tpm_emulator.layout_of(blobs), tpm_emulator.encode(blobs))]


def _content(vm: Machine, migration: MigrationSettings) -> Callable[[str], Mapping[int, bytes]]:
    """Content of pages by block name; empty for memory that CPR shares."""
    ignored = migration.capabilities("x-ignore-shared")
    all_shared = migration.mode in cpr.SHARING
    left = {b.name for b in blocks_of(vm.state, vm.numa) if all_shared or (ignored and b.shared)}
    return lambda block: {} if block in left else vm.guest_memory.pages(block)


def _page_sizes(vm: Machine) -> int:
    """Sizes of host pages of all RAM, or-ed: nothing where there is none."""
    return PAGE_SIZE if blocks_of(vm.state, vm.numa) else 0


def _section_version(vm: Machine, name: str, instance: int) -> int | None:
    """The newest accepted version of a section; None: any, it is skipped unread."""
    fixed = layout.known(name, vm.profile.traits)
    if fixed is not None:
        return fixed.version_id
    if name == tpm_emulator.SECTION:
        return tpm_emulator.VERSION if vm.configuration.tpmdevs and not instance else None
    if name.startswith(tap_section("")):
        return _TAP_VERSION if vm.taps.awaits(name) and not instance else None
    return None if lacks_section(vm, name, instance) else 0xFFFF_FFFF


def _ram_id(vm: Machine) -> int:
    """The section id of `ram`: error texts contain it, and it depends on the sections before it."""
    configuration = vm.configuration
    has_audio = configuration.has_defaults or bool(configuration.audiodevs)
    return 2 if has_audio or vm.profile.traits.stream_audio_always else 1


def _states(migration: MigrationSettings) -> dict[str, bool]:
    return {name: migration.capabilities(name) for name in migration.capabilities.names}


# -- sections of devices -------------------------------------------------------------------------


def lacks_section(vm: Machine, name: str, instance: int) -> bool:
    """Whether the machine certainly has no section of this name and instance.

    That is so if its address has no device, or one with another section; or no such CPU.
    """
    if name == vm.profile.traits.stream_cpu_section and vm.state.type is not None:
        return (name, instance) not in _cpu_sections(vm)
    if vm.state.type is None:
        return False
    match, paths = _PCI_SECTION.match(name), _pci_paths
    if match is None:
        match, paths = _TARGET_SECTION.match(name), _paths
    if match is None:
        return False
    return match[1] not in paths(vm) or _other_section(vm, match[1], name)


def _other_section(vm: Machine, path: str, name: str) -> bool:
    """Whether a user's device, known with its section, is at `path`, and this is another's."""
    here = [d for d in vm.devices.user_devices() if device_path(vm.profile, d) == path]
    if not here:
        return False
    names = _section_names(vm)
    return (
        name[len(path) + 1 :] in names.values()
        and any(obj.type in names for device in here for obj in device.walk())
        and all(name != known for known, _ in _user_sections(vm))
    )


def _section_names(vm: Machine) -> dict[str, str]:
    """Section name of each device type for which it is recorded. Raises MissingPartError."""
    names: dict[str, str] = vm.profile.part("vmstates")
    return names


def _pci_paths(vm: Machine) -> set[str]:
    """What the board has on its first bus, and what users have plugged anywhere."""
    found = {
        f"0000:00:{entry['slot']:02x}.{entry['function']:x}"
        for bus in pci.query(vm.state, vm.buses)[:1]
        for entry in bus["devices"]
    }
    return found | {device_path(vm.profile, device) for device in vm.devices.user_devices()}


def _paths(vm: Machine) -> set[str]:
    return {device_path(vm.profile, each) for bus in vm.buses.all() for each in bus.devices}


def _cpu_sections(vm: Machine) -> list[tuple[str, int]]:
    """Name and instance of one section per CPU."""
    if vm.state.type is None:
        return []
    name, cpus = vm.profile.traits.stream_cpu_section, vm.cpus
    indexes = [cpu.index for cpu in cpus.present()]
    if name == "apic":
        return [(name, cpus.topology.apic_id(index)) for index in indexes]
    return [(name, index) for index in indexes]


def _user_sections(vm: Machine) -> list[tuple[str, int]]:
    """Name and instance of the sections of users' devices, where their type is known."""
    devices = list(vm.devices.user_devices())
    if vm.state.type is None or not devices:
        return []
    names = _section_names(vm)
    found: list[tuple[str, int]] = []
    for device in devices:
        for obj in device.walk():
            if isinstance(obj, DeviceObject) and obj.type in names:
                name = section_name(vm.profile, obj, names[obj.type])
                found.append((name, sum(name == known for known, _ in found)))
    return found


# -- the transfer --------------------------------------------------------------------------------


def workload(vm: Machine, migration: MigrationSettings, stopped_in: str | None) -> Workload:
    """The workload of the time model: the tester's, or an idle guest.

    Its memory size is always the machine's. `stopped_in`: the run state in which a migration has
    stopped the guest; None if it has not.
    """
    ignored = migration.capabilities("x-ignore-shared")
    blocks = blocks_of(vm.state, vm.numa)
    ram = sum(block.size for block in blocks if not (ignored and block.shared))
    if migration.mode in cpr.SHARING:
        ram = 0
    given: Workload | None = vm.guest_workload
    base = given
    if base is None:
        vcpus = max(1, vm.cpus.topology.cpus)
        base = Workload(vcpus=vcpus, content=_firmware_content(vm, stopped_in))
    return replace(base, ram=ram)


def _firmware_content(vm: Machine, stopped_in: str | None) -> int:
    """Bytes of memory that firmware has written: all that an idle guest has."""
    if vm.state.type is None:
        return 0
    runstate = stopped_in or vm.runstate.current
    return _FIRMWARE_FRESH if runstate == "prelaunch" else _FIRMWARE_STARTED


def limits(migration: MigrationSettings) -> Limits:
    """Parameters and capabilities that affect the transfer."""
    get, on = migration.parameters.get, migration.capabilities
    given: dict[str, Any] = {
        each.name: get(name)
        for each in fields(Limits)
        if (name := each.name.replace("_", "-")) in migration.types
    }
    return Limits(
        **{name: value for name, value in given.items() if value is not None},
        auto_converge=on("auto-converge"),
        dirty_limit=on("dirty-limit"),
        multifd=on("multifd"),
    )


def received_blocks(vm: Machine) -> dict[str, RamBlock]:
    """The blocks by name."""
    return {block.name: block for block in blocks_of(vm.state, vm.numa)}
