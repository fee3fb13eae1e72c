"""Option strings of the older kind: `value,key=value,flag`, kept in groups.

The rules are QEMU's, oddities included: the first value may stand for an implied key,
a key without value is a flag (deprecated, and `no` before it means off), a doubled comma is a
comma, `id` names the whole string. A group either knows its keys and their types, or takes
any and is judged later. What keys a group has comes from the profile; how the command line
uses a group (`USES`) does not vary.

See util/qemu-config.c: qemu_find_opts(); util/qemu-option.c: qemu_opts_parse_noisily() and
qemu_opts_validate().
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fakeqemu.boot.error_report import EarlyExit, Messages
from fakeqemu.configuration import OptionString
from fakeqemu.dataclass import dataclass, field
from fakeqemu.profile import Profile
from fakeqemu.qapi import reads
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.qemu_opts import (
    check_identifier,
    check_typed,
    find_id,
    split_first,
)
from fakeqemu.qapi.readers.scalars import hex_suffix_warning

_TYPE_NAMES = {"string": "str", "boolean": "bool (on/off)", "number": "num", "size": "size"}


@dataclass(frozen=True, slots=True)
class Use:
    """How the command line uses a group."""

    #: the key that a first value without one stands for
    implied: str | None = None
    #: whether repeated options add up to one
    merge: bool = False
    #: whether any key is taken, although introspection lists some
    any_key: bool = False


#: groups that are used in another way than the default of `Use`
USES = {
    "accel": Use("accel"),
    "acpi": Use("data"),
    "action": Use(merge=True),
    "boot-opts": Use("order", merge=True),
    "chardev": Use("backend"),
    "device": Use("driver"),
    "drive": Use(any_key=True),
    "fsdev": Use("fsdriver"),
    "fw_cfg": Use("name"),
    "icount": Use("shift", merge=True),
    "memory": Use("size", merge=True),
    "mon": Use("chardev"),
    "name": Use("guest", merge=True),
    "net": Use("type"),
    "netdev": Use("type"),
    "nic": Use("type"),
    "numa": Use("type"),
    "object": Use("qom-type"),
    "option-rom": Use("romfile"),
    "plugin": Use("file"),
    "rtc": Use(merge=True),
    "sandbox": Use("enable"),
    "smp-opts": Use("cpus", merge=True),
    "spice": Use(merge=True),
    "tpmdev": Use("type"),
    "trace": Use("enable"),
    "virtfs": Use("fsdriver"),
    "vnc": Use("vnc"),
}


#: groups whose options a visitor reads; it names their members
_TYPED = frozenset({"action", "device", "object", "netdev", "net", "nic", "numa"})


@dataclass(slots=True)
class Group:
    """One option group of a version and what has been put into it."""

    name: str
    use: Use
    #: key -> "string", "boolean", "number" or "size"; None: any key, always a string
    types: dict[str, str] | None
    #: key -> help text, for those that have one
    help: dict[str, str] = field(default_factory=dict)
    #: what has been given, in order; one entry at most when the group merges
    given: list[OptionString] = field(default_factory=list)

    def find(self, id: str | None) -> OptionString | None:
        """The entry of that id (None: the one without)."""
        return next((entry for entry in self.given if entry.id == id), None)


class Groups:
    """All option groups of a profile, and everything parsed into them so far."""

    def __init__(self, profile: Profile, messages: Messages) -> None:
        self.traits = profile.traits
        self._profile = profile
        self._messages = messages
        self._recorded: Mapping[str, list[dict[str, Any]]] = {
            entry["option"]: entry["parameters"] for entry in profile.option_groups
        }
        self._groups: dict[str, Group] = {}

    def _hidden(self) -> Mapping[str, list[dict[str, Any]]]:
        """Groups of modules, which introspection shows only once these are loaded.

        See ui/spice-core.c: qemu_spice_opts.
        """
        shown: Mapping[str, list[dict[str, Any]]] = self._profile.overlay_data("module-options")
        return shown

    def __contains__(self, name: str) -> bool:
        return name in self._recorded

    def group(self, name: str) -> Group:
        """The group called `name`; one that introspection hides takes any key."""
        if name not in self._groups:
            use = USES.get(name, Use())
            keys = self._recorded.get(name) or self._hidden().get(name, [])
            types = {key["name"]: key["type"] for key in keys}
            texts = {key["name"]: key["help"] for key in keys if "help" in key}
            known = None if use.any_key or not types else types
            self._groups[name] = Group(name, use, known, texts)
        return self._groups[name]

    def create(self, group: Group, id: str | None, option: str, location: str) -> OptionString:
        """A new entry (or the one to merge into). Raises QapiError for a bad or used id."""
        if group.use.merge:
            if id is not None:
                raise QapiError("Invalid parameter 'id'")
            found = group.find(None)
            if found is not None:
                return found
        elif id is not None:
            check_identifier(id)
            if group.find(id) is not None:
                raise QapiError(f"Duplicate ID '{id}' for {group.name}")
        entry = OptionString(option, "", location)
        if id is not None:
            entry.values["id"] = id
        group.given.append(entry)
        return entry

    def set(self, group: Group, entry: OptionString, key: str, value: str) -> None:
        """Give `entry` one more key. Raises QapiError."""
        self.check(group, key, value)
        if reads.log is not None and group.name not in _TYPED:
            tag = entry.values.get(group.use.implied or "") if group.name == "chardev" else None
            scope = f"-{group.name} {{{tag}}}." if tag else f"-{group.name} "
            entry.values.pop(key, None)
            key = reads.log.name(key, scope)
        entry.values[key] = value
        entry.pairs = (*entry.pairs, (key, value))

    def check(self, group: Group, key: str, value: str) -> None:
        """Raise QapiError unless `group` takes `key` with that value."""
        if group.types is None:
            return
        if key not in group.types:
            raise QapiError(f"Invalid parameter '{key}'")
        check_typed(key, group.types[key], value, self.traits)

    def parse(
        self,
        name: str,
        text: str,
        option: str,
        location: str,
        *,
        implied: bool = True,
    ) -> OptionString:
        """Parse one option's argument into group `name`.

        Warns of flags, raises StartupError for what QEMU refuses at once and Exit for a
        help request. `implied`: whether the group's implied key may be left out.
        """
        group = self.group(name)
        try:
            entry = self.create(group, find_id(text), option, location)
            entry.text = text
            self.parse_into(group, entry, text,
                            group.use.implied if implied else None, location)
        except QapiError as exc:
            self._messages.fail_with(exc, location)
        return entry

    def parse_into(
        self,
        group: Group,
        entry: OptionString,
        text: str,
        implied: str | None,
        location: str | None,
    ) -> None:
        """Add the keys of `text` to `entry`. Raises QapiError.

        With a location flags are warned of and help is given; without, neither.
        """
        rest = text
        while rest:
            key, value, rest, flag = split_first(rest, implied)
            implied = None
            if flag and location is not None:
                if value == "on" and key in ("help", "?"):
                    if group.types is not None:
                        raise EarlyExit(help_text(group), 1)
                else:
                    self._warn_of_flag(key, value, location)
            if key != "id":
                self.set(group, entry, key, value)
                if location is not None and (group.types or {}).get(key) == "size":
                    warning = hex_suffix_warning(value, self.traits)
                    if warning is not None:
                        self._messages.warn(warning, location)

    def _warn_of_flag(self, key: str, value: str, location: str) -> None:
        prefix = "no" if value == "off" else ""
        better = f"{key}={value}"
        if key == "delay":
            better = f"nodelay={'on' if prefix else 'off'}"
        self._messages.warn(f"short-form boolean option '{prefix}{key}' deprecated", location,
                            f"Please use {better} instead")


def help_text(group: Group) -> str:
    """The list of a group's keys that `help` in its place prints."""
    lines = []
    for key, kind in (group.types or {}).items():
        line = f"  {key}=<{_TYPE_NAMES.get(kind, kind)}>"
        if key in group.help:
            line = f"{line:<24} - {group.help[key]}"
        lines.append(line)
    if not lines:
        return f"There are no options for {group.name}.\n"
    return "\n".join([f"{group.name} options:", *sorted(lines)]) + "\n"
