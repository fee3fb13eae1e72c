"""The SCSI adapters that a pseries machine has for drives of if=scsi, one for each bus.

See hw/ppc/spapr.c: spapr_machine_init(); hw/scsi/spapr_vscsi.c: spapr_vscsi_create();
hw/scsi/scsi-bus.c: scsi_bus_legacy_handle_cmdline() and scsi_bus_legacy_add_drive().
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fakeqemu.model.boards.board import maker
from fakeqemu.model.boards.targets.spapr_vio import next_address
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qom.tree import from_recorded
from fakeqemu.qapi.errors import QapiError, StartupError

if TYPE_CHECKING:
    from fakeqemu.boot.board.numbering import Numbering
    from fakeqemu.model.block.backends.backend import Backend
    from fakeqemu.model.machine import Machine
    from fakeqemu.model.qdev.bus import Bus
    from fakeqemu.profile import TreeObject

_ADAPTER, _BUS = "spapr-vscsi", "spapr-vio"
#: unit -> drive
Units = dict[int, "Backend"]


def add_adapters(vm: Machine, numbering: Numbering) -> None:
    """Have the adapters made, with their disks and CD drives."""
    found = ((n, obj) for n, obj in numbering.usual.items() if obj.type == _ADAPTER)
    usual, model = next(found, (None, None))
    if usual is None or model is None:
        return
    wanted: dict[int, Units] = {}
    for backend in vm.block.backends.all:
        place = vm.block.drives.place(backend)
        if place is not None and place.interface == "scsi":
            wanted.setdefault(place.bus, {})[place.unit] = backend
    adapters = range(max(wanted, default=-1) + 1)
    recorded = numbering.find(lambda obj: obj.type == _ADAPTER)
    after = numbering.place_of(lambda obj: obj.type == _ADAPTER)
    for number in recorded:
        if adapters:
            numbering.keep(number, partial(_fill_recorded, vm, wanted.get(0, {})))
            after = number
        else:
            numbering.leave_out(number)
    assert after is not None, "the usual board has one"
    for bus in adapters[len(recorded) :]:
        make = partial(_create, vm, model, usual, wanted.get(bus, {}))
        numbering.add(after, make)


def _create(vm: Machine, model: TreeObject, usual: int, drives: Units, number: int) -> None:
    on = next(bus for bus in vm.buses.all() if bus.name == _BUS)
    reg = next_address(on)
    changes = {
        f"{model.values['reg']:x}": f"{reg:x}",
        f"unattached/device[{usual}]": f"unattached/device[{number}]",
        str(model.values["parent_bus"]): on.object.path,
    }

    def rename(text: str) -> str:
        for old, new in changes.items():
            text = text.replace(old, new)
        return text

    adapter = from_recorded(model, rename=rename, make=maker(vm.profile))
    assert isinstance(adapter, DeviceObject), "an adapter is a device"
    adapter.values["reg"] = reg
    vm.qom.container("/machine/unattached").add_child(f"device[{number}]", adapter)
    vm.devices.realize(adapter, on)
    _fill(vm, adapter, drives)


def _fill_recorded(vm: Machine, drives: Units, number: int) -> None:
    adapter = vm.qom.container("/machine/unattached").child(f"device[{number}]")
    assert isinstance(adapter, DeviceObject), "an adapter is a device"
    _fill(vm, adapter, drives)


def _fill(vm: Machine, adapter: DeviceObject, drives: Units) -> None:
    (bus,) = vm.buses.of(adapter)
    for recorded in tuple(bus.devices):
        bus.drop(recorded)
        recorded.remove()
    for unit, backend in sorted(drives.items()):
        try:
            _add(vm, bus, unit, backend)
        except QapiError as error:
            raise StartupError(error.desc, hint=error.hint) from error


def _kind(vm: Machine, backend: Backend) -> str:
    place = vm.block.drives.place(backend)
    return "scsi-cd" if place is not None and place.media == "cdrom" else "scsi-hd"


def _add(vm: Machine, bus: Bus, unit: int, backend: Backend) -> None:
    device = vm.devices.bare(_kind(vm, backend))
    bus.object.add_child(f"legacy[{unit}]", device)
    vm.devices.properties.apply_defaults(device)
    vm.devices.properties.set(device, "scsi-id", str(unit), typed=False)
    backend.device = device
    device.values["drive"] = backend.name
    vm.devices.realize(device, bus)
