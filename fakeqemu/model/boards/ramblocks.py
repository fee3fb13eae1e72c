"""The guest's memory in the pieces that migration knows: blocks with names and sizes.

The machine's own memory comes first, then what the board brings along, then what devices have,
and in the end the tables for the firmware. What boards and devices have is recorded.

See system/physmem.c: qemu_ram_set_idstr() and ram_block_add(); migration/savevm.c:
vmstate_register_ram().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass
from fakeqemu.model.qdev.device import user_devices
from fakeqemu.model.qdev.devpath import section_name

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.boards.numa import Numa
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.model.qom.tree import Qom, QomObject
    from fakeqemu.profile import Profile

#: tables for the firmware, made when everything else is there
_TABLES = "/rom@"
#: regions whose size is a property of the device
_DISPLAY_MEMORY = ("vga.vram", "bochs-display-vram")
#: a TPM's physical presence interface, which a property leaves out
_PRESENCE = "tpm-ppi"
_CANONICAL = "x-use-canonical-path-for-ramblock-id"


@dataclass(frozen=True, slots=True)
class RamBlock:
    """One block of guest memory."""

    #: as the migration stream has it
    name: str
    #: name of the memory region, without a device's path
    region: str
    #: bytes in use
    size: int
    #: bytes it can grow to
    reserved: int
    #: whether another process can map the same memory
    shared: bool
    #: whether that takes a descriptor from this process, and not just the file again
    by_descriptor: bool = False


def blocks_of(state: MachineState, numa: Numa) -> list[RamBlock]:
    """The blocks that are migrated, in order of creation."""
    early: list[RamBlock] = []
    late: list[RamBlock] = []
    for device in user_devices(state.qom):
        (late if device.values.get("hotplugged") else early).extend(blocks_of_device(state, device))
    tables = [block for block in _of_board(state) if block.name.startswith(_TABLES)]
    return [*board_blocks(state, numa), *early, *tables, *late]


def board_blocks(state: MachineState, numa: Numa) -> list[RamBlock]:
    """Of these, the ones that are there before any device of the user's."""
    own = [block for block in _of_board(state) if not block.name.startswith(_TABLES)]
    return [*backend_blocks(state, numa), *own]


def backend_blocks(state: MachineState, numa: Numa) -> list[RamBlock]:
    """Of these, the machine's own memory."""
    return [_of_backend(state, backend) for backend in _backends(state, numa)]


def _of_board(state: MachineState) -> list[RamBlock]:
    shared = _aux_is_shared(state.qom)
    return [
        RamBlock(f"{path}/{name}" if path else name, name, size, reserved, shared, shared)
        for name, path, size, reserved in _recorded_of_machine(state).get("ram", ())
    ]


def _aux_is_shared(qom: Qom) -> bool:
    return bool(qom.container("/machine").values.get("aux-ram-share"))


def blocks_of_device(state: MachineState, device: DeviceObject) -> list[RamBlock]:
    """The blocks that a device brings along: the backend it maps, and its own."""
    shared = _aux_is_shared(state.qom)
    path = device.values.get("memdev")
    backend = state.qom.at(path) if isinstance(path, str) and path else None
    found = [_of_backend(state, backend)] if backend is not None else []
    recorded = recorded_of_device(state.profile, device.type)
    for name, has_path, size, reserved in recorded.get("ram", ()):
        if name == _PRESENCE and device.values.get("ppi") is False:
            continue
        full = section_name(state.profile, device, name) if has_path else name
        given = _display_memory(device) if name in _DISPLAY_MEMORY else None
        found.append(RamBlock(full, name, given or size, given or reserved, shared, shared))
    return found


def _display_memory(device: DeviceObject) -> int | None:
    """The bytes of memory that a display was asked to have; None if it cannot be asked."""
    bytes = device.values.get("vgamem")
    if isinstance(bytes, int):
        return 1 << (max(bytes, 1) - 1).bit_length()
    asked = device.values.get("vgamem_mb")
    if not isinstance(asked, int):
        return None
    return 1 << (min(max(asked, 1), 512) - 1).bit_length() << 20


def recorded_of_device(profile: Profile, type: str) -> dict[str, Any]:
    """What is recorded of migrating a device of that type; empty if there is nothing to say.

    Raises MissingPartError where the recording has nothing of the kind.
    """
    facts: dict[str, Any] = profile.part("migratability")["devices"].get(type, {})
    return facts


def _recorded_of_machine(state: MachineState) -> dict[str, Any]:
    if state.type is None:
        return {}
    machines = state.profile.part("migratability")["machines"]
    kind = "full" if state.configuration.has_defaults else "bare"
    facts: dict[str, Any] = machines.get(
        state.profile.recorded_machine(state.type.name), {}
    ).get(kind, {})
    return facts


def _backends(state: MachineState, numa: Numa) -> list[QomObject]:
    """The memory backends that are the machine's memory."""
    paths = [state.qom.container("/machine").values.get("memory-backend")]
    nodes = [f"/objects/{node.memdev}" for node in numa.nodes.values() if node.memdev]
    if nodes:
        paths = [*nodes]
    found = []
    for path in paths:
        obj = state.qom.at(path) if isinstance(path, str) and path else None
        if obj is not None and obj not in found:
            found.append(obj)
    return found


def _of_backend(state: MachineState, backend: QomObject) -> RamBlock:
    size = int(backend.get("size"))
    shared = bool(backend.get("share")) if backend.has("share") else False
    name = backend.path if _has_canonical_name(state, backend) else backend.name
    reopened = state.profile.is_a(backend.type, "memory-backend-file")
    # private memory of no file cannot be shared after all
    return RamBlock(name, backend.name, size, size, shared, shared and not reopened)


def _has_canonical_name(state: MachineState, backend: QomObject) -> bool:
    """Old machine types call memory after the whole path of its object."""
    if state.type is None:
        return False
    return any(
        name == _CANONICAL and text in ("true", "on") and state.profile.is_a(backend.type, type)
        for type, name, text in state.type.compat_props
    )
