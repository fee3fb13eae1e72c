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

from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qom.property_types import convert, from_string
from fakeqemu.model.qom.tree import QomObject, resolve_from
from fakeqemu.qapi import reads
from fakeqemu.qapi.errors import (
    DeviceNotFoundError,
    NotModelledError,
    QapiError,
    StartupError,
)

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
_SLOT = re.compile(r"\s*(?:0[xX])?([0-9a-fA-F]+)(?:\.(?:0[xX])?([0-9a-fA-F]+))?")

Special = Callable[["Machine", DeviceObject, str, Any, bool], Any]


def describe(vm: Machine, type: str, name: str) -> dict[str, Any] | None:
    """The recorded entry of device-list-properties; None if the type has no such property."""
    try:
        entries = vm.profile.device_properties(type)
    except KeyError:
        return None
    return next((entry for entry in entries if entry["name"] == name), None)


def owner(vm: Machine, device: DeviceObject, name: str) -> DeviceObject:
    """Whose property `name` of `device` is: its own, or that of the device inside."""
    for child in device.children.values():
        if isinstance(child, DeviceObject) and describe(vm, child.type, name) is not None:
            return child
    return device


def alias_inner(vm: Machine, device: DeviceObject) -> None:
    """Let the outer device's properties that belong to the one inside lead there."""
    for child in device.children.values():
        if not isinstance(child, DeviceObject):
            continue
        for name in device.shapes:
            if name in child.shapes and describe(vm, child.type, name) is not None:
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


def apply_defaults(vm: Machine, device: DeviceObject) -> None:
    """What the machine type and -global say about devices of this type."""
    machine = vm.state.type
    targets = [device, *(c for c in device.children.values() if isinstance(c, DeviceObject))]
    for driver, name, value in machine.compat_props if machine is not None else ():
        for target in targets:
            if vm.profile.is_a(target.type, driver) and target.has(name):
                _store(device, target, name, _from_text(vm, target, name, value))
    for target in targets:
        apply_globals(vm, target, device)


def apply_globals(
    vm: Machine, target: DeviceObject, outer: DeviceObject | None = None
) -> None:
    """-global for a device that is being made; `outer` is another that shows its properties.

    A wrong one ends a start (StartupError), and is worth a warning when the device is hot-plugged.
    """
    for given in vm.configuration.globals:
        if not vm.profile.is_a(target.type, given.driver):
            continue
        vm.used_globals.add(given)
        try:
            if not target.has(given.property):
                raise QapiError(f"Property '{target.type}.{given.property}' not found")
            value = _from_text(vm, target, given.property, given.value)
        except NotModelledError:
            continue
        except QapiError as error:
            what = f"{given.driver}.{given.property}={given.value}"
            text = f"can't apply global {what}: {error.desc}"
            if not vm.process.phases.ready:
                raise StartupError(text) from None
            vm.host.warn(f"warning: {text}")
            continue
        _store(outer or target, target, given.property, value)


def _from_text(vm: Machine, target: DeviceObject, name: str, value: str) -> Any:
    entry = describe(vm, target.type, name) or {}
    shape = entry.get("type", target.shapes.get(name, "str"))
    description = entry.get("description", "")
    special = _special(entry) if entry else None
    if special is not None:
        return special(vm, target, name, value, False)
    return from_string(
        vm.profile.schema, shape, value, name, vm.profile.traits, description=description
    )


#: properties whose setter visits another type than introspection says: (device, property) -> type;
#: see hw/mem/nvdimm.c: nvdimm_set_label_size()
_VISITED = {("nvdimm", "label-size"): "size"}


def set_property(
    vm: Machine, device: DeviceObject, name: str, value: Any, *, typed: bool
) -> None:
    """Set a property before the device is realized. Raises QapiError."""
    holder = owner(vm, device, name)
    entry = describe(vm, holder.type, name)
    if entry is None or entry["type"].startswith("child<"):
        raise QapiError(f"Property '{device.type}.{name}' not found")
    special = _special(entry)
    if special is not None:
        new = special(vm, holder, name, value, typed)
        if reads.log is not None and not isinstance(special, partial):
            reads.log.used(name, special)
    else:
        new = convert(
            vm.profile.schema,
            _VISITED.get((holder.type, name), entry["type"]),
            value,
            name,
            text=None if typed else vm.profile.traits,
            description=entry.get("description", ""),
        )
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


def _text(vm: Machine, name: str, value: Any, typed: bool) -> str:
    traits = None if typed else vm.profile.traits
    text: str = convert(vm.profile.schema, "str", value, name, text=traits)
    return text


def _wrong(device: QomObject, name: str, text: Any) -> QapiError:
    return QapiError(f"Property '{device.type}.{name}' doesn't take value '{text}'")


