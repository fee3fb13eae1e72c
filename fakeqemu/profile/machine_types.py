"""Machine types that an overlay adds: the newest recorded one of a family under the next name.

A version that was never recorded has a machine type of its own for each family, and what was the
newest before keeps neither the alias nor the default. Until somebody says how they differ they
have the same board, so that all that was recorded of the one is true of the other.

See hw/i386/pc_q35.c and hw/i386/pc_piix.c: the machine types of the newest version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fakeqemu.dataclass import replace
from fakeqemu.profile.facts import MachineType, TreeObject

#: name of an added machine type -> that of the recorded one that it is like
Added = Mapping[str, str]

_DEFAULT = " (default)"


def with_added(recorded: Iterable[MachineType], added: Added) -> Iterator[MachineType]:
    """The machine types, each added one before the one that it is like."""
    names = {like: name for name, like in added.items()}
    for machine in recorded:
        if machine.name not in names:
            yield machine
            continue
        name, entry = names[machine.name], machine.entry
        yield replace(machine, name=name, entry={**entry, "name": name})
        older = {key: entry[key] for key in entry if key not in ("alias", "is-default")}
        yield replace(machine, alias=None, is_default=False, entry=older)


def types_with_added(names: Iterable[str], added: Added) -> list[str]:
    """QOM types, with those of the added machine types behind what they are like."""
    names_of = {f"{like}-machine": f"{name}-machine" for name, like in added.items()}
    return [each for name in names for each in (name, names_of.get(name)) if each is not None]


def typename_like(typename: str, added: Added) -> str:
    """The recorded QOM type that a machine's QOM type is like; others are themselves."""
    name = typename.removesuffix("-machine")
    return f"{added[name]}-machine" if name in added else typename


def tree_renamed(root: dict[str, Any], name: str, like: str) -> dict[str, Any]:
    """The recorded object tree of machine type `like` as that of `name`."""
    if name == like:
        return root
    old, new = f"{like}-machine", f"{name}-machine"
    properties = [[each, shape.replace(old, new)] for each, shape in root["properties"]]
    machine = {**root["children"]["machine"], "type": new}
    values = {
        each: value.replace(old, new) if isinstance(value, str) else value
        for each, value in machine["values"].items()
    }
    children = {**root["children"], "machine": {**machine, "values": values}}
    return {**root, "properties": properties, "children": children}


def help_with_added(text: str, added: Added) -> str:
    """The text of `-machine help` with the added ones in it."""
    for name, like in added.items():
        lines = []
        for line in text.split("\n"):
            if line.startswith(like):
                added_line = name.ljust(len(like)) + line[len(like) :]
                lines += [added_line, line.removesuffix(_DEFAULT)]
            else:
                lines.append(line.replace(f"(alias of {like})", f"(alias of {name})"))
        text = "\n".join(lines)
    return text


def properties_shown(node: TreeObject) -> list[dict[str, Any]]:
    """What a running machine shows, as qom-list-properties; without its children."""
    return [
        {"name": name, "type": shape}
        for name, shape in node.properties
        if not shape.startswith("child<")
    ]
