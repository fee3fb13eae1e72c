"""-acpitable and -smbios: tables that a board hands to firmware, judged while options are parsed.

ACPI tables can be read by the guest as the fw_cfg item that holds them; SMBIOS tables, which a
board builds around what is given, are not built.

See hw/acpi/core.c: acpi_table_add(); hw/smbios/smbios.c: smbios_entry_add().
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING
from uuid import UUID

from fakeqemu.configuration import OptionString
from fakeqemu.dataclass import replace
from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.qapi.readers.qemu_opts import check_typed
from fakeqemu.qapi.readers.scalars import parse_uint64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fakeqemu.boot.cmdline.commandline import CommandLine
    from fakeqemu.model.machine import Machine

#: signature, length, revision, checksum, OEM id, OEM table id, OEM revision, compiler, its version
_HEADER = struct.Struct("<4sIBB6s8sI4sI")
_LARGEST_TABLE = 65535
#: what a table without any header is given; see hw/acpi/core.c: acpi_table_install()
_DEFAULTS = (b"QEMU", 0, 1, 0, b"QEMUQE", b"QEMUQEMU", 1, b"QEMU", 1)
_NUMBERS = {"rev": "uint8", "oem_rev": "uint32", "asl_compiler_rev": "uint32"}
_LARGEST = {"uint8": 0xFF, "uint32": 0xFFFFFFFF}


def acpi_blob(tables: Sequence[bytes]) -> bytes:
    """Tables as fw_cfg holds them: their number, and each after its length.

    See hw/acpi/core.c: acpi_table_install().
    """
    parts = b"".join(struct.pack("<H", len(table)) + table for table in tables)
    return struct.pack("<H", len(tables)) + parts if tables else b""


def acpi_table(line: CommandLine, entry: OptionString) -> bytes:
    """What one -acpitable gives. Raises StartupError. See hw/acpi/core.c: acpi_table_add()."""
    values = entry.values
    given = {key: _header_field(entry, key, text) for key, text in values.items()}
    whole = "file" in values
    names = [name for name in (values.get("file") or values.get("data", "")).split(":") if name]
    if not names:
        raise StartupError("'-acpitable' requires at least one pathname", location=entry.location)
    content = b"".join(_read(line, name, entry) for name in names)
    if whole and len(content) < _HEADER.size:
        raise StartupError(
            "ACPI table claiming to have header is too short, available: "
            f"{len(content)}, expected: {_HEADER.size}",
            location=entry.location,
        )
    body = content[_HEADER.size :] if whole else content
    if len(body) + _HEADER.size > _LARGEST_TABLE:
        raise StartupError(
            f"ACPI table too big, requested: {len(body) + _HEADER.size}, max: {_LARGEST_TABLE}",
            location=entry.location,
        )
    header = list(_HEADER.unpack_from(content) if whole else _DEFAULTS)
    size = _HEADER.size + len(body)
    changed = False
    for index, key in _FIELDS:
        if given.get(key) is not None:
            header[index] = given[key]
            changed = True
    if whole and header[1] != size:
        line.messages.warn(
            f"ACPI table has wrong length, header says {header[1]}, actual size {size} bytes",
            entry.location,
        )
    elif not whole and not changed:
        line.messages.warn("ACPI table: no headers are specified", entry.location)
    header[1], header[3] = size, 0
    table = bytearray(_HEADER.pack(*header) + body)
    table[9] = -sum(table) & 0xFF
    return bytes(table)


#: place in the header -> key of the option
_FIELDS = (
    (0, "sig"), (2, "rev"), (4, "oem_id"), (5, "oem_table_id"), (6, "oem_rev"),
    (7, "asl_compiler_id"), (8, "asl_compiler_rev"),
)  # fmt: skip


def _header_field(entry: OptionString, key: str, text: str) -> bytes | int:
    kind = _NUMBERS.get(key)
    if kind is None:
        return text.encode()
    try:
        number = parse_uint64(text)
    except ValueError:
        raise StartupError(f"Parameter '{key}' expects a uint64 value",
                           location=entry.location) from None
    if not 0 <= number <= _LARGEST[kind]:
        raise StartupError(f"Parameter '{key}' expects {kind}_t", location=entry.location)
    return number


def _read(line: CommandLine, name: str, entry: OptionString) -> bytes:
    try:
        return line.files.read_bytes(name)
    except IsADirectoryError as error:
        raise StartupError(f"can't read file {name}: {error.strerror}",
                           location=entry.location) from None
    except OSError as error:
        text = line.profile.traits.acpi_file_text.format(name, error.strerror)
        raise StartupError(text, location=entry.location) from None


# -- SMBIOS ----------------------------------------------------------------------------------

_TEXT, _NUMBER, _SWITCH = "string", "number", "boolean"
#: type of a structure -> key -> what it takes; see hw/smbios/smbios.c: qemu_smbios_type0_opts
_SMBIOS: dict[int, dict[str, str]] = {
    0: {"vendor": _TEXT, "version": _TEXT, "date": _TEXT, "release": _TEXT, "uefi": _SWITCH},
    1: dict.fromkeys(
        ("manufacturer", "product", "version", "serial", "uuid", "sku", "family"), _TEXT
    ),
    2: dict.fromkeys(
        ("manufacturer", "product", "version", "serial", "asset", "location"), _TEXT
    ),
    3: dict.fromkeys(("manufacturer", "version", "serial", "asset", "sku"), _TEXT),
    4: {
        **dict.fromkeys(
            ("sock_pfx", "manufacturer", "version", "serial", "asset", "part"), _TEXT
        ),
        **dict.fromkeys(
            ("max-speed", "current-speed", "processor-id", "processor-family"), _NUMBER
        ),
    },
    8: {
        "internal_reference": _TEXT, "external_reference": _TEXT,
        "connector_type": _NUMBER, "port_type": _NUMBER,
    },
    11: {"value": _TEXT, "path": _TEXT},
    17: {
        **dict.fromkeys(("loc_pfx", "bank", "manufacturer", "serial", "asset", "part"), _TEXT),
        "speed": _NUMBER,
    },
    9: {
        **dict.fromkeys(
            ("slot_designation", "internal_reference", "external_reference"), _TEXT
        ),
        **dict.fromkeys(
            ("connector_type", "port_type", "slot_type", "slot_data_bus_width",
             "current_usage", "slot_length", "slot_id", "slot_characteristics1",
             "slot_characteristics2"), _NUMBER
        ),
    },
    41: {"designation": _TEXT, "kind": _TEXT, "instance": _NUMBER, "pcidev": _TEXT},
}  # fmt: skip
#: what only versions with slots have
_SLOTS, _FAMILY = 9, "processor-family"
_STRUCTURE_HEADER = 4
_LARGEST_TYPE = 127
#: what is soldered on; see hw/smbios/smbios.c: type41_kind_lookup
_KINDS = (
    "other", "unknown", "video", "scsi", "ethernet", "tokenring", "sound", "pata", "sata", "sas",
)
_LARGEST_SPEED = 65535
#: as sscanf() reads it; what stands behind is left alone
_RELEASE = re.compile(r"\s*[+-]?\d+\.\s*[+-]?\d+")


def add_smbios(line: CommandLine, entry: OptionString) -> None:
    """One -smbios. Raises StartupError. See hw/smbios/smbios.c: smbios_entry_add()."""
    values = entry.values
    if "file" in values:
        path = values["file"]
        for key in values:
            if key != "file":
                raise StartupError(f"Invalid parameter '{key}'", location=entry.location)
        try:
            content = line.files.read_bytes(path)
        except OSError:
            content = b""
        if len(content) < _STRUCTURE_HEADER:
            raise StartupError(f"Cannot read SMBIOS file {path}", location=entry.location)
        kept = {**values, "type": str(content[0]), "length": str(len(content))}
        _keep(line, replace(entry, values=kept))
        return
    number = parse_uint64(values["type"])
    if number > _LARGEST_TYPE:
        raise StartupError("out of range!", location=entry.location)
    _keep(line, entry)
    traits = line.profile.traits
    keys = _SMBIOS.get(number)
    if keys is None or (number == _SLOTS and not traits.smbios_slots):
        raise StartupError(f"Don't know how to build fields for SMBIOS type {number}",
                           location=entry.location)
    for key, text in entry.pairs:
        if key == "type":
            continue
        kind = keys.get(key)
        if kind is None or (key == _FAMILY and not traits.smbios_slots):
            raise StartupError(f"Invalid parameter '{key}'", location=entry.location)
        try:
            check_typed(key, kind, text, traits)
        except QapiError as error:
            raise StartupError(error.desc, location=entry.location, hint=error.hint) from None
    _check_values(line, entry, number)


def _keep(line: CommandLine, entry: OptionString) -> None:
    """A structure has its fields either from options or from files. Raises StartupError."""
    number, of_file = int(entry.values["type"]), "file" in entry.values
    known = line.configuration.smbios
    if number <= _LARGEST_TYPE and any(
        int(each.values["type"]) == number and ("file" in each.values) != of_file
        for each in known
    ):
        text = (
            f"can't load type {number} struct, fields already specified!"
            if of_file
            else "can't add fields, binary file already loaded!"
        )
        raise StartupError(text, location=entry.location)
    known.append(entry)


def check_smbios(vm: Machine) -> None:
    """Raise StartupError for what a board cannot build tables of.

    Newer versions do without tables where a device is missing. See hw/smbios/smbios.c:
    smbios_build_type_41_table(); hw/smbios/smbios_legacy.c: smbios_get_table_legacy().
    """
    if not vm.state.is_a("generic-pc-machine"):
        return
    has_pci = any(
        child.type.endswith("-pcihost")
        for child in vm.qom.container("/machine").children.values()
    )
    if not has_pci and not vm.profile.traits.smbios_device_missed:
        fields = (int(each.values["type"]) for each in vm.configuration.smbios
                  if "file" not in each.values)
        if any(number > 1 for number in fields):
            raise StartupError(
                "can't process fields for smbios types > 1 on machine versions < 2.1!"
            )
    if vm.configuration.smbios and (has_pci or vm.profile.traits.smbios_device_missed):
        from fakeqemu.boot.checks.smbios_length import check_length

        check_length(vm, only_files=not has_pci)
    if not has_pci or not vm.profile.traits.smbios_device_missed:
        return
    for entry in vm.configuration.smbios:
        id = entry.values.get("pcidev")
        device = vm.qom.container("/machine/peripheral").child(id) if id else None
        if id and (device is None or not vm.profile.is_a(device.type, "pci-device")):
            designation = entry.values.get("designation", "(null)")
            raise StartupError(f"No PCI device {id} for SMBIOS type 41 entry {designation}")


def _check_values(line: CommandLine, entry: OptionString, number: int) -> None:
    values = entry.values
    if number == 0 and "release" in values and not _RELEASE.match(values["release"]):
        raise StartupError("Invalid release", location=entry.location)
    if number == 1 and "uuid" in values:
        try:
            UUID(values["uuid"])
        except ValueError:
            raise StartupError("Invalid UUID", location=entry.location) from None
    if number == 4 and any(
        parse_uint64(values.get(key, "0")) > _LARGEST_SPEED
        for key in ("max-speed", "current-speed")
    ):
        raise StartupError(f"SMBIOS CPU speed is too large (> {_LARGEST_SPEED})",
                           location=entry.location)
    if number == 41 and values.get("kind", _KINDS[0]) not in _KINDS:
        raise StartupError(
            f"invalid parameter value: {values['kind']}", location=entry.location
        )
    if number == 11:
        for key, path in entry.pairs:
            why = line.files.open_error(path) if key == "path" else None
            if why is not None:
                raise StartupError(f"Could not open '{path}': {why}", location=entry.location)
