"""Which memory devices there are, and which addresses one gets.

See hw/mem/memory-device.c: memory_device_pre_plug() and memory_device_get_free_addr();
hw/i386/pc.c: pc_get_device_memory_range(); hw/ppc/spapr.c: spapr_machine_init();
hw/s390x/s390-virtio-ccw.c: s390_memory_init().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.boards.guest_memory import below_4g
from fakeqemu.model.qdev.device import user_devices
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.boards.numa import Numa
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.model.qom.tree import Qom, QomObject
    from fakeqemu.profile import Profile

_GIB = 1 << 30
#: the interface of all of them, which the type of a module and that of virtio ones have
_INTERFACE = "memory-device"
#: what anonymous memory is aligned to, and memory of a file
_ALIGNED, _PAGE = 1 << 21, 1 << 12
OF_FILES = ("memory-backend-file", "memory-backend-memfd", "memory-backend-shm")
#: where a device keeps its address: the first that it has
_ADDRESSES = ("memaddr", "addr")
#: machine types with no hole below 4 GiB
_FLAT = ("spapr-machine", "s390-ccw-machine")
LABEL_SIZE = "label-size"


def is_memory_device(profile: Profile, device: DeviceObject) -> bool:
    """Whether a device brings memory that the board gives a place in the address space."""
    return profile.is_a(device.type, _INTERFACE)


def memory_devices(state: MachineState) -> list[DeviceObject]:
    """Those that are plugged, by their addresses."""
    devices = user_devices(state.qom)
    found = [device for device in devices if is_memory_device(state.profile, device)]
    return sorted(found, key=address_of)


def address_of(device: DeviceObject) -> int:
    """Where its memory begins in the guest's address space; 0 before it has a place."""
    return int(device.values[_address_name(device)])


def size_of(state: MachineState, device: DeviceObject) -> int:
    """Bytes of address space that it takes."""
    backend = backend_of(state.qom, device)
    if backend is None:
        return 0
    size = int(backend.get("size"))
    if LABEL_SIZE not in device.values:
        return size
    # the label of an nvdimm stands behind its memory
    left = max(size - int(device.values[LABEL_SIZE]), 0)
    return left // alignment_of(backend) * alignment_of(backend)


def backend_of(qom: Qom, device: DeviceObject) -> QomObject | None:
    """The memory backend that it shows the guest."""
    path = device.values["memdev"]
    return qom.at(path) if path else None


def alignment_of(backend: QomObject) -> int:
    """Bytes that the memory of a backend is aligned to. See util/oslib-posix.c."""
    return _PAGE if backend.type in OF_FILES else _ALIGNED


def is_mapped(qom: Qom, numa: Numa, backend: QomObject, besides: QomObject | None = None) -> bool:
    """Whether a memory backend is the guest's memory, or part of it, other than `besides`."""
    links = [qom.container("/machine").values.get("memory-backend")]
    devices = (device for device in user_devices(qom) if device is not besides)
    links += [device.values.get("memdev") for device in devices]
    links += [f"/objects/{node.memdev}" for node in numa.nodes.values()]
    return backend.path in links


def region_size(state: MachineState) -> int:
    """Bytes of address space for them; in PCs each slot may need a gigabyte more to be aligned."""
    if not state.memory.maxmem > state.memory.size:
        return 0
    if _is_flat(state):
        return state.memory.maxmem - state.memory.size
    return state.memory.maxmem - state.memory.size + state.memory.slots * _GIB


def end_of_memory(state: MachineState) -> int:
    """The address behind all memory, and behind the place for memory devices."""
    room = region_size(state)
    if room:
        return _base(state) + room
    memory = state.memory
    return memory.above_4g_start + memory.size - below_4g(state, memory.size)


def takes_memory_devices(state: MachineState) -> bool:
    """Whether the board has anything to do with them."""
    return state.is_a("generic-pc-machine") or _is_flat(state)


def range_of(state: MachineState) -> range:
    """Their part of the address space."""
    base = _base(state)
    return range(base, base + region_size(state))


def _is_flat(state: MachineState) -> bool:
    """Whether all memory lies from 0 on, and theirs behind it."""
    return any(state.is_a(kind) for kind in _FLAT)


def take_place(
    state: MachineState, device: DeviceObject, backend: QomObject, least: int = 0
) -> None:
    """Give a device the addresses that it asks for, or the first that are free.

    `least`: bytes that they have to be aligned to at least. Raises QapiError.
    """
    alignment = max(alignment_of(backend), least)
    device.values[_address_name(device)] = _free_address(state, device, alignment, backend)


def _address_name(device: DeviceObject) -> str:
    return next(name for name in _ADDRESSES if name in device.values)


def _free_address(
    state: MachineState, device: DeviceObject, alignment: int, backend: QomObject
) -> int:
    room = region_size(state)
    if not room:
        raise QapiError(state.profile.traits.no_device_memory)
    size, hint = size_of(state, device), address_of(device)
    others = [other for other in memory_devices(state) if other is not device]
    used = sum(size_of(state, other) for other in others)
    limit = state.memory.maxmem - state.memory.size
    if used + size > limit:
        raise QapiError(
            f"not enough space, currently {used:#x} in use of total space"
            f" for memory devices {limit:#x}"
        )
    _check_alignment(state, hint, size, alignment, backend)
    base = _base(state)
    if hint and not (base <= hint and hint + size <= base + room):
        raise QapiError(
            f"can't add memory device [{hint:#x}:{size:#x}],"
            f" usable range for memory devices [{base:#x}:{room:#x}]"
        )
    at = hint or round_up(base, alignment)
    for other in others:
        start = address_of(other)
        end = start + size_of(state, other)
        if start < at + size and at < end:
            if hint:
                name = other.id or "(unnamed)"
                raise QapiError(f"address range conflicts with memory device id='{name}'")
            at = round_up(end, alignment)
        elif start >= at + size:
            break
    if at + size > base + room:
        raise QapiError(
            "could not find position in guest address space for memory device"
            " - memory fragmented due to alignments"
        )
    return at


def _check_alignment(
    state: MachineState, hint: int, size: int, alignment: int, backend: QomObject
) -> None:
    """Of the address that was asked for, and of the size, in the version's order."""
    own_only = state.profile.traits.memory_size_aligned_to_memory
    of_size = alignment_of(backend) if own_only else alignment
    wrong_size = f"backend memory size must be multiple of {of_size:#x}" if size % of_size else ""
    if own_only and wrong_size:
        raise QapiError(wrong_size)
    if hint % alignment:
        raise QapiError(f"address must be aligned to {alignment:#x} bytes")
    if wrong_size:
        raise QapiError(wrong_size)


def _base(state: MachineState) -> int:
    """Where their part of the address space begins."""
    if _is_flat(state):
        return round_up(state.memory.size, _GIB)
    high = state.memory.size - below_4g(state, state.memory.size)
    return round_up(state.memory.above_4g_start + high, _GIB)


def round_up(value: int, alignment: int) -> int:
    """The next multiple."""
    return -(-value // alignment) * alignment
