"""What a device's properties take: scalars by their types, names of other things by looking.

Which properties a type has, and of what type, is recorded; properties of the device inside a
virtio PCI device are offered by the outer one and belong to the inner.

See hw/core/qdev-properties-system.c: set_netdev(), set_drive() and set_chr();
hw/core/qdev-properties.c: set_bool().
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.device import (
    BOOT_INDEXES,
    DeviceObject,
    check_boot_index,
    user_devices,
    wrong_value,
)
from fakeqemu.model.qom.property_types import convert, from_string, is_read_only
from fakeqemu.model.qom.tree import QomObject
from fakeqemu.qapi import reads
from fakeqemu.qapi.errors import (
    NotModelledError,
    QapiError,
    StartupError,
)

if TYPE_CHECKING:
    from fakeqemu.configuration import GlobalProperty
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.qdev.backends import DeviceBackends
    from fakeqemu.profile import Profile

#: bytes
_MIN_BLOCK_SIZE, _MIN_LABEL_SIZE = 1 << 20, 128 << 10
_MAC = r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}"
_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_SLOT = r"\s*(?:0[xX])?([0-9a-fA-F]+)(?:\.(?:0[xX])?([0-9a-fA-F]+))?"
_HEX = r"\s*\+?(?:0[xX])?([0-9a-fA-F]+)"
_HOST = rf"(?:{_HEX}:)?{_HEX}:{_HEX}\.\s*\+?([0-9]+)"

Special = Callable[["Properties", DeviceObject, str, Any, bool], Any]


def describe(profile: Profile, type: str, name: str) -> dict[str, Any] | None:
    """The recorded entry of device-list-properties; None if the type has no such property."""
    try:
        entries = profile.device_properties(type)
    except KeyError:
        return None
    return next((entry for entry in entries if entry["name"] == name), None)


def owner(profile: Profile, device: DeviceObject, name: str) -> DeviceObject:
    """Whose property `name` of `device` is: its own, or that of the device inside."""
    for child in device.children.values():
        if isinstance(child, DeviceObject) and describe(profile, child.type, name) is not None:
            return child
    return device


def alias_inner(profile: Profile, device: DeviceObject) -> None:
    """Let the outer device's properties that belong to the one inside lead there."""
    for child in device.children.values():
        if not isinstance(child, DeviceObject):
            continue
        for name in device.shapes:
            if name in child.shapes and describe(profile, child.type, name) is not None:
                device.aliases[name] = child.name
        for name in child.shapes:
            check = _CHANGEABLE.get((child.type, name))
            if check is not None:
                child.setters[name] = partial(_change, child, name, check)


def _change(obj: QomObject, name: str, check: Callable[[Any], None], value: Any) -> None:
    check(value)
    obj.values[name] = value


def _check_polling(value: int) -> None:
    if value < 0:
        raise QapiError("timer value must be greater than zero")
    if value > 0xFFFFFFFF:
        raise QapiError("timer value is too big")


#: (type, property) that may change while the device is there -> check
_CHANGEABLE: dict[tuple[str, str], Callable[[Any], None]] = {
    ("virtio-balloon-device", "guest-stats-polling-interval"): _check_polling,
}


def _check_block_size(type: str, name: str, value: int) -> None:  # noqa: ARG001
    if value < _MIN_BLOCK_SIZE:
        raise QapiError(f"'{name}' property has to be at least {_MIN_BLOCK_SIZE:#x}")
    if value & (value - 1):
        raise QapiError(f"'{name}' property has to be a power of two")


def _check_label_size(type: str, name: str, value: int) -> None:
    if value < _MIN_LABEL_SIZE:
        raise QapiError(
            f"Property '{type}.{name}' ({value:#x}) is required at least {_MIN_LABEL_SIZE:#x}"
        )


def _check_uuid(type: str, name: str, value: str) -> None:
    if not re.fullmatch(_UUID, value):
        raise QapiError(f"Property '{type}.{name}' has invalid value")


def _check_guid(type: str, name: str, value: str) -> None:
    if value != "auto" and not re.fullmatch(_UUID, value):
        raise QapiError(f"Property '{type}.{name}' doesn't take value '{value}'")


#: (type, property) whose setter refuses some values -> check; see hw/virtio/virtio-mem.c:
#: virtio_mem_set_block_size(), hw/mem/nvdimm.c: nvdimm_set_label_size() and nvdimm_set_uuid(),
#: hw/core/qdev-properties-system.c: set_uuid()
_CHECKED: dict[tuple[str, str], Callable[[str, str, Any], None]] = {
    ("virtio-mem", "block-size"): _check_block_size,
    ("nvdimm", "label-size"): _check_label_size,
    ("nvdimm", "uuid"): _check_uuid,
    ("vmgenid", "guid"): _check_guid,
}


