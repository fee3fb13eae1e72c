"""The description that ends a precopy stream: what each section was made of, as JSON.

It is the only way to tell the sizes of device sections afterwards, so the reader checks with
it whether it found their ends, and splits a stream without footers by it.

See migration/vmstate.c: vmsd_desc_field_start(); migration/savevm.c:
qemu_savevm_state_complete_precopy_non_iterable().
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fakeqemu.formats.migration_stream.constants import PAGE_SIZE
from fakeqemu.formats.migration_stream.vmstate.vmstate_fields import VmState, VmStateField

#: nesting believed in a description
_DEPTH_LIMIT = 32


def parse(data: bytes) -> dict[str, Any] | None:
    """The description as JSON; None if it is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def sizes(description: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Name, instance and size in bytes of each device section described, in order."""
    devices = description.get("devices")
    found = []
    for device in devices if isinstance(devices, list) else []:
        if not isinstance(device, dict):
            continue
        name, instance = device.get("name"), device.get("instance_id")
        if isinstance(name, str) and isinstance(instance, int):
            found.append((name, instance & 0xFFFF_FFFF, _size(device, 0)))
    return found


def _size(described: dict[str, Any], depth: int) -> int:
    """Bytes of what has `fields` and `subsections`."""
    total = 0
    for field in _objects(described, "fields"):
        size, count = field.get("size", 0), field.get("array_len", 1)
        if isinstance(size, int) and isinstance(count, int):
            total += size * count
    for section in _objects(described, "subsections"):
        name = section.get("vmsd_name", "")
        if depth < _DEPTH_LIMIT:
            total += 2 + len(str(name).encode()) + 4 + _size(section, depth + 1)
    return total


def _objects(described: dict[str, Any], member: str) -> list[dict[str, Any]]:
    value = described.get(member)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _fields(fields: Iterable[VmStateField]) -> list[dict[str, Any]]:
    return [{"name": field.name, "type": field.type, "size": field.size} for field in fields]


def describe_section(layout: VmState, instance_id: int) -> dict[str, Any]:
    """The entry of `devices` for one section."""
    entry: dict[str, Any] = {"name": layout.name, "instance_id": instance_id}
    if layout.old_style:
        data = {"name": "data", "size": layout.size, "type": "buffer"}
        return {**entry, "size": layout.size, "fields": [data]}
    return {
        **entry,
        "vmsd_name": layout.name,
        "version": layout.version_id,
        "fields": _fields(layout.fields),
    }


def describe_configuration(
    machine: str, capabilities: tuple[str, ...] = (), uuid: bool = False
) -> dict[str, Any]:
    """The member `configuration` of the description."""
    value: dict[str, Any] = {
        "vmsd_name": "configuration",
        "version": 1,
        "fields": _fields(
            (
                VmStateField("len", "uint32", 4),
                VmStateField("name", "buffer", len(machine.encode())),
            )
        ),
    }
    subsections: list[dict[str, Any]] = []
    if capabilities:
        entries: list[dict[str, Any]] = [{"name": "caps_count", "type": "uint32", "size": 4}]
        for index, name in enumerate(capabilities):
            place = {"array_len": len(capabilities)} if len(capabilities) > 1 else {}
            if index == 0 or not place:
                entries.append(
                    {"name": "capabilities", **place, "type": "capability", "size": 1 + len(name)}
                )
        subsections.append(
            {"vmsd_name": "configuration/capabilities", "version": 1, "fields": entries}
        )
    if uuid:
        data = {"name": "uuid.data", "array_len": 16, "type": "uint8", "size": 1}
        subsections.append({"vmsd_name": "configuration/uuid", "version": 1, "fields": [data]})
    if subsections:
        value["subsections"] = subsections
    return value


def encode(devices: list[dict[str, Any]], configuration: dict[str, Any] | None) -> bytes:
    """The whole description as QEMU writes it."""
    value: dict[str, Any] = {} if configuration is None else {"configuration": configuration}
    value |= {"page_size": PAGE_SIZE, "devices": devices}
    return json.dumps(value).encode()
