"""What a board is made from: the recorded tree, the machine object, CPUs like the recorded one.

What was recorded is one fresh machine with one default CPU.

See hw/core/machine.c: machine_run_board_init(); hw/i386/x86-common.c: x86_cpus_init().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qom.property_types import convert
from fakeqemu.model.qom.tree import QomObject, from_recorded
from fakeqemu.qapi.errors import QapiError, StartupError

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Cpus
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.profile import MachineType, Profile, TreeObject
    from fakeqemu.qapi.schema import Schema

_UNAVAILABLE = "unavailable-features"
#: ids from here on need a newer interrupt controller; see hw/intc/apic_common.c:
#: apic_common_set_id()
_X2APIC = 255


def recorded_tree(state: MachineState, machine: MachineType) -> TreeObject:
    """The recorded tree, at `/`, of a fresh machine of that type.

    Raises StartupError for a type that was not recorded.
    """
    try:
        return state.profile.object_tree(machine.name, defaults=state.configuration.has_defaults)
    except KeyError:
        raise StartupError(f"fakeqemu does not model machine type '{machine.name}'") from None


class MachineObject(QomObject):
    """The object `/machine`: what was a choice at the start can be written, to no effect."""

    def __init__(self, type: str) -> None:
        super().__init__(type)
        #: property -> what the model says it is, whatever was asked for
        self.computed: dict[str, Callable[[], Any]] = {}

    def get(self, name: str) -> Any:
        """The property's value, worked out or stored."""
        computed = self.computed.get(name)
        return computed() if computed is not None else super().get(name)

    def set_otherwise(self, name: str, value: Any, schema: Schema) -> None:
        """Check and keep the value."""
        if name in ("rtc-time", "acpi-device", "smram"):
            raise QapiError(f"Property '{self.type}.{name}' is not writable")
        self.values[name] = convert(schema, self.shapes[name], value, name)


def maker(profile: Profile) -> Callable[[str], QomObject]:
    """What makes an object of a type: a device or another."""

    def make(type: str) -> QomObject:
        return DeviceObject(type) if profile.is_a(type, "device") else QomObject(type)

    return make


def inserted_at(node: TreeObject) -> int:
    """The number that the first CPU after the recorded one gets."""
    unattached = node.at("unattached").children
    following = unattached.get("device[1]")
    return 2 if following is not None and following.type == "kvmvapic" else 1


def cpu_object(
    cpus: Cpus,
    profile: Profile,
    recorded: TreeObject,
    index: int,
    rename: Callable[[str], str] = lambda t: t,
) -> DeviceObject:
    """A CPU of the machine's model for slot `index`, like the recorded one otherwise."""
    obj = from_recorded(recorded, rename=rename, make=maker(profile))
    assert isinstance(obj, DeviceObject)
    model = cpus.type
    if model != obj.type:
        obj.type = model
        obj.values["type"] = model
        obj.values.update(_expansion(profile, model))
    if cpus.features is not None:
        obj.values.update(cpus.features.values)
        if _UNAVAILABLE in obj.shapes:
            obj.values[_UNAVAILABLE] = list(cpus.features.unavailable)
    props = cpus.topology.ids(index)
    levels = {"socket-id": "sockets", "die-id": "dies", "module-id": "modules"}
    levels |= {"core-id": "cores", "thread-id": "threads"}
    for name, level in levels.items():
        if name in obj.shapes:
            obj.values[name] = props[level]
    apic_id = cpus.topology.apic_id(index)
    if apic_id >= _X2APIC and not obj.values.get("x2apic"):
        raise QapiError(f"APIC ID {apic_id} requires x2APIC feature in CPU",
                        "Try x2apic=on in -cpu.")
    obj.values["apic-id"] = apic_id
    if index in cpus.nodes:
        obj.values["node-id"] = cpus.nodes[index]
    return obj


def _expansion(profile: Profile, model: str) -> dict[str, Any]:
    """The recorded properties of CPU type `model`, as far as there are any."""
    for definition in profile.cpu_definitions:
        if definition["typename"] == model:
            try:
                reply = profile.cpu_model_expansion(definition["name"], "full")
            except KeyError:
                return {}
            props: dict[str, Any] = reply.get("return", {}).get("model", {}).get("props", {})
            return props
    return {}
