"""What the boot steps ask about the command line, each at its own moment.

Every function here judges one thing that QEMU judges after its options are read, so that the
table of steps decides which of two faults is reported. They read the configuration and the
profile, and give back what the step needs to know.

See system/vl.c: qemu_validate_options(), parse_memory_options(), select_machine() and
configure_accelerators(); cpu-target.c: parse_cpu_option(); hw/core/qdev-properties.c:
qdev_prop_check_globals().
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from fakeqemu.boot.checks import backends as backendchecks
from fakeqemu.boot.error_report import Messages
from fakeqemu.configuration import Configuration, GlobalProperty, OptionString
from fakeqemu.dataclass import dataclass, field
from fakeqemu.profile import Profile
from fakeqemu.profile.facts import MachineType
from fakeqemu.profile.store import MissingPartError
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.qapi.readers.keyval import merge
from fakeqemu.qapi.readers.opts_visitor import visit_options
from fakeqemu.qapi.readers.qemu_opts import parse_size
from fakeqemu.qapi.readers.scalars import parse_int64, parse_switch, parse_uint64
from fakeqemu.qapi.schema import ObjectType

if TYPE_CHECKING:
    from fakeqemu.model.host import Host

MIB = 1 << 20
#: bytes for translated code: as many as are not asked for, and the most
_CODE_BUFFER, _LARGEST_CODE_BUFFER = 1 << 30, 1 << 31

_DATE = r"\s*[+-]?\d+-\s*[+-]?\d+-\s*[+-]?\d+(T\s*\d+:\s*\d+:\s*\d+)?"
_RTC_CLOCKS = ("host", "rt", "vm")
_DRIFT_FIXES = ("slew", "none")

#: what CPUID leaf 1 has room for
_LARGEST_VERSION = {"family": 0xFF + 0xF, "model": 0xFF, "stepping": 0xF}
#: characters of a vendor
_VENDOR = 12


# -- before the machine --------------------------------------------------------------------------


def check_clock(configuration: Configuration) -> None:
    """-rtc. Raises StartupError."""
    rtc = configuration.rtc
    base = rtc.get("base", "utc")
    if base not in ("utc", "localtime") and not re.match(_DATE, base):
        raise StartupError("invalid datetime format",
                           hint="valid formats: '2006-06-17T16:01:21' or '2006-06-17'")
    for key, accepted in (("clock", _RTC_CLOCKS), ("driftfix", _DRIFT_FIXES)):
        if key in rtc and rtc[key] not in accepted:
            raise StartupError(f"invalid option value '{rtc[key]}'")


def merge_memory(configuration: Configuration, profile: Profile) -> None:
    """Make -m part of the machine options. Raises StartupError."""
    entry = configuration.memory
    values = entry.values if entry is not None else {}
    memory: dict[str, str] = {}
    size = values.get("size", "")
    if size and parse_size("size", size, profile.traits):
        memory["size"] = f"{size}M" if size[-1].isdigit() else size
    if "maxmem" in values:
        memory["max-size"] = values["maxmem"]
    if "slots" in values:
        memory["slots"] = values["slots"]
    try:
        merge(configuration.machine_options, {"memory": memory})
    except QapiError as exc:
        location = entry.location if entry is not None else ""
        raise StartupError(exc.desc, location=location) from exc


def select_machine(configuration: Configuration, profile: Profile) -> MachineType:
    """The machine type asked for, or the default one. Raises StartupError."""
    hint = "Use -machine help to list supported machines"
    asked = configuration.machine_type
    if asked is None:
        if profile.default_machine is None:
            raise StartupError("No machine specified, and there is no default", hint=hint)
        return profile.default_machine
    try:
        return profile.machine(asked)
    except KeyError:
        named = f': "{asked}"' if profile.traits.unknown_machine_named else ""
        raise StartupError(f"unsupported machine type{named}", hint=hint) from None


# -- the accelerator -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accelerator:
    """The accelerator that was chosen."""

    name: str
    #: property -> text, as given
    properties: dict[str, str] = field(default_factory=dict)


def choose_accelerator(
    configuration: Configuration,
    profile: Profile,
    host: Host,
    messages: Messages,
    machine_accelerators: str | None = None,
) -> Accelerator:
    """The first accelerator that works, of -accel or of -machine accel=. Raises StartupError."""
    failed = False
    entries = configuration.accelerators
    if entries and machine_accelerators is not None:
        messages.fail('The -accel and "-machine accel=" options are incompatible')
    if not entries:
        default = ("kvm", "tcg") if configuration.program.endswith("kvm") else ("tcg", "kvm")
        there = ":".join(name for name in default if is_accelerator(name, profile))
        asked = there if machine_accelerators is None else machine_accelerators
        names = asked.split(":") if asked else []
        for name in names:
            if is_accelerator(name, profile):
                entries = [*entries, OptionString("accel", name, "", {"accel": name})]
            else:
                failed = True
                messages.report(f"invalid accelerator {name}")
    for entry in entries:
        problem = _accelerator_problem(entry, profile, host, messages)
        if problem is not None:
            failed = True
            messages.report(problem, entry.location)
            continue
        if failed:
            messages.report(f"falling back to {entry.values['accel']}")
        properties = {key: value for key, value in entry.values.items()
                      if key not in ("accel", "id")}
        return Accelerator(entry.values["accel"], properties)
    text = messages.lines.pop() if failed else "no accelerator found"
    raise messages.error(text)


#: what QEMU's own test programs run on: part of every source, though not of every package
TEST_ACCELERATOR = "qtest"


def is_accelerator(name: str, profile: Profile) -> bool:
    """Whether the version has an accelerator of that name.

    The one for tests is always there, as in a QEMU of one's own: QEMU's test programs start with
    it. Those that were recorded came without its module (docs/fidelity.md).
    """
    return name == TEST_ACCELERATOR or f"{name}-accel" in profile.qom_types


def _accelerator_problem(
    entry: OptionString, profile: Profile, host: Host, messages: Messages
) -> str | None:
    name = entry.values["accel"]
    if not is_accelerator(name, profile):
        return f"invalid accelerator {name}"
    try:
        check_properties(f"{name}-accel", entry, profile)
    except QapiError as exc:
        messages.fail_with(exc, entry.location)
    if name == "mshv":
        # no host here is a guest of Hyper-V
        messages.report("Failed to open /dev/mshv: No such file or directory", entry.location)
        return "failed to initialize mshv: Operation not permitted"
    if name == "nitro":
        # nor a host of enclaves
        messages.report("nitro: failed to open /dev/nitro_enclaves: No such file or directory",
                        entry.location)
        return "failed to initialize nitro: No such file or directory"
    if name == "tcg":
        _check_code_buffer(entry, host, messages)
    if name == "kvm" and not host.kvm_usable():
        messages.report("Could not access KVM kernel module: No such file or directory")
        return "failed to initialize kvm: No such file or directory"
    return None


def _check_code_buffer(entry: OptionString, host: Host, messages: Messages) -> None:
    """Whether the host has a file for code that is written and run at different addresses.

    See tcg/region.c: tcg_region_init() and alloc_code_gen_buffer_splitwx_memfd(). Raises
    StartupError.
    """
    if not parse_switch(entry.values.get("split-wx", "off")):
        return
    asked = parse_uint64(entry.values.get("tb-size", "0")) * MIB
    number = host.memory.shared_error(min(asked or _CODE_BUFFER, _LARGEST_CODE_BUFFER))
    if number:
        text = f"failed to allocate shared memory: {os.strerror(number)}"
        messages.fail(text, entry.location)


def check_properties(typename: str, entry: OptionString, profile: Profile) -> None:
    """Raise QapiError unless the QOM type has and takes the keys of `entry`."""
    from fakeqemu.qapi.readers.string_input import parse_string

    known = typename in profile.qom_types
    listed = profile.qom_properties(typename) if known else ()
    types = {p["name"]: p["type"] for p in listed}
    for key, text in entry.pairs:
        if key == "accel":
            continue
        if key not in types:
            raise QapiError(f"Property '{typename}.{key}' not found")
        enum = {"on|off|split": ("on", "off", "split")}.get(types[key], ())
        kind = _ACCEL_WIDTHS.get((typename, key), types[key])
        parse_string(kind, text, key, profile.traits, enum)
        if (typename, key) == _DIRTY_RING and parse_uint64(text).bit_count() > 1:
            raise QapiError("dirty-ring-size must be a power of two.")
        accepted = _ACCEL_STRINGS.get((typename, key))
        if accepted is not None and text not in accepted:
            raise QapiError(f"Invalid '{key}' setting {text}")


#: properties that QOM calls int and that are narrower
_ACCEL_WIDTHS = {("tcg-accel", "tb-size"): "uint32"}
#: see accel/kvm/kvm-all.c: kvm_set_dirty_ring_size()
_DIRTY_RING = ("kvm-accel", "dirty-ring-size")
#: strings of which only these are taken
_ACCEL_STRINGS = {("tcg-accel", "thread"): ("single", "multi")}


# -- CPUs ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CpuModel:
    """-cpu, taken apart."""

    #: QOM type of the CPUs
    type: str
    #: `name=value` features: as good as -global for the type
    globals: tuple[GlobalProperty, ...] = ()
    #: `+name`, applied to each CPU after the globals
    plus: tuple[str, ...] = ()
    #: `-name`, applied last
    minus: tuple[str, ...] = ()


def choose_cpu_model(
    configuration: Configuration, profile: Profile, machine: MachineType
) -> CpuModel | None:
    """The CPU model asked for, or the machine's own; None if it has none. Raises StartupError."""
    if configuration.cpu is None:
        return CpuModel(machine.default_cpu_type) if machine.default_cpu_type else None
    model, _, features = configuration.cpu.partition(",")
    if not configuration.cpu:
        raise StartupError("-cpu option cannot be empty")
    typename = _cpu_type(profile, model)
    if typename is None:
        raise StartupError(f"unable to find CPU model '{model}'")
    given: list[GlobalProperty] = []
    plus: list[str] = []
    minus: list[str] = []
    for feature in filter(None, features.split(",")):
        if feature[0] == "+":
            plus.append(feature[1:].replace("_", "-"))
        elif feature[0] == "-":
            minus.append(feature[1:].replace("_", "-"))
        else:
            name, equals, value = feature.partition("=")
            value = value if equals else "on"
            given.append(GlobalProperty(typename, name.replace("_", "-"), value))
    return CpuModel(typename, tuple(given), tuple(plus), tuple(minus))


