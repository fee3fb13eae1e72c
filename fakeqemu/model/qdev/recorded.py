"""What is recorded of device types (profile part `devices`).

See system/qdev-monitor.c: qdev_get_device_class() and qdev_class_get_alias().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qom.tree import QomObject, from_recorded
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.qdev.bus import Buses
    from fakeqemu.profile import Profile, TreeObject

#: what the recorded device was called
_PROBE = "/machine/peripheral/probe"
#: host bridge -> devices of the system bus that its board takes
_DYNAMIC = {
    "i440fx": ("ramfb", "vmbus-bridge", "uefi-vars-x64"),
    "q35": ("amd-iommu", "intel-iommu", "ramfb", "vmbus-bridge", "uefi-vars-x64"),
}


def about(profile: Profile, driver: str) -> dict[str, Any]:
    """The recorded facts of a device type. NotModelledError if there are none."""
    try:
        facts: dict[str, Any] = profile.part("devices").get(driver)
    except KeyError:
        raise NotModelledError(f"device {driver}") from None
    return facts


def check_required(facts: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse a device that lacks all that its type could be made with. Raises QapiError."""
    if facts.get("error") and not any(given.get(name) for name in facts["options"]):
        raise QapiError(facts["error"])


def driver_of(state: MachineState, name: str, *, ready: bool) -> str:
    """The device type that `name` or alias `name` means. Raises QapiError.

    `ready`: whether the machine is, and the device would be hot-plugged.
    """
    profile = state.profile
    driver = name
    if driver not in profile.qom_types:
        devices = profile.part("devices")
        driver = next((d for d in devices if devices.get(d, "class", "alias") == name), driver)
    if driver not in profile.qom_types or not profile.is_a(driver, "device"):
        raise QapiError(f"'{name}' is not a valid device model name")
    if profile.qom_types[driver].abstract:
        raise QapiError(texts.parameter_expects("driver", "a non-abstract device type"))
    not_pluggable = texts.parameter_expects("driver", "a pluggable device type")
    facts = about(profile, driver)
    if not facts["class"]["user"] or (ready and facts.get("hotplug") == not_pluggable):
        raise QapiError(not_pluggable)
    if profile.is_a(driver, "sys-bus-device") and not is_dynamic(state, driver):
        raise QapiError(
            texts.parameter_expects("driver", "a dynamic sysbus device type for the machine")
        )
    return driver


def is_hotpluggable(profile: Profile, driver: str) -> bool:
    """Whether devices of that type can come and go, given a bus that allows it."""
    return bool(about(profile, driver).get("hotplug") != cannot_hotplug(driver))


def cannot_hotplug(driver: str) -> str:
    """What is said of devices of a type that can never be hot-plugged."""
    return f"Device '{driver}' does not support hotplugging"


def alias_of(profile: Profile, driver: str) -> str | None:
    """The short name of a device type."""
    try:
        alias: str | None = profile.part("devices").get(driver, "class", "alias")
    except KeyError:
        return None
    return alias


def is_dynamic(state: MachineState, driver: str) -> bool:
    """Whether the board takes such a device, which sits on no bus that has slots.

    See hw/i386/pc_q35.c: pc_q35_machine_options(); hw/i386/pc_piix.c:
    pc_i440fx_machine_options(); hw/i386/microvm.c: microvm_class_init().
    """
    if state.is_a("none-machine"):
        return False
    if not state.is_a("x86-machine"):
        # as the board answered on which devices of other targets are recorded
        return "dynamic sysbus device" not in (about(state.profile, driver)["error"] or "")
    if state.is_a("microvm-machine"):
        return driver == "ramfb"
    bridges = (name for name in _DYNAMIC if state.qom.at(f"/machine/{name}") is not None)
    return driver in _DYNAMIC.get(next(bridges, ""), ())


def device_of(profile: Profile, tree: TreeObject, id: str | None, buses: Buses) -> DeviceObject:
    """A device as the recorded one was, whose buses are called after `id`."""
    box: list[DeviceObject] = []
    names = dict(_bus_names(profile, tree, id, buses))

    def rename(text: str) -> str:
        if text.startswith(_PROBE):
            below = text[len(_PROBE) :].split("/")
            return box[0].path + "/".join(names.get(name, name) for name in below)
        return names.get(text, text)

    def make(type: str) -> QomObject:
        obj = DeviceObject(type) if profile.is_a(type, "device") else QomObject(type)
        if not box and isinstance(obj, DeviceObject):
            box.append(obj)
        return obj

    device = _lazily(tree, rename, make)
    assert isinstance(device, DeviceObject)
    return device


def _bus_names(
    profile: Profile, node: TreeObject, id: str | None, buses: Buses
) -> Iterator[tuple[str, str]]:
    """What buses were called on the recorded device and below, and are to be called."""
    for name, child in node.children.items():
        if name == "probe" or name.startswith("probe."):
            automatic = id is None and profile.is_a(child.type, "bus")
            yield name, buses.automatic_name(child.type) if automatic else (id or "") + name[5:]
        yield from _bus_names(profile, child, id, buses)


def _lazily(
    node: TreeObject, rename: Callable[[str], str], make: Callable[[str], QomObject]
) -> QomObject:
    """As `from_recorded`, but values that name paths are worked out when asked for.

    The device's own path is not known before it is in the tree.
    """
    obj = from_recorded(node, make=make)
    for name, value in node.values.items():
        if isinstance(value, str) and value.startswith("/machine/"):
            obj.values[name] = partial(rename, value)
    obj.replace_children(
        {
            rename(name): partial(_lazily, child, rename, make)
            for name, child in node.children.items()
        }
    )
    return obj
