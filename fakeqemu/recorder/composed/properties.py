"""Which properties a type has in the version that is composed.

Of a type that libvirt asked about the file says it. What has changed there since the known version
says something of its relatives, too: a property that all descendants of a type had, with the same
entry, and that those that were asked have otherwise or not at all, is the ancestor's, so that it
is otherwise in all of them. What a machine type of the composed version sets, and the newest does
not, was the default then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

#: one property of device-list-properties or qom-list-properties
Entry = dict[str, Any]
Listed = Mapping[str, list[Entry]]
#: property -> its entry in the composed version; None: it has none
Changes = dict[str, Entry | None]
#: how many types have to agree that a property has come to all that share an ancestor
_AGREEING = 2


class Family(NamedTuple):
    """QOM types by their parents."""

    parents: Mapping[str, str | None]

    def line(self, name: str) -> Iterator[str]:
        """A type and its ancestors, the nearest first."""
        here: str | None = name
        while here is not None:
            yield here
            here = self.parents.get(here)


def compose_listed(said: Listed, known: Listed, family: Family) -> dict[str, list[Entry]]:
    """The properties of all types of `known`, as `said` has them or allows them."""
    inherited = _inherited(said, known, family)
    found: dict[str, list[Entry]] = {}
    for name, entries in known.items():
        if name in said:
            found[name] = said[name]
            continue
        changes: Changes = {}
        for ancestor in family.line(name):
            for each, entry in inherited.get(ancestor, {}).items():
                changes.setdefault(each, entry)
        found[name] = changed(entries, changes)
    return found | {name: entries for name, entries in said.items() if name not in found}


def changed(entries: list[Entry], changes: Changes) -> list[Entry]:
    """A list of properties with the changes made."""
    names = {entry["name"] for entry in entries}
    kept = [changes.get(entry["name"], entry) for entry in entries]
    added = [entry for name, entry in changes.items() if name not in names]
    return [entry for entry in (*kept, *added) if entry is not None]


def differences(before: list[Entry], after: list[Entry]) -> Changes:
    """What was done to the one list to get the other."""
    old, new = by_name(before), by_name(after)
    gone: Changes = {name: None for name in old if name not in new}
    return gone | {name: entry for name, entry in new.items() if old.get(name) != entry}


def by_name(entries: list[Entry]) -> dict[str, Entry]:
    """Property -> entry."""
    return {entry["name"]: entry for entry in entries}


def _inherited(said: Listed, known: Listed, family: Family) -> dict[str, Changes]:
    """What has changed of each ancestor of the types that were asked about."""
    lines = {name: list(family.line(name)) for name in known}
    below: dict[str, list[str]] = {}
    for name, line in lines.items():
        for ancestor in line:
            below.setdefault(ancestor, []).append(name)
    old = {name: by_name(entries) for name, entries in known.items()}
    new = {name: by_name(said[name]) for name in known if name in said}
    found: dict[str, Changes] = {}
    for ancestor in {each for name in new for each in lines[name]}:
        asked = [name for name in below[ancestor] if name in new]
        near = ancestor in new or any(lines[name][1:2] == [ancestor] for name in asked)
        if len(asked) < _AGREEING and not near:
            continue
        changes = _agreed([old[name] for name in below[ancestor]],
                          [old[name] for name in asked], [new[name] for name in asked])
        if len(asked) < _AGREEING and ancestor not in new:
            # one type may well have got a property of its own
            changes = {name: entry for name, entry in changes.items() if name in old[asked[0]]}
        found[ancestor] = changes
    return found


def _agreed(
    every: list[dict[str, Entry]], before: list[dict[str, Entry]], after: list[dict[str, Entry]]
) -> Changes:
    changes: Changes = {}
    for name in sorted({*before[0], *after[0]}):
        was, then = before[0].get(name), after[0].get(name)
        if was == then:
            continue
        if all(each.get(name) == was for each in every) and all(
            each.get(name) == then for each in after
        ):
            changes[name] = then
    return changes


def with_old_defaults(
    listed: dict[str, list[Entry]],
    compat: list[tuple[str, str, str]],
    family: Family,
    said: Listed,
) -> None:
    """Give the types that were not asked about the defaults that `compat` has of them.

    `compat`: (type, property, value as text), as a machine type sets them, in their order.
    """
    for typename, entries in listed.items():
        if typename in said:
            continue
        line = set(family.line(typename))
        values = {name: value for owner, name, value in compat if owner in line}
        listed[typename] = [
            {**entry, "default-value": _converted(values[entry["name"]], entry["default-value"])}
            if entry["name"] in values and "default-value" in entry
            else entry
            for entry in entries
        ]


def _converted(text: str, like: Any) -> Any:
    if isinstance(like, bool):
        return text in ("on", "true", "yes", "y")
    if isinstance(like, int):
        try:
            return int(text, 0)
        except ValueError:
            return like
    return text
