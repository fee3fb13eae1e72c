"""What introspection hides of a version that nobody has described: carried over from known ones.

Names of QAPI types and widths of integers are found by their places in the schema: what a command
that both versions have takes or returns, and below that members, variants and branches of the
same name. The nearest older version that is described goes first; a newer one fills what it does
not have. The profile's part `inferred` keeps what was found, so that it can be told from what is
known: `{"from": [version, ...], "qapi-names": ..., "event-limits": ..., ...}`.

See scripts/qapi/introspect.py: QAPISchemaGenIntrospectVisitor, which makes names into numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fakeqemu.profile import store

NAMES = "qapi-names"
#: overlays' data by version that is taken as the nearest known version has it
_TAKEN = ("event-limits", "keymaps", "module-options")

Schema = list[dict[str, Any]]


def nearest(known: Iterable[str], version: tuple[int, int]) -> list[str]:
    """Known versions, the nearest older one first, then older ones, then newer ones."""

    def number(name: str) -> tuple[int, ...]:
        return tuple(int(part) for part in name.split("."))

    ordered = sorted(known, key=number)
    older = [name for name in ordered if number(name) <= version]
    newer = [name for name in ordered if number(name) > version]
    return [*reversed(older), *newer]


def infer(schema: Schema, version: tuple[int, int]) -> dict[str, Any]:
    """The part `inferred` for a `query-qmp-schema` of QEMU `version`."""
    described = store.read_overlay_data(NAMES)
    known = nearest(described, version)
    carried = _Names(schema)
    for name in known:
        base = store.read_part(store.schemas_dir() / name, "schema")
        carried.take(base, described[name])
    found: dict[str, Any] = {"from": known, NAMES: carried.as_json()}
    for each in _TAKEN:
        by_version = store.read_overlay_data(each)
        usable = [name for name in known if name in by_version]
        if usable:
            found[each] = by_version[usable[0]]
    return found


class _Names:
    """Names and widths of one schema, taken from others in turn."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._types = _types_of(schema)
        self._names: dict[str, str] = {}
        self._integers: dict[str, dict[str, str]] = {}
        self._unchecked: set[str] = set()

    def take(self, schema: Schema, naming: Mapping[str, Any]) -> None:
        """All that is not known yet and stands at the same place in `schema`."""
        walk = _Walk(self, _types_of(schema), naming)
        known = {(entry["meta-type"], entry["name"]): entry for entry in schema}
        both = [
            (entry, there)
            for entry in self._schema
            if entry["meta-type"] in ("command", "event")
            and (there := known.get((entry["meta-type"], entry["name"]))) is not None
        ]
        # what a query returns keeps its name over the years, what a command takes may not
        for entry, there in both:
            if entry["meta-type"] == "command":
                walk.match(entry["ret-type"], there["ret-type"])
        for entry, there in both:
            walk.match(entry["arg-type"], there["arg-type"])
            if entry["name"] in naming.get("unchecked", ()):
                self._unchecked.add(entry["name"])

    def type_of(self, hidden: str) -> dict[str, Any] | None:
        """The schema's entry of a type; None for built-in ones and lists."""
        return self._types.get(hidden)

    def add(self, hidden: str, name: str | None, integers: Mapping[str, str]) -> None:
        """A type's name and the widths of its members."""
        if name is not None:
            self._names.setdefault(hidden, name)
        for member, width in integers.items():
            self._integers.setdefault(hidden, {}).setdefault(member, width)

    def as_json(self) -> dict[str, Any]:
        """As the overlay's data of a version is."""
        return {
            "names": self._names,
            "integers": self._integers,
            "unchecked": sorted(self._unchecked),
        }


class _Walk:
    """Through two schemas side by side."""

    def __init__(
        self, to: _Names, types: dict[str, dict[str, Any]], naming: Mapping[str, Any]
    ) -> None:
        self._to = to
        self._types = types
        self._naming = naming
        self._seen: set[tuple[str, str]] = set()

    def match(self, here: str, there: str) -> None:
        """`here` (a type of the new schema) stands where `there` (of the known one) does."""
        if here.startswith("[") and there.startswith("["):
            here, there = here[1:-1], there[1:-1]
        ours, theirs = self._to.type_of(here), self._types.get(there)
        if ours is None or theirs is None or (here, there) in self._seen:
            return
        self._seen.add((here, there))
        if ours["meta-type"] != theirs["meta-type"]:
            return
        widths = self._naming.get("integers", {}).get(there, {})
        if ours["meta-type"] == "alternate":
            present = {str(index) for index in range(len(ours["members"]))}
        else:
            present = {member["name"] for member in _members(ours)}
        kept = {name: width for name, width in widths.items() if name in present}
        self._to.add(here, self._naming.get("names", {}).get(there), kept)
        self._match_inside(ours, theirs)

    def _match_inside(self, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        if ours["meta-type"] == "alternate":
            for mine, other in zip(ours["members"], theirs["members"], strict=False):
                self.match(mine["type"], other["type"])
            return
        others = {member["name"]: member["type"] for member in _members(theirs)}
        for member in _members(ours):
            if member["name"] in others and "type" in member:
                self.match(member["type"], others[member["name"]])
        cases = {each["case"]: each["type"] for each in theirs.get("variants", ())}
        for variant in ours.get("variants", ()):
            if variant["case"] in cases:
                self.match(variant["type"], cases[variant["case"]])


def _types_of(schema: Schema) -> dict[str, dict[str, Any]]:
    usual = ("object", "alternate", "enum")
    return {entry["name"]: entry for entry in schema if entry["meta-type"] in usual}


def _members(entry: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = entry["members"] if entry["meta-type"] == "object" else []
    return found
