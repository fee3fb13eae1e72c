"""Help texts: those recorded, those made from recorded properties, and our own for `-help`.

See system/vl.c: help() and machine_help_func(); system/qdev-monitor.c: qdev_print_devinfos() and
qdev_device_help().
"""

from __future__ import annotations

import json
import textwrap
from typing import Any

from fakeqemu.profile import Profile

_WIDTH = 24


def program_help(profile: Profile, program: str) -> str:
    """`-help`: our own words around the option names of the version."""
    names = [
        f"-{option.name}{' ARG' if option.takes_argument else ''}"
        for option in profile.command_line_options
    ]
    listed = textwrap.fill(", ".join(names), 78, initial_indent="  ", subsequent_indent="  ",
                           break_on_hyphens=False, break_long_words=False)
    return (
        f"{profile.help('-version')}"
        f"usage: {program} [options] [disk_image]\n\n"
        "This is fakeqemu, a QEMU without the guest. It takes these options of that version:\n\n"
        f"{listed}\n"
    )


def version(profile: Profile) -> str:
    """`-version`."""
    return profile.help("-version")


def machine_help(profile: Profile, name: Any) -> str:
    """`-machine help`, or the properties of the machine type chosen so far."""
    try:
        machine = profile.machine(name) if isinstance(name, str) else None
    except KeyError:
        machine = None
    if machine is None:
        return profile.help("-machine help")
    if machine.options:
        return "\n".join([f"{machine.typename} options:", *machine.options]) + "\n"
    hidden = ("type",)
    properties = [
        p for p in profile.machine_properties(machine)
        if p["name"] not in hidden and not p["type"].startswith("child<")
    ]
    return property_help(machine.typename, properties)


def accel_help(profile: Profile) -> str:
    """`-accel help`."""
    return profile.help("-accel help")


def property_help(
    title: str, properties: list[dict[str, Any]], *, json_defaults: bool = False
) -> str:
    """The properties of a type, one a line; `json_defaults`: default values as JSON."""
    if not properties:
        return f"There are no options for {title}.\n"
    lines = sorted(_property_line(each, json_defaults) for each in properties)
    return "\n".join([f"{title} options:", *lines]) + "\n"


def _property_line(entry: dict[str, Any], json_defaults: bool) -> str:
    line = f"  {entry['name']}=<{entry['type']}>"
    if "description" in entry or "default-value" in entry:
        line = f"{line:<{_WIDTH}} - {entry.get('description', '')}"
    if "default-value" in entry:
        default = entry["default-value"]
        if json_defaults:
            text = json.dumps(default)
        else:
            text = ("on" if default else "off") if isinstance(default, bool) else str(default)
        line += f" (default: {text})"
    return line


#: types of keys in introspection -> as help shows them
_KEY_TYPES = {"string": "str", "boolean": "bool (on/off)", "number": "num", "size": "size"}


def group_help(name: str, profile: Profile) -> str:
    """The keys of an option group, one a line."""
    group = next(each for each in profile.option_groups if each["option"] == name)
    lines = sorted(f"  {key['name']}=<{_KEY_TYPES[key['type']]}>" for key in group["parameters"])
    return "\n".join([f"{name} options:", *lines]) + "\n"
