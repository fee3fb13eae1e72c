"""QOM types of a composed profile, and their properties."""

from __future__ import annotations

from typing import Any

from fakeqemu.recorder.composed import properties
from fakeqemu.recorder.composed.bases import Bases
from fakeqemu.recorder.composed.cut import Cut
from fakeqemu.recorder.composed.properties import Changes, Family
from fakeqemu.recorder.composed.replies import Replies


class Types:
    """Those that the file lists, with what they descend from."""

    def __init__(self, replies: Replies, bases: Bases, cut: Cut) -> None:
        self._replies = replies
        self._bases = bases
        self._cut = cut
        #: the part `types`
        self.part = self._compose_types()
        #: names of QOM types, abstract ones included
        self.names = frozenset(name for name, *_ in self.part["types"])
        self.family = Family({name: parent for name, parent, _ in self.part["types"]})
        self._recorded_device = bases.filled("properties", "device")
        self._recorded_qom = bases.filled("properties", "qom")
        self._changed: dict[str, Changes] = {}
        #: properties of the recorded migration object that this version has not
        self.gone_of_migration: set[str] = set()
        #: device-list-properties and qom-list-properties of every type
        self.device = self._listed("device", "device-list-properties")
        self.qom = self._listed("qom", "qom-list-properties")

    def _compose_types(self) -> dict[str, Any]:
        said = {each["name"]: each.get("parent") for each in self._replies.value("qom-list-types")}
        known: dict[str, Any] = {}
        for profile in self._bases.profiles:
            for name, parent, abstract in profile.part("types")["types"]:
                known.setdefault(name, (parent, abstract))
        rows = [[name, parent, False] for name, parent in said.items()]
        there = set(said)
        # the file lists what can be made: ancestors are there too, and interfaces
        for parent in said.values():
            here = parent
            while here is not None and here not in there:
                there.add(here)
                above = known.get(here, (None, True))[0]
                rows.append([here, above, True])
                here = above
        interfaces = self._bases.part("types")["interfaces"]
        parents = {name: parent for name, parent, _ in rows}
        recorded = {row[0]: row for row in self._bases.part("types")["types"]}
        rows += [recorded[name] for name in interfaces if name not in there and name in recorded]
        found = {}
        family = Family(parents)
        for name, implementors in interfaces.items():
            having = set(implementors)
            found[name] = [
                each
                for each, *_ in rows
                if each in having
                or (each not in recorded and having.intersection(family.line(each)))
            ]
        return {"types": rows, "interfaces": found}

    def _listed(self, key: str, command: str) -> dict[str, list[dict[str, Any]]]:
        known = {
            name: entries
            for name, entries in self._bases.filled("properties", key).items()
            if name in self.names
        }
        said = {
            name: entries
            for name, entries in self._replies.properties(command).items()
            if name in self.names
        }
        if key == "device":
            said = self._with_migration(known, said)
        else:
            said = self._with_device_changes(known, said)
        found = properties.compose_listed(said, known, self.family)
        if key == "device":
            properties.with_old_defaults(found, self._old_defaults(), self.family, said)
        return {name: found[name] for name in sorted(found)}

    def _with_migration(self, known: properties.Listed, said: properties.Listed) -> Any:
        """The migration object's properties are its parameters and capabilities."""
        if "migration" not in known:
            return said
        base = Cut(self._bases.nearest.part("schema"))
        had = self._settings(base, self._bases.nearest.migration_defaults.capabilities)
        gone = had - self._settings(self._cut, self.capabilities())
        names = {name for each in gone for name in (each, f"x-{each}")}
        self.gone_of_migration = names
        return {**said, "migration": [e for e in known["migration"] if e["name"] not in names]}

    @staticmethod
    def _settings(cut: Cut, capabilities: Any) -> set[str]:
        return cut.members("query-migrate-parameters") | set(capabilities)

    def capabilities(self) -> list[str]:
        """Names in the order of query-migrate-capabilities."""
        return [each["capability"] for each in self._replies.value("query-migrate-capabilities")]

    def _with_device_changes(self, known: properties.Listed, said: properties.Listed) -> Any:
        """What has changed of a device type has changed of it as an object, too."""
        recorded = self._recorded_device
        found = dict(said)
        for name, entries in known.items():
            if name in found or name not in self.device or name not in recorded:
                continue
            changes: Changes = {
                each: None if entry is None else _as_qom(entry)
                for each, entry in properties.differences(
                    _bare(recorded[name]), _bare(self.device[name])
                ).items()
            }
            if changes:
                found[name] = properties.changed(entries, changes)
        return found

    def _old_defaults(self) -> list[tuple[str, str, str]]:
        """What the machine types of this version set and the newest does not."""
        entries = self._bases.part("machines")["entries"]
        newest = [entry for entry in entries if "alias" in entry or entry.get("is-default")]
        usual = {
            (each["qom-type"], each["property"], each["value"])
            for entry in newest
            for each in entry.get("compat-props", ())
        }
        mine = "-{}.{}".format(*self._replies.release)
        found: dict[tuple[str, str, str], None] = {}
        for entry in entries:
            if entry["name"].endswith(mine):
                for each in entry.get("compat-props", ()):
                    row = (each["qom-type"], each["property"], each["value"])
                    if row not in usual:
                        found.setdefault(row)
        return list(found)

    def changes(self, typename: str) -> Changes:
        """How the properties of a type differ from those that were recorded."""
        if typename not in self._changed:
            before = self._recorded_qom.get(typename)
            after = self.qom.get(typename)
            if typename in self.device and typename in self._recorded_device:
                found = properties.differences(
                    _bare(self._recorded_device[typename]), _bare(self.device[typename])
                )
            else:
                found = {}
            if before is not None and after is not None:
                names = properties.differences(_bare(before), _bare(after))
                found = {**names, **found}
            self._changed[typename] = found
        return self._changed[typename]


def _bare(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Names and types: defaults and descriptions are no change of an object's properties."""
    return [{"name": entry["name"], "type": entry["type"]} for entry in entries]


def _as_qom(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in ("name", "type", "description") if key in entry}
