"""Property values by the type names that qom-list shows: checked, converted, with QEMU's texts.

A property's type is a QAPI scalar (`uint32`), an enumeration (`OnOffAuto`), `str`, a struct,
or `link<TYPE>`. Values come as JSON or, from an option string, all as text.

See qom/object.c: object_property_parse(); qom/qom-qobject.c: object_property_set_qobject();
qapi/qapi-visit-core.c: visit_type_enum().
"""

from __future__ import annotations

import re
from typing import Any

from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.readers.keyval import KeyvalScalars
from fakeqemu.qapi.readers.scalars import SizeTraits, parse_int64, parse_size, parse_uint64
from fakeqemu.qapi.schema import BuiltinType, EnumType, Schema, Type
from fakeqemu.qapi.visitor import JsonScalars, Path, Scalars, Visitor, check_range

#: the values of an enumeration, as descriptions end: `Floppy drive type (144/288/120/none/auto)`
_LISTED = re.compile(r"(?:^|[ (])([\w.-]+(?:/[\w.-]+)+)\)?\Z")
#: enumerations that neither the schema nor a description shows; see qapi/misc.json (7.2)
_UNLISTED = {"LostTickPolicy": ("discard", "delay", "slew")}
#: what has no setter wherever it is; see hw/pci/pci.c: prop_pci_busnr, hw/virtio/virtio-balloon.c
_READ_ONLY = ("busnr", "guest statistics", "X86CPUFeatureWordInfo")
#: the one USB device attached by a property; see hw/usb/bus.c: usb_device_instance_init()
_ATTACHED, _SETTABLE = "attached", "usb-bot"
_JSON_TYPES = {"bool": "boolean", "str": "string", "number": "number"}
_INTEGERS = frozenset(
    f"{sign}int{width}" for sign in ("", "u") for width in (8, 16, 32, 64)
) | {"int", "size"}
#: structs and lists of them that only machines have, and no command of the schema
_KINDS = {
    "SMPConfiguration": "object", "MemorySizeConfiguration": "object",
    "BootConfiguration": "object", "list": "array", "SgxEPC": "array",
    "SmpCachePropertiesWrapper": "array", "CXLFixedMemoryWindow": "array",
}  # fmt: skip
_ALIASES = {
    "QemuUUID": "str",
    "string": "str",
    "uint64_t": "uint64",
    "uint32_t": "uint32",
    "int32_t": "int32",
    "double": "number",
}


def type_of(schema: Schema, shape: str, description: str = "") -> Type | None:
    """The QAPI type that a property type name stands for; None if it is none we know.

    `description` may end with the values of an enumeration that the schema lacks: `on/off/auto`.
    """
    name = _ALIASES.get(shape, shape)
    if name in _INTEGERS:
        return BuiltinType(name, "int")
    if name in _JSON_TYPES:
        return BuiltinType(name, _JSON_TYPES[name])
    if name.startswith("link<"):
        return BuiltinType("str", "string")
    try:
        return schema.named(name)
    except KeyError:
        pass
    listed = _LISTED.search(description)
    values = tuple(listed[1].split("/")) if listed else _UNLISTED.get(name)
    return EnumType(name, values, {}) if values else None


def is_read_only(type: str, name: str, shape: str) -> bool:
    """Whether no device of that type can be given property `name`, of type `shape`."""
    attached = name == _ATTACHED and type.startswith("usb-") and type != _SETTABLE
    return attached or shape in _READ_ONLY or shape.startswith("child<")


def from_string(
    schema: Schema, shape: str, text: str, name: str, traits: SizeTraits, *, description: str = ""
) -> Any:
    """`text` for a property, as -global and the human monitor's qom-set read it.

    That is another reader than the one for options: its words for numbers differ.
    Raises QapiError.
    """
    type = type_of(schema, shape, description)
    if isinstance(type, BuiltinType) and type.name in _INTEGERS:
        what = "a size" if type.name == "size" else "an int64 value or range"
        try:
            if type.name == "size":
                return parse_size(text, traits)
            if type.name.startswith("u"):
                what = "uint64"
                return check_range(type.name, parse_uint64(text), Path(None, name))
            return check_range(type.name, parse_int64(text), Path(None, name))
        except ValueError:
            raise QapiError(texts.parameter_expects(name, what)) from None
    return convert(schema, shape, text, name, text=traits, description=description)


def convert(
    schema: Schema,
    shape: str,
    value: Any,
    name: str,
    *,
    text: SizeTraits | None = None,
    description: str = "",
) -> Any:
    """`value` for property `name` of type `shape`; `text`: it came as key=value
    text, which the version with these traits reads.

    Raises QapiError.
    """
    type = type_of(schema, shape, description)
    kind = _KINDS.get(shape)
    if kind is not None and not isinstance(value, list if kind == "array" else dict):
        raise QapiError(texts.invalid_parameter_type(name, kind))
    if type is None:
        raise NotModelledError(f"property type {shape}")
    scalars: Scalars = JsonScalars() if text is None else KeyvalScalars(text)
    return Visitor(scalars).visit(type, value, Path(None, name))