def check_value(type: str, name: str, value: Any) -> None:
    """What the setter of a property says to a value of the right type. Raises QapiError."""
    check = _CHECKED.get((type, name))
    if check is not None:
        check(type, name, value)


#: properties whose setter visits another type than introspection says: (device, property) -> type;
#: see hw/mem/nvdimm.c: nvdimm_set_label_size()
_VISITED = {("nvdimm", "label-size"): "size"}


class Properties:
    """Sets properties of devices that are being made."""

    def __init__(
        self, state: MachineState, backends: DeviceBackends, warn: Callable[[str], None]
    ) -> None:
        """`warn`: prints a line on standard error."""
        self.state = state
        self.profile = state.profile
        self.backends = backends
        self._warn = warn
        #: -global that some object has taken
        self.used_globals: set[GlobalProperty] = set()

    def apply_defaults(self, device: DeviceObject) -> None:
        """What the machine type and -global say about devices of this type.

        The device inside is made first, so that the outer one's have the last word. See
        hw/core/qdev.c: device_post_init().
        """
        machine = self.state.type
        inner = (c for c in device.children.values() if isinstance(c, DeviceObject))
        for target in (*inner, device):
            for driver, name, value in machine.compat_props if machine is not None else ():
                if self.profile.is_a(target.type, driver) and target.has(name):
                    holder = owner(self.profile, target, name)
                    _store(device, holder, name, self._from_text(holder, name, value))
            self.apply_globals(target, device)

    def apply_globals(self, target: DeviceObject, outer: DeviceObject | None = None) -> None:
        """-global for a device that is being made; `outer` is another that shows its properties.

        A wrong one ends a start (StartupError), and is worth a warning when the device is
        hot-plugged.
        """
        for given in self.state.configuration.globals:
            if not self.profile.is_a(target.type, given.driver):
                continue
            self.used_globals.add(given)
            try:
                if not target.has(given.property):
                    raise QapiError(f"Property '{target.type}.{given.property}' not found")
                holder = owner(self.profile, target, given.property)
                value = self._from_text(holder, given.property, given.value)
            except NotModelledError:
                # a device that is hot-plugged would go without it, with no more than a warning
                raise
            except QapiError as error:
                what = f"{given.driver}.{given.property}={given.value}"
                text = f"can't apply global {what}: {error.desc}"
                if not self.state.phases.ready:
                    raise StartupError(text) from None
                self._warn(f"warning: {text}")
                continue
            device = outer or target
            device.given.add(given.property)
            _store(device, holder, given.property, value)

    def _from_text(self, target: DeviceObject, name: str, value: str) -> Any:
        entry = describe(self.profile, target.type, name) or {}
        shape = entry.get("type", target.shapes.get(name, "str"))
        description = entry.get("description", "")
        special = _special(entry) if entry else None
        if special is not None:
            return special(self, target, name, value, False)
        new = from_string(
            self.profile.schema, shape, value, name, self.profile.traits, description=description
        )
        check_value(target.type, name, new)
        return new

    def set(self, device: DeviceObject, name: str, value: Any, *, typed: bool) -> None:
        """Set a property before the device is realized. Raises QapiError."""
        holder = owner(self.profile, device, name)
        entry = describe(self.profile, holder.type, name)
        if entry is None:
            raise QapiError(f"Property '{device.type}.{name}' not found")
        if is_read_only(holder.type, name, entry["type"]):
            raise QapiError(f"Property '{holder.type}.{name}' is not writable")
        special = _special(entry)
        if special is not None:
            new = special(self, holder, name, value, typed)
            if reads.log is not None and not isinstance(special, partial):
                reads.log.used(name, special)
        else:
            new = convert(
                self.profile.schema,
                _VISITED.get((holder.type, name), entry["type"]),
                value,
                name,
                text=None if typed else self.profile.traits,
                description=entry.get("description", ""),
            )
            check_value(holder.type, name, new)
            if name in BOOT_INDEXES:
                check_boot_index(user_devices(self.state.qom), device, name, new)
        device.given.add(name)
        _store(device, holder, name, new)


def _store(device: DeviceObject, holder: DeviceObject, name: str, value: Any) -> None:
    for obj in {id(device): device, id(holder): holder}.values():
        if name in obj.shapes:
            obj.values[name] = value
            if reads.log is not None:
                obj.values = reads.log.watch(obj.values, name)


def _special(entry: dict[str, Any]) -> Special | None:
    description = entry.get("description", "")
    for start, special in _BY_DESCRIPTION.items():
        if description.startswith(start):
            return special
    if entry["type"].startswith("link<"):
        kind = entry["type"][5:-1]
        return partial(_link, kind=kind)
    return None


