"""All memory devices of a machine, of either kind.

See hw/mem/memory-device.c: qmp_memory_device_list() and get_plugged_memory_size().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.model.boards.memory_devices import pc_dimm, virtio_md
from fakeqemu.model.boards.memory_devices.address_space import memory_devices

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.qdev.device import DeviceObject


def describe_all(state: MachineState) -> list[dict[str, Any]]:
    """MemoryDeviceInfo list, by address."""
    return [
        pc_dimm.describe(device)
        if pc_dimm.is_module(state.profile, device)
        else virtio_md.describe(state, device)
        for device in memory_devices(state)
    ]


def plugged_size(state: MachineState) -> int:
    """Bytes of memory that the guest has of them."""
    return sum(
        int(device.values["size"])
        if pc_dimm.is_module(state.profile, device)
        else virtio_md.plugged_size(state, device)
        for device in memory_devices(state)
    )


def check_unplug(state: MachineState, device: DeviceObject) -> None:
    """Whether a memory device can be asked for. Raises QapiError."""
    if pc_dimm.is_module(state.profile, device):
        pc_dimm.check_unplug(state, device)
    else:
        virtio_md.check_unplug(state, device)
