"""What a board is made from: the recorded tree, the machine object, CPUs like the recorded one.

What was recorded is one fresh machine with one default CPU.

See hw/core/machine.c: machine_run_board_init(); hw/i386/x86-common.c: x86_cpus_init().
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qom.property_types import convert
from fakeqemu.model.qom.tree import QomObject, from_recorded
from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Cpus
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.profile import MachineType, Profile, TreeObject
    from fakeqemu.qapi.schema import Schema

#: a machine type whose options are known here: see boot/board/switches.py
_X86 = "x86-machine"
_UNAVAILABLE = "unavailable-features"
#: bits of addresses: those that the CPU has, and those that its guest is shown
_ADDRESS_BITS, _LONG_MODE = ("phys-bits", "guest-phys-bits"), "lm"
#: the last: where nobody says; see target/i386/cpu.h: TCG_PHYS_ADDR_BITS
_FEWEST_BITS, _MOST_BITS, _USUAL_BITS = 32, 52, 40
#: -1
_NOT_SET = 0xFFFFFFFF
#: ids from here on need a newer interrupt controller; see hw/intc/apic_common.c:
#: apic_common_set_id()
_X2APIC = 255
#: how QOM shows a clock's date
_TIME = "struct tm"
#: property of an Arm CPU with its place, and CPUs in a cluster; see target/arm/cpu.h:
#: ARM_DEFAULT_CPUS_PER_CLUSTER
_AFFINITY, _CLUSTER = "mp-affinity", 8


def recorded_tree(state: MachineState, machine: MachineType) -> TreeObject:
    """The recorded tree, at `/`, of a fresh machine of that type.

    Raises StartupError for a type that was not recorded.
    """
    try:
        tree = state.profile.object_tree(machine.name, defaults=state.configuration.has_defaults)
    except KeyError:
        raise StartupError(f"fakeqemu does not model machine type '{machine.name}'") from None
    if machine.default_cpu_type is None or state.profile.is_a(machine.typename, _X86):
        return tree
    from fakeqemu.model.boards.targets.variants import with_options

    return with_options(state, machine, tree)


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
        if name == "rtc-time":
            # an alias of the clock's; see hw/rtc/mc146818rtc.c: mc146818_rtc_init()
            clock = next(each for each in self.walk() if each.shapes.get("date") == _TIME)
            raise QapiError(f"Property '{clock.type}.date' is not writable")
        if name == "smram":
            raise QapiError(f"Property '{self.type}.{name}' is not writable")
        checked = convert(schema, self.shapes[name], value, name)
        if name == "acpi-device":
            raise NotModelledError(f"qom-set {self.type}.{name}")
        self.values[name] = checked


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
    *,
    model: str | None = None,
) -> DeviceObject:
    """A CPU for slot `index`, like the recorded one otherwise; `model`: if not the machine's."""
    obj = from_recorded(recorded, rename=rename, make=maker(profile))
    assert isinstance(obj, DeviceObject)
    own = model in (None, cpus.type)
    if (model or cpus.type) != obj.type:
        be_model(obj, profile, model or cpus.type)
    if own and cpus.features is not None:
        obj.values.update(cpus.features.values)
        if _UNAVAILABLE in obj.shapes:
            obj.values[_UNAVAILABLE] = list(cpus.features.unavailable)
        obj.given.update(cpus.features.values)
    if "apic-id" not in obj.shapes:
        place_cpu(cpus, obj, index)
        return obj
    settle_address_bits(obj.values, obj.given)
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


def be_model(obj: DeviceObject, profile: Profile, model: str) -> None:
    """Make a recorded CPU one of another model, which may have other properties."""

    def listed(type: str) -> dict[str, dict[str, Any]]:
        try:
            return {each["name"]: each for each in profile.device_properties(type)}
        except KeyError:
            return {}

    old, new = listed(obj.type), listed(model)
    for name in old.keys() - new.keys():
        obj.own_shapes().pop(name, None)
        obj.values.pop(name, None)
    for name, about in new.items():
        if name not in obj.shapes:
            obj.own_shapes()[name] = about["type"]
        if name not in old or about.get("default-value") != old[name].get("default-value"):
            obj.values[name] = about.get("default-value")
    obj.type = model
    obj.values["type"] = model
    obj.values.update(expansion(profile, model))


def place_cpu(cpus: Cpus, obj: DeviceObject, index: int) -> None:
    """The numbers that CPU `index` has, and what else makes it another than the first."""
    recorded = cpus.slots_recorded
    for name, number in cpus.props(index).items():
        if name in obj.shapes:
            obj.values[name] = number
    if recorded is None or not index:
        return
    for name, value in recorded.others.items():
        if name in obj.shapes:
            obj.values[name] = affinity(index) if name == _AFFINITY else value


def affinity(index: int) -> int:
    """The number by which an Arm CPU is addressed. See hw/arm/virt.c: virt_cpu_mp_affinity()."""
    cluster, number = divmod(index, _CLUSTER)
    return cluster << 8 | number


def settle_address_bits(values: dict[str, Any], given: Collection[str]) -> None:
    """How many bits addresses have, put into a CPU's properties `values`.

    `given`: those that somebody has set. Raises QapiError for addresses that no CPU has. See
    target/i386/cpu.c: x86_cpu_realizefn().
    """
    bits, guest = (values.get(name, 0) if name in given else 0 for name in _ADDRESS_BITS)
    guest = 0 if guest == _NOT_SET else guest
    wide = values.get(_LONG_MODE, True)
    for name, number, most in zip(
        _ADDRESS_BITS, (bits, guest), (_MOST_BITS, bits or _USUAL_BITS), strict=True
    ):
        if number and not wide:
            raise QapiError(f"{name} is not user-configurable in 32 bit")
        if number and not _FEWEST_BITS <= number <= most:
            raise QapiError(
                f"{name} should be between {_FEWEST_BITS} and {most}  (but is {number})"
            )
    if wide:
        bits = bits or _USUAL_BITS
    else:
        bits = 36 if values.get("pse36") or values.get("pae") else _FEWEST_BITS
    values.update({n: v for n, v in zip(_ADDRESS_BITS, (bits, guest), strict=True) if n in values})


def expansion(profile: Profile, model: str) -> dict[str, Any]:
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