def _text(properties: Properties, name: str, value: Any, typed: bool) -> str:
    traits = None if typed else properties.profile.traits
    text: str = convert(properties.profile.schema, "str", value, name, text=traits)
    return text


def _mac(properties: Properties, device: DeviceObject, name: str, value: Any, typed: bool) -> str:
    text = _text(properties, name, value, typed)
    if not re.fullmatch(_MAC, text):
        raise wrong_value(device, name, text)
    return text.lower().replace("-", ":")


def _devfn(properties: Properties, device: DeviceObject, name: str, value: Any, typed: bool) -> int:
    if not isinstance(value, str):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise QapiError(f"Invalid parameter type for '{name}', expected int or str")
        traits = None if typed else properties.profile.traits
        number: int = convert(properties.profile.schema, "int32", value, name, text=traits)
        if properties.profile.traits.devfn_checked and not -1 <= number <= 255:
            raise QapiError(f"Parameter '{name}' expects a value between -1 and 255")
        return number
    found = re.fullmatch(_SLOT, value)
    if found is None:
        raise wrong_value(device, name, value)
    slot, function = int(found[1], 16), int(found[2] or "0", 16)
    if slot > 31 or function > 7:
        raise wrong_value(device, name, value)
    return slot << 3 | function


def _netdev(
    properties: Properties, device: DeviceObject, name: str, value: Any, typed: bool
) -> str:
    text = _text(properties, name, value, typed)
    properties.backends.choose_netdev(device, name, text)
    return text


def _chardev(
    properties: Properties, device: DeviceObject, name: str, value: Any, typed: bool
) -> str:
    text = _text(properties, name, value, typed)
    properties.backends.choose_chardev(device, name, text)
    return text


def _drive(properties: Properties, device: DeviceObject, name: str, value: Any, typed: bool) -> str:
    text = _text(properties, name, value, typed)
    properties.backends.choose_drive(device, name, text)
    return text


def _audiodev(
    properties: Properties, device: DeviceObject, name: str, value: Any, typed: bool
) -> str:
    text = _text(properties, name, value, typed)
    if all(option.id != text for option in properties.state.configuration.audiodevs):
        raise QapiError(properties.profile.traits.no_audiodev.format(device.type, name, text))
    return text


def _tpm(properties: Properties, device: DeviceObject, name: str, value: Any, typed: bool) -> str:
    text = _text(properties, name, value, typed)
    properties.backends.choose_tpm(device, name, text)
    return text


def _host_address(
    properties: Properties, device: DeviceObject, name: str, value: Any, typed: bool
) -> str:
    text = _text(properties, name, value, typed)
    found = _address_in_sysfs(text)
    if found is None:
        raise wrong_value(device, name, text)
    return found


def _address_in_sysfs(text: str) -> str | None:
    """A host's PCI device, `[DDDD:]BB:DD.F`, as sysfs names it; None for what is none.

    See hw/core/qdev-properties-system.c: set_pci_host_devaddr().
    """
    found = re.fullmatch(_HOST, text)
    if found is None:
        return None
    domain, bus, slot = (int(part or "0", 16) for part in found.groups()[:3])
    function = int(found[4])
    if domain > 0xFFFF or bus > 0xFF or slot > 0x1F or function > 7:
        return None
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _iothread_queues(
    properties: Properties,  # noqa: ARG001
    device: DeviceObject,
    name: str,
    value: Any,
    typed: bool,  # noqa: ARG001
) -> Any:
    if device.type not in ("virtio-blk-device", "virtio-scsi-device"):
        raise NotModelledError(f"{device.type}.{name}")
    # few give one
    from fakeqemu.model.hw.virtio import iothread_queues

    return iothread_queues.parse(value)


def _link(
    properties: Properties,
    device: DeviceObject,  # noqa: ARG001
    name: str,
    value: Any,
    typed: bool,
    *,
    kind: str,
) -> str:
    text = _text(properties, name, value, typed)
    from fakeqemu.model.qom.links import resolve_link

    return resolve_link(properties.state.qom, properties.profile, name, text, kind)


_BY_DESCRIPTION: dict[str, Special] = {
    "Slot and optional function number": _devfn,
    "Ethernet 6-byte MAC Address": _mac,
    "ID of a netdev to use as a backend": _netdev,
    "ID of a chardev to use as a backend": _chardev,
    "Node name or ID of a block device": _drive,
    "ID of an audiodev to use as a backend": _audiodev,
    "ID of a tpm to use as a backend": _tpm,
    "IOThread virtqueue mapping list": _iothread_queues,
    "Address (bus/device/function) of the host device": _host_address,
    "Host PCI address": _host_address,
}