#: what types of CPUs end with
_CPU_SUFFIX = re.compile(r"-\w+-cpu$")


def _cpu_type(profile: Profile, model: str) -> str | None:
    """The QOM type of a CPU model; None if there is none.

    Some targets know models by other names than their types have. See hw/core/cpu-common.c:
    cpu_class_by_name().
    """
    if profile.target == "ppc64":
        # see target/ppc/cpu_init.c: ppc_cpu_class_by_name()
        model = model.lower()
    known = [(d["name"], d["typename"]) for d in profile.cpu_definitions if d["typename"]]
    kind: str | None = next((typename for name, typename in known if name == model), None)
    if kind is None:
        suffixes = {found[0] for _, typename in known if (found := _CPU_SUFFIX.search(typename))}
        kind = next((t for s in sorted(suffixes) if (t := model + s) in profile.qom_types), None)
    if kind is None or kind not in profile.qom_types or profile.qom_types[kind].abstract:
        return None
    return kind


def check_cpu_features(
    model: CpuModel, accelerator: str, profile: Profile
) -> dict[str, Any]:
    """The features as typed property values, as the first CPU takes them. Raises QapiError."""
    from fakeqemu.qapi.readers.string_input import parse_string

    types = {p["name"]: p["type"] for p in profile.device_properties(model.type)}
    values: dict[str, Any] = {}
    for each in model.globals:
        name = each.property
        prefix = f"can't apply global {model.type}.{name}={each.value}: "
        if name not in types:
            raise QapiError(f"{prefix}Property '{model.type}.{name}' not found")
        try:
            _check_version(name, each.value, profile)
            values[name] = parse_string(types[name], each.value, name, profile.traits)
        except QapiError as exc:
            raise exc.prefixed(prefix) from None
    if model.type.startswith("host-") and accelerator not in ("kvm", "hvf"):
        raise QapiError("CPU model 'host' requires KVM or HVF")
    for name, value in [(n, True) for n in model.plus] + [(n, False) for n in model.minus]:
        if name not in types:
            raise QapiError(f"Property '{model.type}.{name}' not found")
        values[name] = value
    return values


