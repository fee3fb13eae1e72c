"""Pairs of a virtio-net that stands by and the primary NIC that it hides.

A primary is not made before the guest's driver has agreed to a standby NIC, which no guest here
does: until then it is known to its standby NIC alone, and its identifier is free.

See system/qdev-monitor.c: qdev_device_add_from_qdict(); hw/core/qdev.c: qdev_should_hide_device();
hw/net/virtio-net.c: failover_hide_primary_device(); hw/acpi/pcihp.c:
acpi_pcihp_disable_root_bus() (7.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.device import user_devices
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.process import Process
    from fakeqemu.model.qdev.bus import Bus
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.model.qom.tree import Qom

_PAIR = "failover_pair_id"


class Failover:
    """The pairs of one machine."""

    def __init__(self, process: Process, qom: Qom) -> None:
        self._process = process
        self._qom = qom
        #: standby NIC -> its primary's identifier
        self._primaries: dict[DeviceObject, Any] = {}

    def hides(self, options: Mapping[str, Any], bus: Bus | None) -> bool:
        """Whether a device with these options is not made yet. Raises QapiError."""
        if _PAIR not in options:
            return False
        for nic in [each for each in user_devices(self._qom) if self._stands_by(each)]:
            if "id" not in options:
                raise QapiError(f"Device with {_PAIR} needs to have id")
            if nic.id is None or options[_PAIR] != nic.id:
                continue
            first = self._primaries.setdefault(nic, options["id"])
            if first != options["id"]:
                raise QapiError(
                    f"Cannot attach more than one primary device to '{nic.id}':"
                    f" '{first}' and '{options['id']}'"
                )
            if bus is not None and not self._takes_later(bus):
                raise QapiError(f"Bus '{bus.name}' does not support hotplugging")
            return True
        return False

    def _stands_by(self, device: DeviceObject) -> bool:
        if not self._process.profile.is_a(device.type, "virtio-net-pci-base"):
            return False
        value = device.values.get("failover")
        return bool(value() if callable(value) else value)

    def _takes_later(self, bus: Bus) -> bool:
        early = self._process.profile.traits.root_bus_takes_devices_until_reset
        return bus.hotpluggable or (
            early and bus.object.type == "PCIE" and not self._process.phases.ready
        )
