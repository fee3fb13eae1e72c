"""Machine types of a composed profile: the file's, with the boards that were recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.recorder.composed.bases import Bases
from fakeqemu.recorder.composed.cut import UnfitError
from fakeqemu.recorder.composed.replies import Replies

if TYPE_CHECKING:
    from fakeqemu.recorder.composed.compose import Composer

#: member of part `machine-data` -> the command that returned it
_ASKED = {
    "cpus": "query-cpus-fast",
    "hotpluggable": "query-hotpluggable-cpus",
    "memory": "query-memory-size-summary",
    "memdevs": "query-memdev",
    "pci": "query-pci",
    "pci-defaults": "query-pci",
    "block": "query-block",
    "block-defaults": "query-block",
    "current-machine": "query-current-machine",
    "acpi": "query-acpi-ospm-status",
    "parameters": "query-migrate-parameters",
}


class Machines:
    """The parts that are about machine types."""

    def __init__(self, replies: Replies, bases: Bases, composer: Composer) -> None:
        self._replies = replies
        self._bases = bases
        self._composer = composer
        self._names = [entry["name"] for entry in replies.value("query-machines")]

    def machines(self) -> dict[str, Any]:
        """Entries as in the file, with compat properties where a recorded version tells them."""
        compat: dict[str, Any] = {}
        for profile in reversed(self._bases.profiles):
            for entry in profile.part("machines").get("entries"):
                if "compat-props" in entry:
                    compat[entry["name"]] = entry["compat-props"]
        entries = [
            {**entry, "compat-props": self._compat(compat[entry["name"]])}
            if entry["name"] in compat
            else entry
            for entry in self._replies.value("query-machines")
        ]
        known = self._bases.filled("machines", "about")
        deprecated = {entry["name"] for entry in entries if entry.get("deprecated")}
        about = {
            name: self._about(name, known[name], deprecated)
            for name in (*self._names, *(e["alias"] for e in entries if "alias" in e))
            if name in known
        }
        return {"entries": entries, "about": about}

    def _compat(self, props: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of types and properties that are there."""
        return [each for each in props if self._has(each["qom-type"], each["property"])]

    def _has(self, typename: str, name: str) -> bool:
        types = self._composer.types.family.parents
        if typename not in types:
            return False
        having = [
            entries
            for each, entries in self._composer.types.device.items()
            if typename in self._composer.types.family.line(each)
        ]
        return not having or any(entry["name"] == name for entries in having for entry in entries)

    def _about(self, name: str, known: dict[str, Any], deprecated: set[str]) -> dict[str, Any]:
        found = dict(known)
        if name not in deprecated:
            found.pop("deprecation", None)
        listed = self._composer.types.qom.get(f"{name}-machine")
        if listed is not None and "options" in found:
            has = {entry["name"] for entry in listed}
            found["options"] = [
                line
                for line in found["options"]
                if "=<" not in line or line.split("=", 1)[0].strip() in has
            ]
        return found

    def data(self) -> dict[str, Any]:
        """Fresh machines, in the shape that the file's schema has."""
        known = self._bases.filled("machine-data")
        return {name: self._fresh(known[name]) for name in sorted(self._names) if name in known}

    def _fresh(self, known: dict[str, Any]) -> dict[str, Any]:
        found = dict(known)
        for member, command in _ASKED.items():
            if found.get(member) is None:
                continue
            try:
                found[member] = self._composer.cut.reply(command, found[member])
            except UnfitError:
                found[member] = None
        states = {each["capability"]: each["state"] for each in known["capabilities"]}
        found["capabilities"] = [
            {"capability": each["capability"],
             "state": states.get(each["capability"], each["state"])}
            for each in self._replies.value("query-migrate-capabilities")
        ]
        gone = self._composer.types.gone_of_migration
        found["globals"] = {n: v for n, v in known["globals"].items() if n not in gone}
        return found

    def trees(self) -> dict[str, Any]:
        """Object trees of fresh machines."""
        found = {}
        for kind in ("defaults", "nodefaults"):
            known = self._bases.filled("trees", kind)
            found[kind] = {
                name: self._composer.trees.cut(known[name])
                for name in sorted(self._names)
                if name in known
            }
        return found

    def migratability(self) -> dict[str, Any]:
        """Blocks of memory and what cannot migrate."""
        return self._of_devices_and_machines("migratability")

    def pci_config(self) -> dict[str, Any]:
        """Configuration spaces."""
        return self._of_devices_and_machines("pci-config")

    def _of_devices_and_machines(self, part: str) -> dict[str, Any]:
        devices = self._bases.filled(part, "devices")
        machines = self._bases.filled(part, "machines")
        types = self._composer.types.names
        return {
            "devices": {name: devices[name] for name in sorted(devices) if name in types},
            "machines": {name: machines[name] for name in self._names if name in machines},
        }
