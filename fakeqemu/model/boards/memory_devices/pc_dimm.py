"""Memory modules: which slot and which addresses one gets, and what refuses it.

A module is refused by the machine before it is looked at itself, so the order of the checks is
the machine's: ACPI, the slot, the backend, the place in the address space; then the module's own.

See hw/i386/pc.c: pc_memory_pre_plug(); hw/ppc/spapr.c: spapr_memory_pre_plug();
hw/ppc/spapr_nvdimm.c: spapr_nvdimm_validate(); hw/mem/pc-dimm.c: pc_dimm_pre_plug() and
pc_dimm_realize(); hw/mem/nvdimm.c: nvdimm_prepare_memory_region().
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.model.boards.machine_state import plugged_by_machine
from fakeqemu.model.boards.memory_devices.address_space import (
    LABEL_SIZE,
    OF_FILES,
    alignment_of,
    backend_of,
    is_mapped,
    memory_devices,
    size_of,
    take_place,
    takes_memory_devices,
)
from fakeqemu.model.qdev.properties import check_value
from fakeqemu.model.qdev.recorded import about
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.boards.numa import Numa
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.model.qom.tree import QomObject
    from fakeqemu.profile import Profile

#: ACPI's numbers for what a guest talks about and how it went
_SOURCES = {"insertion": 1, "ejection": 3}
_STATUSES = {"success": 0, "failure": 1}
_DIMM, _NVDIMM = "pc-dimm", "nvdimm"
#: property -> what it is where nobody says
_UNSET: dict[str, Any] = {"slot": -1, "addr": 0, "memdev": "", "node": 0}
_UNSET_OF_NVDIMM = {LABEL_SIZE: 0, "uuid": "00000000-0000-0000-0000-000000000000"}
#: bytes by which its memory grows: SPAPR_MEMORY_BLOCK_SIZE, SPAPR_MINIMUM_SCM_BLOCK_SIZE
_SPAPR, _BLOCK = "spapr-machine", 256 << 20


def modules(state: MachineState) -> list[DeviceObject]:
    """The modules that are plugged, by their addresses."""
    return [device for device in memory_devices(state) if is_module(state.profile, device)]


def is_module(profile: Profile, device: DeviceObject) -> bool:
    """Whether a device is a memory module."""
    return profile.is_a(device.type, _DIMM)


def volatile_size(state: MachineState) -> int:
    """Bytes in modules that are not NVDIMMs: see hw/mem/pc-dimm.c: pc_dimm_plug()."""
    return sum(int(dev.values["size"]) for dev in modules(state) if dev.type != _NVDIMM)


def describe(device: DeviceObject) -> dict[str, Any]:
    """MemoryDeviceInfo."""
    named = {} if device.id is None else {"id": device.id}
    data = {name: device.values[name] for name in ("addr", "slot", "node", "memdev", "size")}
    data |= {name: device.values[name] for name in ("hotplugged", "hotpluggable")}
    kind = "nvdimm" if device.type == _NVDIMM else "dimm"
    return {"type": kind, "data": {**named, **data}}


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


def _refuse_elsewhere(state: MachineState) -> None:
    """Modules of a board that is no PC: what it says of them without firmware is recorded.

    With firmware Arm's virt has what plugs them. See hw/arm/virt.c: virt_memory_pre_plug().
    """
    flash = ("firmware", "pflash0", "pflash1")
    options = state.configuration.machine_options
    text = about(state.profile, _DIMM).get("error")
    if text is None or any(options.get(name) for name in flash):
        raise NotModelledError(f"device {_DIMM}")
    raise QapiError(text)


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
    values, given = device.values, device.given
    is_nvdimm = state.profile.is_a(device.type, _NVDIMM)
    # the recorded module has the place it got, not what asks for one
    unset = _UNSET | (_UNSET_OF_NVDIMM if is_nvdimm else {})
    values.update({name: value for name, value in unset.items() if name not in given})
    backend = backend_of(state.qom, device)
    if not takes_memory_devices(state) and (_DIMM in plugged_by_machine(state)):
        _refuse_elsewhere(state)
    if state.is_a(_SPAPR):
        _check_papr(state, device, backend, is_nvdimm=is_nvdimm)
        assert backend is not None, "it was looked at"
        values["slot"] = _slot(state, device)
        take_place(state, device, backend)
    elif takes_memory_devices(state):
        _check_acpi(state)
        if is_nvdimm and not state.qom.container("/machine").values.get("nvdimm"):
            raise QapiError("nvdimm is not enabled: missing 'nvdimm' in '-M'")
        values["slot"] = _slot(state, device)
        if backend is None:
            raise QapiError("'memdev' property must be set")
        if is_nvdimm:
            _check_label(state, device, backend)
        take_place(state, device, backend)
    values["size"] = size_of(state, device)
    if is_nvdimm:
        values["uuid"] = values["uuid"].lower()
        device.setters["uuid"] = partial(_set_uuid, device)
        device.setters[LABEL_SIZE] = _refuse_change
    _check_node(numa, int(values["node"]))
    if backend is None:
        raise QapiError("'memdev' property is not set")
    if is_mapped(state.qom, numa, backend, besides=device):
        raise QapiError(f"can't use already busy memdev: {backend.name}")
    if state.is_a(_SPAPR):
        from fakeqemu.model.boards.targets import spapr_drc

        spapr_drc.attach(state, device)


def _check_papr(
    state: MachineState, device: DeviceObject, backend: QomObject | None, *, is_nvdimm: bool
) -> None:
    """What pseries machines ask of a module before it gets a place. Raises QapiError."""
    if backend is None:
        raise QapiError("'memdev' property must be set")
    if not is_nvdimm:
        if size_of(state, device) % _BLOCK:
            raise QapiError(
                f"Hotplugged memory size must be a multiple of {_BLOCK >> 20} MB"
            )
        return
    _check_label(state, device, backend)
    if not state.qom.container("/machine").values.get("nvdimm"):
        raise QapiError("nvdimm device found but 'nvdimm=off' was set")
    if not int(device.values[LABEL_SIZE]):
        raise QapiError("PAPR requires NVDIMM devices to have label-size set")
    if size_of(state, device) % _BLOCK:
        raise QapiError(
            "PAPR requires NVDIMM memory size (excluding label) to be a multiple of"
            f" {_BLOCK >> 20}MB"
        )
    if not int(device.values["uuid"].replace("-", ""), 16):
        raise QapiError("NVDIMM device requires the uuid to be set")
    if state.profile.is_a(device.type, "spapr-nvdimm") and backend.type not in OF_FILES:
        raise QapiError(
            f"spapr-nvdimm device requires the memdev {backend.name} to be of"
            " memory-backend-file type"
        )


def _set_uuid(device: DeviceObject, value: str) -> None:
    check_value(device.type, "uuid", value)
    device.values["uuid"] = value.lower()


def _refuse_change(value: Any) -> None:  # noqa: ARG001
    raise QapiError("cannot change property value")


def _check_label(state: MachineState, device: DeviceObject, backend: QomObject) -> None:
    if not size_of(state, device):
        size, label = int(backend.get("size")), int(device.values[LABEL_SIZE])
        raise QapiError(
            f"the size of memdev {backend.name} ({size:#x}) is too small to contain nvdimm label"
            f" ({label:#x}) and aligned PMEM ({alignment_of(backend):#x})"
        )
    is_rom = backend.values.get("readonly") and backend.values.get("rom") != "off"
    if is_rom and not device.values["unarmed"]:
        raise QapiError(f"'unarmed' property must be 'on' since memdev {backend.name} is read-only")


def check_unplug(state: MachineState, device: DeviceObject) -> None:
    """Whether a module can be asked for: hw/i386/pc.c: pc_memory_unplug_request().

    Raises QapiError.
    """
    if state.is_a("generic-pc-machine"):
        _check_acpi(state)
    if state.profile.is_a(device.type, _NVDIMM):
        raise QapiError("nvdimm device hot unplug is not supported yet.")


def has_acpi(state: MachineState) -> bool:
    """Whether the board has what plugs devices of its own by ACPI."""
    machine = state.qom.container("/machine")
    facts = state.profile.per_machine(state.type.name) if state.type else None
    has_device = facts is not None and facts["acpi"] is not None
    return has_device and machine.values.get("acpi") != "off"


def _check_acpi(state: MachineState) -> None:
    if not has_acpi(state):
        raise QapiError("memory hotplug is not enabled: missing acpi device or acpi disabled")


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


def _check_node(numa: Numa, node: int) -> None:
    count = len(numa.nodes) or 1
    if node >= count:
        raise QapiError(
            f"'DIMM property node has value {node}' which exceeds the number of numa nodes: {count}"
        )