def _check_version(name: str, value: str, profile: Profile) -> None:
    """Raise QapiError for what CPUID cannot say of a CPU.

    See target/i386/cpu.c: x86_cpuid_version_set_family() and x86_cpuid_set_vendor().
    """
    largest = _LARGEST_VERSION.get(name)
    if largest is not None:
        try:
            number = parse_int64(value)
        except ValueError:
            expected = profile.traits.cpu_version_type
            raise QapiError(texts.parameter_expects(name, expected)) from None
        if not 0 <= number <= largest:
            raise QapiError(profile.traits.cpu_version_text.format(name, number, largest))
    if name == "vendor" and len(value.encode()) != _VENDOR:
        raise QapiError(profile.traits.cpu_vendor_text.format(value))


#: beside the other judges of arguments, for the steps
netdev_arguments = backendchecks.netdev_arguments


# -- NUMA ----------------------------------------------------------------------------------------


def numa_arguments(
    entry: OptionString, profile: Profile, machine: MachineType | None = None
) -> dict[str, Any]:
    """A -numa as set-numa-node's arguments. Raises StartupError."""
    arguments = _blaming(entry, profile.schema.commands["set-numa-node"].arg_type, profile)
    if arguments.get("type") == "node" and "mem" in arguments:
        text = entry.values["mem"]
        if text[-1:].isdigit() and not text.lower().startswith("0x"):
            arguments["mem"] *= MIB
    if machine is not None and machine.default_cpu_type is None:
        raise StartupError("NUMA is not supported by this machine-type",
                           location=entry.location)
    return arguments


def _blaming(entry: OptionString, type: ObjectType, profile: Profile) -> dict[str, Any]:
    try:
        return visit_options(entry.pairs, entry.id, type, profile.traits, "-numa")
    except QapiError as exc:
        raise StartupError(exc.desc, location=entry.location, hint=exc.hint) from exc


# -- the end -------------------------------------------------------------------------------------


def unused_globals(
    configuration: Configuration, profile: Profile, used: Collection[GlobalProperty]
) -> list[str]:
    """Warnings about -global properties that are for nothing.

    Of types that can be hot-plugged none is said to be unused: a device may still come. Where it
    was not recorded which these are, that is what it warns of.
    """
    warnings: list[str] = []
    for each in configuration.globals:
        what = f"global {each.driver}.{each.property}"
        if not profile.is_a(each.driver, "device"):
            warnings.append(f"{what} has invalid class name")
        elif each not in used:
            try:
                fixed = each.driver in profile.part("fixed-types")
            except MissingPartError as error:
                return [*warnings, error.desc]
            if fixed:
                warnings.append(f"{what}={each.value} not used")
    return warnings
