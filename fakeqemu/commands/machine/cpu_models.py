"""CPU models as the profile knows them, and their expansion.

The recorded expansions are those of the software emulator on `-machine none`; properties
asked for are checked against the model's QOM type and laid over the recorded ones. What one
feature implies for another is not computed.

See target/i386/cpu-system.c: qmp_query_cpu_model_expansion(); target/i386/cpu.c:
qmp_query_cpu_definitions().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.registry import command
from fakeqemu.model.machine import Machine
from fakeqemu.profile import store
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.schema import INTEGER_RANGES

Json = dict[str, Any]

#: QOM's names of types -> what the texts say is expected, and how Python knows it
_KINDS: dict[str, tuple[str, type]] = {
    "bool": ("boolean", bool),
    "str": ("string", str),
    "string": ("string", str),
}

#: types of properties that are only read
_READ_ONLY = frozenset({"X86CPUFeatureWordInfo", "GuestPanicInformation", "strList"})

#: what fits into the CPUID fields of the signature
_SIGNATURE = {"family": 270, "model": 255, "stepping": 15}

#: characters of a CPUID vendor
_VENDOR_LENGTH = 12
#: properties from which others follow
_LINKED = ("sve", "sme", "pauth", "aarch64")
#: targets whose models do not follow from each other's properties
_X86 = ("x86_64", "i386")


@command("query-cpu-definitions")
def query_cpu_definitions(vm: Machine) -> list[Json]:
    """Every CPU model."""
    definitions = vm.profile.cpu_definitions
    return vm.profile.replies.once(lambda: definitions, "query-cpu-definitions")


@command("query-cpu-model-expansion")
def query_cpu_model_expansion(vm: Machine, type: str, model: Json) -> Json:
    """The model and all its properties, in the static or the full form."""
    name = model["name"]
    definition = next((d for d in vm.profile.cpu_definitions if d["name"] == name), None)
    if definition is None:
        raise QapiError(_unknown(vm, name))
    reply = vm.profile.cpu_model_expansion(name, type)
    if "error" in reply:
        raise QapiError(reply["error"]["desc"])
    asked = model.get("props", {})
    if not isinstance(asked, dict):
        if vm.profile.traits.cpu_props_checked_as_argument:
            raise QapiError(texts.invalid_parameter_type("model.props", "object"))
        asked = {}
    expanded = reply["return"]["model"]
    if "props" not in expanded:
        # a model of which nothing can be asked
        plain: Json = reply["return"]
        return plain
    if not vm.profile.target.startswith(_X86):
        _check_elsewhere(expanded["props"], asked)
    for prop, value in asked.items():
        _check(vm, definition["typename"], prop, value)
    spelled = {_spelling(k): v for k, v in asked.items()}
    props = {k: spelled.get(_spelling(k), v) for k, v in expanded["props"].items()}
    return {**reply["return"], "model": {**expanded, "props": props}}


def _check_elsewhere(known: Json, asked: Json) -> None:
    """Properties of a model that is no x86. Raises QapiError.

    What follows from vector lengths and the like is not worked out: changing them is refused.
    See target/arm/arm-qmp-cmds.c: qmp_query_cpu_model_expansion().
    """
    for prop, value in asked.items():
        if prop not in known:
            raise QapiError(texts.unexpected_parameter(f"model.props.{prop}"))
        if value != known[prop] and isinstance(value, bool) and prop.startswith(_LINKED):
            raise NotModelledError("query-cpu-model-expansion with properties")


def _unknown(vm: Machine, name: str) -> str:
    """What is said of a model that there is not; recorded of other targets than x86."""
    try:
        reply = vm.profile.cpu_model_expansion("full", "unknown")
    except KeyError:
        return f"CPU model '{name}' not found"
    text: str = reply["error"]["desc"]
    return text.replace(store.UNKNOWN_MODEL, name)


def _spelling(name: str) -> str:
    """Features have aliases that differ in punctuation only: sse4_1, sse4.1, sse4-1."""
    return name.replace("_", "-").replace(".", "-")


def _check(vm: Machine, typename: str, name: str, value: Any) -> None:
    """Whether property `name` of a CPU takes `value`. Raises QapiError."""
    kind = next(
        (p["type"] for p in vm.profile.qom_properties(typename) if p["name"] == name), None
    )
    if kind is None:
        raise QapiError(f"Property '{typename}.{name}' not found")
    if kind in _READ_ONLY or name == "type":
        raise QapiError(f"Property '{typename}.{name}' is not writable")
    newer = vm.profile.traits.cpu_props_checked_as_argument
    path = f"model.props.{name}" if newer else name
    if kind in INTEGER_RANGES:
        if isinstance(value, bool) or not isinstance(value, int):
            if kind.startswith("u") or (newer and name in _SIGNATURE):
                raise QapiError(texts.parameter_expects(path, "uint64"))
            raise QapiError(texts.invalid_parameter_type(path, "integer"))
        _check_range(name, kind, value, newer)
    elif kind in _KINDS and not isinstance(value, _KINDS[kind][1]):
        raise QapiError(texts.invalid_parameter_type(path, _KINDS[kind][0]))
    elif name == "vendor" and len(value) != _VENDOR_LENGTH:
        if newer:
            raise QapiError(
                f"value of property 'vendor' must consist of exactly {_VENDOR_LENGTH} characters"
            )
        raise QapiError(f"Property '.vendor' doesn't take value '{value}'")


def _check_range(name: str, kind: str, value: int, newer: bool) -> None:
    if name in _SIGNATURE:
        highest = _SIGNATURE[name]
        if 0 <= value <= highest:
            return
        if newer:
            raise QapiError(f"parameter '{name}' can be at most {highest}")
        raise QapiError(
            f"Property .{name} doesn't take value {value} (minimum: 0, maximum: {highest})"
        )
    low, high = INTEGER_RANGES[kind]
    if not low <= value <= high and kind not in ("uint64", "int"):
        raise QapiError(texts.parameter_expects(name, f"{kind}_t"))
