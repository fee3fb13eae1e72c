"""A device as an object: realized ones refuse changes in QEMU's words.

See hw/core/qdev.c: device_set_realized(); hw/core/qdev-properties.c: qdev_prop_set_after_realize().
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qom.tree import QomObject
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import DeviceNotFoundError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.qdev.bus import Bus
    from fakeqemu.model.qom.tree import Qom
    from fakeqemu.qapi.schema import Schema
    from fakeqemu.traits import Traits

#: properties that setting leaves as they are once the device is realized
_REALIZED = "realized"
#: places in the boot order: a device's, and those of the two drives of a floppy controller
BOOT_INDEXES = ("bootindex", "bootindexA", "bootindexB")
_INDEX_IN_USE = "The bootindex {} has already been used"
_USERS = ("peripheral", "peripheral-anon")


class DeviceObject(QomObject):
    """One device; `id` is None for those that have none of their own."""

    def __init__(
        self,
        type: str,
        shapes: Mapping[str, str] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(type, shapes, values)
        self.id: str | None = None
        #: the bus it sits on, once it is plugged by a user
        self.bus: Bus | None = None
        #: whether removal was asked for and waits for the guest
        self.unplug_pending = False
        #: whether its PCIe slot has power: it was there at a reset, or a guest has switched it on
        self.slot_powered = False
        #: the properties that whoever made it gave values for
        self.given: set[str] = set()
        #: how many devices users had made before it; 0 for those of the board
        self.number = 0
        #: the number of the root bus that a host bridge offers
        self.root_bus = 0
        #: the port a USB device sits in
        self.port = ""

    def set_otherwise(self, name: str, value: Any, schema: Schema) -> None:
        """A property of a realized device cannot be set; `realized` itself can, to the same."""
        from fakeqemu.model.qom.property_types import convert

        shape = self.shapes[name]
        if name == _REALIZED:
            convert(schema, "bool", value, name)
            return
        if shape.startswith("link<"):
            self._refuse_link(name, value, schema)
        if name in BOOT_INDEXES:
            self._change_boot_index(name, convert(schema, shape, value, name))
            return
        who = f"device '{self.id}'" if self.id is not None else "anonymous device"
        raise QapiError(
            f"Attempt to set property '{name}' on {who} (type '{self.type}')"
            " after it was realized"
        )

    def _change_boot_index(self, name: str, index: int) -> None:
        """It may change while the device is there. See system/bootdevice.c."""
        root, top = _above(self)
        if index >= 0 and self.values.get(name) == index:
            raise QapiError(_INDEX_IN_USE.format(index))
        users: list[QomObject] = []
        machine = root.child("machine")
        for name_of_container in _USERS:
            container = machine.child(name_of_container) if machine is not None else None
            users += () if container is None else container.children.values()
        check_boot_index(users, top, name, index)
        for obj in top.walk():
            if obj is self or name in obj.aliases:
                obj.values[name] = index

    def _refuse_link(self, name: str, value: Any, schema: Schema) -> None:
        from fakeqemu.model.qom.property_types import convert

        target = convert(schema, "str", value, name)
        root: QomObject = self
        while root.parent is not None:
            root = root.parent
        from fakeqemu.model.qom.tree import resolve_from

        if target and resolve_from(root, target)[0] is None:
            raise DeviceNotFoundError(f"Device '{target}' not found")
        raise QapiError(
            f"Attempt to set link property '{name}' on device '{self.id or '(null)'}' "
            f"(type '{self.type}') after it was realized"
        )


def user_devices(qom: Qom) -> list[DeviceObject]:
    """Devices that users made, those with ids first."""
    found: list[QomObject] = []
    for container in _USERS:
        found += qom.container(f"/machine/{container}").children.values()
    return [device for device in found if isinstance(device, DeviceObject)]


def _above(obj: QomObject) -> tuple[QomObject, QomObject]:
    """The root of the tree, and the object below a container that `obj` belongs to."""
    top: QomObject = obj
    while top.parent is not None and top.parent.type != "container":
        top = top.parent
    root = top
    while root.parent is not None:
        root = root.parent
    return root, top


def check_boot_index(
    users: Iterable[QomObject], device: QomObject, name: str, index: int
) -> None:
    """Raise QapiError if something else than `name` of `device` has that place in the boot order.

    See system/bootdevice.c: check_boot_index().
    """
    if index < 0:
        return
    for other in {id(each): each for each in (*users, device)}.values():
        for property in BOOT_INDEXES:
            own = property == name and other is device
            if not own and any(obj.values.get(property) == index for obj in other.walk()):
                raise QapiError(_INDEX_IN_USE.format(index))


def find_device(qom: Qom, traits: Traits, id: str) -> DeviceObject:
    """The device called `id`, or at absolute path `id`. Raises QapiError."""
    found = qom.at(id if id.startswith("/") else f"/machine/peripheral/{id}")
    if found is None:
        raise DeviceNotFoundError(texts.device_not_found(id))
    if not isinstance(found, DeviceObject):
        raise QapiError(traits.not_a_device.format(id))
    return found


# -- what is wrong with a property's value: see hw/core/qdev-properties.c ------------


def wrong_value(device: QomObject, name: str, text: Any) -> QapiError:
    """It is of no form that the property takes."""
    return QapiError(f"Property '{device.type}.{name}' doesn't take value '{text}'")


def missing_value(device: QomObject, name: str, text: str) -> QapiError:
    """It names something that is not there."""
    return QapiError(f"Property '{device.type}.{name}' can't find value '{text}'")


def value_in_use(device: QomObject, name: str, text: str) -> QapiError:
    """It names something that is in use."""
    return QapiError(f"Property '{device.type}.{name}' can't take value '{text}', it's in use")
