"""Memory modules: which slot and which addresses one gets, and what refuses it.

A module is refused by the machine before it is looked at itself, so the order of the checks is
the machine's: ACPI, the slot, the backend, the place in the address space; then the module's own.

See hw/mem/pc-dimm.c: pc_dimm_pre_plug(); hw/mem/memory-device.c: memory_device_pre_plug() and
memory_device_get_free_addr(); hw/i386/pc.c: pc_memory_pre_plug().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.model.boards.guest_memory import below_4g
from fakeqemu.model.qdev.device import user_devices
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.boards.numa import Numa
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.model.qom.tree import Qom, QomObject
    from fakeqemu.profile import Profile

_GIB = 1 << 30
_4G = 1 << 32
#: what anonymous memory is aligned to, and memory of a file
_ALIGNED, _FILE_ALIGNED = 1 << 21, 1 << 12
_OF_FILES = ("memory-backend-file", "memory-backend-memfd", "memory-backend-shm")
#: ACPI's numbers for what a guest talks about and how it went
_SOURCES = {"insertion": 1, "ejection": 3}
_STATUSES = {"success": 0, "failure": 1}
_DIMM, _NVDIMM = "pc-dimm", "nvdimm"


def modules(state: MachineState) -> list[DeviceObject]:
    """The modules that are plugged, by their addresses."""
    found = [device for device in user_devices(state.qom) if is_module(state.profile, device)]
    return sorted(found, key=lambda device: int(device.values["addr"]))


def is_module(profile: Profile, device: DeviceObject) -> bool:
    """Whether a device is a memory module."""
    return profile.is_a(device.type, _DIMM)


def is_mapped(
    qom: Qom, numa: Numa, backend: QomObject, besides: QomObject | None = None
) -> bool:
    """Whether a memory backend is the guest's memory, or part of it, other than `besides`."""
    links = [qom.container("/machine").values.get("memory-backend")]
    devices = (device for device in user_devices(qom) if device is not besides)
    links += [device.values.get("memdev") for device in devices]
    links += [f"/objects/{node.memdev}" for node in numa.nodes.values()]
    return backend.path in links


def plugged_size(state: MachineState) -> int:
    """Bytes of memory in all modules."""
    return sum(int(device.values["size"]) for device in modules(state))


def region_size(state: MachineState) -> int:
    """Bytes of address space for modules; each slot may need a gigabyte more to be aligned."""
    if not state.memory.maxmem > state.memory.size:
        return 0
    return state.memory.maxmem - state.memory.size + state.memory.slots * _GIB


def takes_modules(state: MachineState) -> bool:
    """Whether the board has anything to do with modules."""
    return state.is_a("generic-pc-machine")


def describe(device: DeviceObject) -> dict[str, Any]:
    """MemoryDeviceInfo."""
    named = {} if device.id is None else {"id": device.id}
    data = {name: device.values[name] for name in ("addr", "slot", "node", "memdev", "size")}
    data |= {name: device.values[name] for name in ("hotplugged", "hotpluggable")}
    return {"type": "dimm", "data": {**named, **data}}


def slots(state: MachineState) -> list[dict[str, Any]]:
    """ACPIOSTInfo of every slot."""
    there = {device.values["slot"]: device for device in modules(state)}
    found: list[dict[str, Any]] = []
    for slot in range(state.memory.slots):
        found.append(_status(there.get(slot), slot, 0, 0))
    return found


def status(device: DeviceObject, *, source: str, status: str) -> dict[str, Any]:
    """ACPIOSTInfo: what the guest says of a module."""
    return _status(device, int(device.values["slot"]), _SOURCES[source], _STATUSES[status])


def _status(device: DeviceObject | None, slot: int, source: int, status: int) -> dict[str, Any]:
    named = {} if device is None or device.id is None else {"device": device.id}
    return {
        **named,
        "slot": str(slot),
        "slot-type": "DIMM",
        "source": source,
        "status": status,
    }


