"""Machine properties from the command line: texts and trees of texts to typed values.

The property types are those that QOM shows. What a property further demands of its value is in
`_DEMANDS`; a property whose type is not known here keeps what was given.

See system/vl.c: qemu_apply_machine_options(); qom/object_interfaces.c:
object_set_properties_from_qdict(); hw/core/machine.c: machine_class_init().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fakeqemu.boot.checks.smp import check_smp_cache, topology
from fakeqemu.boot.error_report import Messages
from fakeqemu.configuration import Configuration
from fakeqemu.dataclass import dataclass, field
from fakeqemu.model.boards.cpus import Topology
from fakeqemu.profile import Profile
from fakeqemu.profile.facts import MachineType
from fakeqemu.qapi import qdict, reads
from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError
from fakeqemu.qapi.readers.keyval import check_keyval
from fakeqemu.qapi.readers.scalars import hex_suffix_warning
from fakeqemu.qapi.schema import (
    ArrayType,
    BuiltinType,
    EnumType,
    Feature,
    Member,
    ObjectType,
    Type,
)

GIB = 1 << 30

#: QOM's name of an enumeration -> its values
_ENUMS = {
    "OnOffAuto": ("auto", "on", "off"),
    "OnOffSplit": ("on", "off", "split"),
    "on|off|split": ("on", "off", "split"),
    "SmbiosEntryPointType": ("32", "64", "auto"),
    "PCSouthBridgeOption": ("PIIX3", "piix4-isa"),
    "CacheLevelAndType": ("l1d", "l1i", "l2", "l3"),
    "CpuTopologyLevel": (
        "thread", "core", "module", "cluster", "die", "socket", "book", "drawer", "default",
    ),
}  # fmt: skip

#: QOM's name of a list -> members of what is in it, and those that must be there
#: (qapi/machine.json: SmpCacheProperties; qapi/misc-i386.json: SgxEPC;
#: qapi/machine.json: CXLFixedMemoryWindowOptions)
_LISTS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "SgxEPC": ({"memdev": "str", "node": "int"}, ("memdev", "node")),
    "CXLFixedMemoryWindow": (
        {"size": "size", "interleave-granularity": "size", "targets": "[str]"},
        ("size", "targets"),
    ),
    "SmpCachePropertiesWrapper": (
        {"cache": "CacheLevelAndType", "topology": "CpuTopologyLevel"}, ("cache", "topology"),
    ),
}  # fmt: skip

#: QOM's name of a scalar -> the schema's, where they differ
_SCALARS = {
    "string": "str", "bool": "bool", "size": "size", "int": "int",
    "uint8_t": "uint8", "uint16_t": "uint16", "uint32_t": "uint32", "uint64_t": "uint64",
}
_JSON_TYPES = {"str": "string", "bool": "boolean"}

#: properties whose QOM type says less than they accept
_BY_NAME = {"smbios-entry-point-type": "SmbiosEntryPointType"}

#: containers that each machine has
_CHILDREN = ("peripheral", "peripheral-anon", "unattached")
#: type of a property that a board has only once it has a clock
_OF_RTC = "struct tm"

#: what -boot and -m set: properties of every machine since 7.1, before that of none
_OF_OPTIONS = {"boot": "BootConfiguration", "memory": "MemorySizeConfiguration"}

#: machine options that are no properties: they go to the accelerator
_ACCELERATOR_OPTIONS = ("igd-passthru", "kvm-shadow-mem", "kernel-irqchip")

#: option type -> schema type
_OPTION_TYPES = {"string": "str", "boolean": "bool", "number": "int", "size": "size"}


def set_machine_properties(
    options: Mapping[str, Any],
    profile: Profile,
    machine: MachineType,
    demands: Mapping[str, Callable[[Any], None]],
) -> dict[str, Any]:
    """The machine options as typed property values, in the order QEMU sets them.

    `demands`: property -> called with its value, may refuse it. Raises QapiError for the first
    that the machine does not have or take.
    """
    demands = {**_DEMANDS, **demands}
    listed = {p["name"]: p["type"] for p in profile.machine_properties(machine)}
    types = {**_OF_OPTIONS, **listed}
    values: dict[str, Any] = {}
    for option, given in qdict.items(options):
        name = option
        if name in _CHILDREN:
            raise QapiError(f"Property '{machine.typename}.{name}' is not writable")
        if types.get(name) in (None, _OF_RTC):
            raise QapiError(f"Property '{machine.typename}.{name}' not found")
        type = property_type(_BY_NAME.get(name, types[name]), profile)
        value = given if type is None else check_keyval(type, given, profile.traits, name)
        if reads.log is not None:
            value = reads.log.typed(type, value, f"-machine {name}") if type else value
            name = reads.log.name(name, "-machine ")
        if name in demands:
            demands[name](value)
        values[name] = value
    return values


def check_named(options: Mapping[str, Any], profile: Profile) -> None:
    """Raise QapiError for what -machine names and only another option sets (before 7.1)."""
    known = {p["name"] for p in profile.qom_properties("none-machine")}
    for name in _OF_OPTIONS:
        if name in options and name not in known:
            raise QapiError(f"Property '{options.get('type', 'none')}-machine.{name}' not found")


def property_type(name: str, profile: Profile) -> Type | None:
    """The schema type of a QOM property type; None if it is not known here."""
    if name in _ENUMS:
        return EnumType(name, _ENUMS[name], {})
    if name == "SMPConfiguration":
        return _group_type(profile, "smp-opts", {})
    if name == "BootConfiguration":
        return _group_type(profile, "boot-opts", {})
    if name == "MemorySizeConfiguration":
        return _struct({"size": "size", "max-size": "size", "slots": "uint64"})
    if name in _LISTS:
        return ArrayType(name, _struct(*_LISTS[name]))
    if name.startswith("link<"):
        return _builtin("str")
    scalar = _SCALARS.get(name, name)
    return _builtin(scalar) if scalar in (*_JSON_TYPES, *_INTEGERS) else None


_INTEGERS = ("int", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
             "size")


def _builtin(name: str) -> BuiltinType:
    return BuiltinType(name, _JSON_TYPES.get(name, "int"))


def _struct(members: Mapping[str, str], required: tuple[str, ...] = ()) -> ObjectType:
    """An object of scalars, of values of `_ENUMS`, and of lists of strings (`[str]`)."""
    plain = Feature()

    def typed(type: str) -> Type:
        if type in _ENUMS:
            return EnumType(type, _ENUMS[type], {})
        return ArrayType(type, _builtin("str")) if type == "[str]" else _builtin(type)

    def member(name: str, type: str) -> Member:
        return Member(name, name not in required, plain, lambda: typed(type))

    return ObjectType("", tuple(member(*each) for each in members.items()), None, {})


def _group_type(profile: Profile, group: str, more: Mapping[str, str]) -> ObjectType:
    """The object type with the members of an option group."""
    keys = next(g["parameters"] for g in profile.option_groups if g["option"] == group)
    return _struct({k["name"]: _OPTION_TYPES[k["type"]] for k in keys} | dict(more))


# -- what some properties demand -----------------------------------------------------------------


def _boot(config: dict[str, Any]) -> None:
    for key in ("order", "once"):
        check_boot_devices(config.get(key, ""))


def check_boot_devices(devices: str) -> None:
    """Raise QapiError unless `devices` are letters of drives, each once."""
    for index, letter in enumerate(devices):
        if not "a" <= letter <= "p":
            raise QapiError(f"Invalid boot device '{letter}'")
        if letter in devices[:index]:
            raise QapiError(f"Boot device '{letter}' was given twice")


def _at_most(name: str, length: int) -> Callable[[Any], None]:
    def check(value: str) -> None:
        if len(value) > length:
            raise QapiError(
                f"User specified {name} value is bigger than {length} bytes in size"
            )

    return check


def _max_ram_below_4g(value: int) -> None:
    if value > 4 * GIB:
        raise QapiError(
            f"Machine option 'max-ram-below-4g={value}' expects size less than or equal to 4G"
        )


def _south_bridge(value: str) -> None:
    if value != "PIIX3":
        raise NotModelledError(f"-machine x-south-bridge={value}")


def _nvdimm_persistence(value: str) -> None:
    if value not in ("cpu", "mem-ctrl"):
        raise QapiError(f"-machine nvdimm-persistence={value}: unsupported option")


#: how many targets a window may be spread over, and how finely
_CXL_WAYS, _CXL_GRANULARITIES = (1, 2, 3, 4, 6, 8, 12, 16), tuple(256 << n for n in range(7))


def _check_windows(windows: list[dict[str, Any]], text: str) -> None:
    """See hw/cxl/cxl-host.c: cxl_fixed_memory_window_config()."""
    for window in windows:
        ways, fine = len(window["targets"]), window.get("interleave-granularity", 256)
        if ways not in _CXL_WAYS:
            raise QapiError(f"Interleave ways: {ways} not supported")
        if window["size"] % (256 << 20):
            raise QapiError(text)
        if fine not in _CXL_GRANULARITIES:
            raise QapiError(f"Interleave granularity: {fine} invalid")


_DEMANDS: dict[str, Callable[[Any], None]] = {
    "boot": _boot,
    "x-oem-id": _at_most("x-oem-id", 6),
    "x-oem-table-id": _at_most("x-oem-table-id", 8),
    "max-ram-below-4g": _max_ram_below_4g,
    "nvdimm-persistence": _nvdimm_persistence,
    "x-south-bridge": _south_bridge,
}


# -- memory and CPUs -----------------------------------------------------------------------------

#: memory sizes are rounded up to this
_RAM_ALIGNMENT = 8192
#: RAM of a machine whose type has RAM at all, when -m says nothing and none was recorded
_DEFAULT_RAM = 128 << 20


def default_ram(profile: Profile, machine: MachineType) -> int:
    """Bytes of memory that a machine has where nobody says; see include/hw/boards.h."""
    if not machine.default_ram_id or not machine.default_cpu_type:
        return 0
    try:
        size: int = profile.per_machine(machine.name)["memory"]["base-memory"]
    except KeyError:
        return _DEFAULT_RAM
    return size


def check_memory(memory: Mapping[str, int], default_size: int) -> tuple[int, int, int]:
    """Size, maximum size and slots that `memory` (size, max-size, slots) means.

    Raises QapiError.
    """
    size = memory.get("size", default_size)
    size = -(-size // _RAM_ALIGNMENT) * _RAM_ALIGNMENT
    if "max-size" not in memory:
        if "slots" in memory:
            raise QapiError("slots specified but no max-size")
        return size, size, 0
    maximum, slots = memory["max-size"], memory.get("slots", 0)
    if maximum < size:
        raise QapiError(
            f"invalid value of maxmem: maximum memory size (0x{maximum:x}) must be at least "
            f"the initial memory size (0x{size:x})"
        )
    if slots and maximum == size:
        raise QapiError(
            "invalid value of maxmem: memory slots were specified but maximum memory size "
            f"(0x{maximum:x}) is equal to the initial memory size (0x{size:x})"
        )
    return size, maximum, slots


@dataclass(slots=True)
class MachineSettings:
    """What the command line makes of a machine."""

    #: property -> typed value, in the order in which they were set
    properties: dict[str, Any] = field(default_factory=dict)
    topology: Topology = field(default_factory=Topology)
    #: bytes
    ram_size: int = 0
    #: bytes; equal to `ram_size` when memory cannot be added
    maxram_size: int = 0
    ram_slots: int = 0
    #: whether the size was given, and is not the machine's usual one
    ram_size_given: bool = False
    #: `accel=` of -machine; None if absent
    accelerators: str | None = None
    #: id of the object that is the machine's memory
    memory_backend: str | None = None
    #: accelerator properties given with -machine
    accelerator_properties: dict[str, str] = field(default_factory=dict)


def apply_machine_options(
    configuration: Configuration, profile: Profile, machine: MachineType, messages: Messages
) -> MachineSettings:
    """All machine properties, -smp, -m and -boot among them. Raises StartupError or QapiError."""
    options = _with_dashes(configuration.machine_options)
    default = default_ram(profile, machine)
    settings = MachineSettings(ram_size=default, maxram_size=default)
    settings.accelerators = options.pop("accel", None)
    for name in _ACCELERATOR_OPTIONS:
        if name in options:
            settings.accelerator_properties[name] = options.pop(name)
    settings.memory_backend = options.pop("memory-backend", None)
    if settings.memory_backend is not None and configuration.mem_path is not None:
        raise StartupError(
            "'-mem-path' can't be used together with'-machine memory-backend'"
        )

    def memory(value: dict[str, int]) -> None:
        sizes = check_memory(value, default)
        settings.ram_size, settings.maxram_size, settings.ram_slots = sizes
        settings.ram_size_given = "size" in value

    def smp(value: dict[str, int]) -> None:
        settings.topology = topology(value, profile, machine, messages)

    def cxl_fmw(value: list[dict[str, Any]]) -> None:
        _check_windows(value, profile.traits.cxl_window_size_text)

    def smp_cache(value: list[dict[str, Any]]) -> None:
        check_smp_cache(value, profile, machine)

    sizes = options.get("memory")
    for key in ("size", "max-size"):
        size = sizes.get(key) if isinstance(sizes, dict) else None
        warning = hex_suffix_warning(size, profile.traits) if isinstance(size, str) else None
        if warning is not None:
            messages.warn(warning)
    settings.properties = set_machine_properties(
        options, profile, machine,
        {"memory": memory, "smp": smp, "cxl-fmw": cxl_fmw, "smp-cache": smp_cache},
    )
    return settings


def _with_dashes(options: dict[str, Any]) -> dict[str, Any]:
    """The options with `_` in their names replaced. Raises StartupError."""
    result = {key: value for key, value in options.items() if "_" not in key}
    for key, value in options.items():
        if "_" in key:
            dashed = key.replace("_", "-")
            if dashed in options:
                raise StartupError(f"Conflict between '{key}' and '{dashed}'")
            result[dashed] = value
    return result
