"""Virtio devices with memory of their own: virtio-mem, whose guest takes as much as it is asked to,
and virtio-pmem, which is there at once.

No guest takes memory here by itself, so the size of a virtio-mem stays what it was.

See hw/virtio/virtio-md-pci.c: virtio_md_pci_pre_plug(); hw/s390x/virtio-ccw-md.c:
virtio_ccw_md_pre_plug(); hw/virtio/virtio-mem.c:
virtio_mem_device_realize() and virtio_mem_set_requested_size(); hw/virtio/virtio-pmem.c:
virtio_pmem_realize().
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.model.boards.memory_devices.address_space import (
    backend_of,
    is_mapped,
    size_of,
    take_place,
    takes_memory_devices,
)
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.boards.numa import Numa
    from fakeqemu.model.host import Host
    from fakeqemu.model.qom.tree import QomObject

#: a folder of hosts with transparent huge pages; bytes that they give a block, and others
_HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage"
_BLOCK_OF_HUGE_PAGE, _LEAST_BLOCK = 1 << 21, 1 << 20
_PMEM = "virtio-pmem-pci"
#: on either bus
_MEM = ("virtio-mem-pci", "virtio-mem-ccw")
_BLOCK, _REQUESTED, _SIZE = "block-size", "requested-size", "size"
#: a choice that only targets with old guests have
_INACCESSIBLE = "unplugged-inaccessible"
#: members of VirtioMEMDeviceInfo beside what both kinds have
_OF_MEM = ("node", _REQUESTED, _SIZE, _BLOCK)


def describe(state: MachineState, device: DeviceObject) -> dict[str, Any]:
    """MemoryDeviceInfo."""
    named = {} if device.id is None else {"id": device.id}
    data = {name: device.values[name] for name in ("memaddr", "memdev")}
    if state.profile.is_a(device.type, _PMEM):
        return {"type": "virtio-pmem", "data": {**named, **data, _SIZE: size_of(state, device)}}
    data |= {name: device.get(name) for name in _OF_MEM}
    data["max-size"] = size_of(state, device)
    return {"type": "virtio-mem", "data": {**named, **data}}


def plugged_size(state: MachineState, device: DeviceObject) -> int:
    """Bytes that the guest has of it."""
    if state.profile.is_a(device.type, _PMEM):
        return size_of(state, device)
    return int(device.get(_SIZE))


def check(state: MachineState, numa: Numa, device: DeviceObject, host: Host) -> None:
    """Give a device its addresses, and a virtio-mem its block size. Raises QapiError."""
    is_mem = _is_mem(state, device)
    # the recorded device has the place and the memory it got, not what asks for them
    unset = {"memaddr": 0, "memdev": ""}
    if is_mem:
        unset |= {"node": 0, _BLOCK: 0, _REQUESTED: 0, _SIZE: 0}
    for name, value in unset.items():
        if name not in device.given:
            _set(device, name, value)
    backend = backend_of(state.qom, device)
    if backend is None:
        raise QapiError("'memdev' property must be set")
    default = _default_block_size(host)
    least = int(device.values[_BLOCK]) or default if is_mem else 0
    if takes_memory_devices(state):
        take_place(state, device, backend, least)
        _set(device, "memaddr", device.values["memaddr"])
    if is_mem:
        _set(device, _BLOCK, least)
        _check_mem(state, numa, device, backend)
        if least < default:
            host.warn(
                f"warning: '{_BLOCK}' property is smaller than the default block size"
                f" ({default >> 20} MiB)"
            )
        _check_sizes(device, backend)
        _let_requested_size_change(state, device)
    elif is_mapped(state.qom, numa, backend, besides=device):
        raise QapiError(f"can't use already busy memdev: {backend.name}")


def check_unplug(state: MachineState, device: DeviceObject) -> None:
    """Whether one can be asked for: virtio_mem_unplug_request_check(). Raises QapiError."""
    traits = state.profile.traits
    if not (traits.virtio_mem_unplug and _is_mem(state, device)):
        raise QapiError(traits.virtio_md_unplug_text)
    if _inner(device).values.get(_INACCESSIBLE) == "off":
        raise QapiError(
            "virtio-mem device cannot get unplugged while 'unplugged-inaccessible' != 'on'"
        )
    if device.get(_SIZE):
        raise QapiError(
            "virtio-mem device cannot get unplugged while some of its memory is still plugged"
        )
    if device.get(_REQUESTED):
        raise QapiError(f"virtio-mem device cannot get unplugged while '{_REQUESTED}' != '0'")


def _default_block_size(host: Host) -> int:
    """See virtio_mem_thp_size(); huge pages are those of x86."""
    return _LEAST_BLOCK if host.path_error(_HUGE_PAGES) else _BLOCK_OF_HUGE_PAGE


def _is_mem(state: MachineState, device: DeviceObject) -> bool:
    return any(state.profile.is_a(device.type, kind) for kind in _MEM)


def _inner(device: DeviceObject) -> DeviceObject:
    return next(c for c in device.children.values() if isinstance(c, DeviceObject))


def _set(device: DeviceObject, name: str, value: Any) -> None:
    """Of the PCI device and of the one inside, which answers for it."""
    device.values[name] = _inner(device).values[name] = value


def _check_mem(state: MachineState, numa: Numa, device: DeviceObject, backend: QomObject) -> None:
    traits = state.profile.traits
    if is_mapped(state.qom, numa, backend, besides=device):
        raise QapiError(f"'memdev' property specifies a busy memdev: {backend.name}")
    if backend.values.get("readonly"):
        raise QapiError("'memdev' property specifies an unsupported memdev")
    if traits.virtio_mem_own_prealloc and backend.values.get("prealloc"):
        raise QapiError(
            f"'memdev' property specifies a memdev with preallocation enabled: {backend.name}."
            " Instead, specify 'prealloc=on' for the virtio-mem device. "
        )
    node, nodes = int(device.values["node"]), len(numa.nodes) or 1
    if node >= nodes:
        # two words run together, as in QEMU
        raise QapiError(
            f"'node' property has value '{node}', which exceedsthe number of numa nodes: {nodes}"
        )
    if state.configuration.overcommit.get("mem-lock", "off") != "off":
        raise QapiError("Incompatible with mlock")
    _decide_on_inaccessible(device, backend)


def _decide_on_inaccessible(device: DeviceObject, backend: QomObject) -> None:
    """Only private memory of no file reads as zeros that cost nothing."""
    inner = _inner(device)
    if inner.values.get(_INACCESSIBLE) == "auto":
        plain = backend.type == "memory-backend-ram" and not backend.values.get("share")
        _set(device, _INACCESSIBLE, "off" if plain else "on")
    if inner.values.get("dynamic-memslots") and inner.values.get(_INACCESSIBLE, "on") != "on":
        raise QapiError(
            "'dynamic-memslots' property set to 'on' requires 'unplugged-inaccessible' to be 'on'"
        )


def _check_sizes(device: DeviceObject, backend: QomObject) -> None:
    block, values = int(device.values[_BLOCK]), device.values
    for name in (_REQUESTED, "memaddr"):
        if int(values[name]) % block:
            raise QapiError(f"'{name}' property has to be multiples of '{_BLOCK}' ({block:#x})")
    if int(backend.get(_SIZE)) % block:
        raise QapiError(
            f"'memdev' property memdev size has to be multiples of'{_BLOCK}' ({block:#x})"
        )


def _let_requested_size_change(state: MachineState, device: DeviceObject) -> None:
    inner = _inner(device)
    inner.setters[_REQUESTED] = partial(_request, state, device)
    inner.setters[_BLOCK] = partial(_refuse, f"'{_BLOCK}' cannot be changed")
    inner.setters[_SIZE] = partial(_refuse, f"Property '{inner.type}.{_SIZE}' is not writable")


def _refuse(text: str, value: Any) -> None:  # noqa: ARG001
    raise QapiError(text)


def _request(state: MachineState, device: DeviceObject, size: int) -> None:
    """qom-set of requested-size. Raises QapiError."""
    if device.unplug_pending:
        raise QapiError(
            f"'{_REQUESTED}' cannot be changed if the device is in the process of unplug"
        )
    block, most = int(device.values[_BLOCK]), size_of(state, device)
    if size % block:
        raise QapiError(f"'{_REQUESTED}' has to be multiples of '{_BLOCK}' ({block:#x})")
    if size > most:
        raise QapiError(f"'{_REQUESTED}' cannot exceed the memory backend size({most:#x})")
    _set(device, _REQUESTED, size)