def _missing(device: QomObject, name: str, text: str) -> QapiError:
    return QapiError(f"Property '{device.type}.{name}' can't find value '{text}'")


def _in_use(device: QomObject, name: str, text: str) -> QapiError:
    return QapiError(f"Property '{device.type}.{name}' can't take value '{text}', it's in use")


def _mac(vm: Machine, device: DeviceObject, name: str, value: Any, typed: bool) -> str:
    text = _text(vm, name, value, typed)
    if not _MAC.fullmatch(text):
        raise _wrong(device, name, text)
    return text.lower().replace("-", ":")


def _devfn(vm: Machine, device: DeviceObject, name: str, value: Any, typed: bool) -> int:
    if not isinstance(value, str):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise QapiError(f"Invalid parameter type for '{name}', expected int or str")
        traits = None if typed else vm.profile.traits
        number: int = convert(vm.profile.schema, "int32", value, name, text=traits)
        if vm.profile.traits.devfn_checked and not -1 <= number <= 255:
            raise QapiError(f"Parameter '{name}' expects a value between -1 and 255")
        return number
    found = _SLOT.fullmatch(value)
    if found is None:
        raise _wrong(device, name, value)
    slot, function = int(found[1], 16), int(found[2] or "0", 16)
    if slot > 31 or function > 7:
        raise _wrong(device, name, value)
    return slot << 3 | function


def _netdev(vm: Machine, device: DeviceObject, name: str, value: Any, typed: bool) -> str:
    text = _text(vm, name, value, typed)
    backend = vm.net.backends.get(text)
    if backend is None:
        raise _missing(device, name, text)
    if backend.peer is not None:
        raise _in_use(device, name, text)
    return text


def _chardev(vm: Machine, device: DeviceObject, name: str, value: Any, typed: bool) -> str:
    text = _text(vm, name, value, typed)
    chardev = vm.chardevs.get(text)
    if chardev is None:
        raise _missing(device, name, text)
    if chardev.busy:
        why = vm.profile.traits.chardev_in_use_text.format(text)
        raise QapiError(f"Property '{device.type}.{name}' can't take value '{text}': {why}")
    return text


def _drive(vm: Machine, device: DeviceObject, name: str, value: Any, typed: bool) -> str:
    text = _text(vm, name, value, typed)
    if text:
        if not vm.block.backends.exists(text):
            raise _missing(device, name, text)
        vm.block.choose(device, text)
    return text


def _audiodev(vm: Machine, device: DeviceObject, name: str, value: Any, typed: bool) -> str:
    text = _text(vm, name, value, typed)
    if all(option.id != text for option in vm.configuration.audiodevs):
        raise _missing(device, name, text)
    return text


def _not_modelled(
    vm: Machine,  # noqa: ARG001
    device: DeviceObject,
    name: str,
    value: Any,  # noqa: ARG001
    typed: bool,  # noqa: ARG001
) -> Any:
    raise NotModelledError(f"{device.type}.{name}")


def _link(
    vm: Machine,
    device: DeviceObject,  # noqa: ARG001
    name: str,
    value: Any,
    typed: bool,
    *,
    kind: str,
) -> str:
    text = _text(vm, name, value, typed)
    if not text:
        return ""
    found, ambiguous = _resolve(vm, text, kind)
    if ambiguous:
        raise QapiError(f"Path '{text}' does not uniquely identify an object")
    if found is None:
        other, _ = resolve_from(vm.qom.root, text)
        if other is not None:
            raise QapiError(f"Invalid parameter type for '{name}', expected: {kind}")
        raise DeviceNotFoundError(f"Device '{text}' not found")
    return found.path


def _resolve(vm: Machine, path: str, kind: str) -> tuple[QomObject | None, bool]:
    """The object of type `kind` that `path` means."""
    if path.startswith("/"):
        found = vm.qom.at(path)
        right = found is not None and vm.profile.is_a(found.type, kind)
        return (found if right else None), False
    parts = path.split("/")
    matches = [
        obj
        for obj in vm.qom.root.walk()
        if obj.name == parts[-1]
        and obj.path.endswith("/" + path)
        and vm.profile.is_a(obj.type, kind)
    ]
    return (matches[0] if len(matches) == 1 else None), len(matches) > 1


_BY_DESCRIPTION: dict[str, Special] = {
    "Slot and optional function number": _devfn,
    "Ethernet 6-byte MAC Address": _mac,
    "ID of a netdev to use as a backend": _netdev,
    "ID of a chardev to use as a backend": _chardev,
    "Node name or ID of a block device": _drive,
    "ID of an audiodev to use as a backend": _audiodev,
    "ID of a tpm to use as a backend": _not_modelled,
    "Address (bus/device/function) of the host device": _not_modelled,
}