def check(state: MachineState, numa: Numa, device: DeviceObject) -> None:
    """Give a module its slot and its addresses. Raises QapiError."""
    if state.profile.is_a(device.type, _NVDIMM):
        _check_nvdimm(state)
    values, given = device.values, device.given
    # the recorded module has the place it got, not what asks for one
    for name, unset in (("slot", -1), ("addr", 0), ("memdev", ""), ("node", 0)):
        if name not in given:
            values[name] = unset
    backend = state.qom.at(values["memdev"]) if values["memdev"] else None
    values["size"] = int(backend.get("size")) if backend is not None else 0
    if takes_modules(state):
        _check_acpi(state)
        values["slot"] = _slot(state, device)
        if backend is None:
            raise QapiError("'memdev' property must be set")
        alignment = _FILE_ALIGNED if backend.type in _OF_FILES else _ALIGNED
        values["addr"] = _address(state, device, alignment)
    _check_node(numa, int(values["node"]))
    if backend is None:
        raise QapiError("'memdev' property is not set")
    if is_mapped(state.qom, numa, backend, besides=device):
        raise QapiError(f"can't use already busy memdev: {backend.name}")


def check_unplug(state: MachineState) -> None:
    """Whether a module can be asked for. Raises QapiError."""
    if takes_modules(state):
        _check_acpi(state)


def _check_acpi(state: MachineState) -> None:
    machine = state.qom.container("/machine")
    facts = state.profile.per_machine(state.type.name) if state.type else None
    has_device = facts is not None and facts["acpi"] is not None
    if not has_device or machine.values.get("acpi") == "off":
        raise QapiError("memory hotplug is not enabled: missing acpi device or acpi disabled")


def _check_nvdimm(state: MachineState) -> None:
    if takes_modules(state):
        _check_acpi(state)
        if not state.qom.container("/machine").values.get("nvdimm"):
            raise QapiError("nvdimm is not enabled: missing 'nvdimm' in '-M'")
    raise NotModelledError(f"device {_NVDIMM}")


def _slot(state: MachineState, device: DeviceObject) -> int:
    wanted, count = int(device.values["slot"]), state.memory.slots
    if wanted != -1 and not 0 <= wanted < count:
        # without slots the last one's number wraps round
        last = (count - 1) & ((1 << 64) - 1)
        raise QapiError(f"invalid slot number {wanted}, valid range is [0-{last}]")
    if count <= 0:
        raise QapiError("no slots where allocated, please specify the 'slots' option")
    taken = {other.values["slot"] for other in modules(state) if other is not device}
    if wanted != -1:
        if wanted in taken:
            raise QapiError(f"slot {wanted} is busy")
        return wanted
    free = next((slot for slot in range(count) if slot not in taken), None)
    if free is None:
        raise QapiError("no free slots available")
    return free


def _address(state: MachineState, device: DeviceObject, alignment: int) -> int:
    size, hint = int(device.values["size"]), int(device.values["addr"])
    room = region_size(state)
    if not room:
        raise QapiError(
            "memory devices (e.g. for memory hotplug) are not enabled, "
            "please specify the maxmem option"
        )
    others = [other for other in modules(state) if other is not device]
    used = sum(int(other.values["size"]) for other in others)
    limit = state.memory.maxmem - state.memory.size
    if used + size > limit:
        raise QapiError(
            f"not enough space, currently {used:#x} in use of total space"
            f" for memory devices {limit:#x}"
        )
    if hint % alignment:
        raise QapiError(f"address must be aligned to {alignment:#x} bytes")
    if size % alignment:
        raise QapiError(f"backend memory size must be multiple of {alignment:#x}")
    base = _base(state)
    if hint and not (base <= hint and hint + size <= base + room):
        raise QapiError(
            f"can't add memory device [{hint:#x}:{size:#x}],"
            f" usable range for memory devices [{base:#x}:{room:#x}]"
        )
    at = hint or _up(base, alignment)
    for other in others:
        start = int(other.values["addr"])
        end = start + int(other.values["size"])
        if start < at + size and at < end:
            if hint:
                name = other.id or "(unnamed)"
                raise QapiError(f"address range conflicts with memory device id='{name}'")
            at = _up(end, alignment)
        elif start >= at + size:
            break
    if at + size > base + room:
        raise QapiError(
            "could not find position in guest address space for memory device"
            " - memory fragmented due to alignments"
        )
    return at


def _base(state: MachineState) -> int:
    """Where the modules' part of the address space begins."""
    high = state.memory.size - below_4g(state, state.memory.size)
    return _up(_4G + high, _GIB)


def _up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


def _check_node(numa: Numa, node: int) -> None:
    count = len(numa.nodes) or 1
    if node >= count:
        raise QapiError(
            f"'DIMM property node has value {node}' which exceeds the number of numa nodes: {count}"
        )
