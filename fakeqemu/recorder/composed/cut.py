"""Replies of one version in the shape that another version's schema allows.

Members that a type does not have are left out, and in a list the items that do not fit. What
lacks something that a type needs does not fit at all.
"""

from __future__ import annotations

from typing import Any

Schema = list[dict[str, Any]]


class UnfitError(ValueError):
    """A value has no place in the schema."""


class Cut:
    """Of one `query-qmp-schema`."""

    def __init__(self, schema: Schema) -> None:
        self._entries = {entry["name"]: entry for entry in schema}

    def has(self, command: str) -> bool:
        """Whether there is a command of that name."""
        return self._entries.get(command, {}).get("meta-type") == "command"

    def reply(self, command: str, value: Any) -> Any:
        """What `command` returns, of `value`. UnfitError if nothing of it fits."""
        if not self.has(command):
            raise UnfitError(command)
        return self._value(self._entries[command]["ret-type"], value)

    def members(self, command: str) -> set[str]:
        """The names of the members of what `command` returns; empty for other than objects."""
        entry = self._entries.get(self._entries.get(command, {}).get("ret-type", ""), {})
        return {member["name"] for member in entry.get("members", ()) if "name" in member}

    def _value(self, typename: str, value: Any) -> Any:
        entry = self._entries.get(typename)
        if typename.startswith("[") or (entry is not None and entry["meta-type"] == "array"):
            return self._items(typename.strip("[]"), value)
        if entry is None or entry["meta-type"] in ("builtin", "alternate"):
            return value
        if entry["meta-type"] == "enum":
            if value not in entry["values"]:
                raise UnfitError(f"{value!r}")
            return value
        return self._object(entry, value)

    def _items(self, typename: str, value: Any) -> list[Any]:
        found = []
        for item in value:
            try:
                found.append(self._value(typename, item))
            except UnfitError:
                continue
        return found

    def _object(self, entry: dict[str, Any], value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise UnfitError(entry["name"])
        members = {member["name"]: member for member in entry["members"]}
        if "tag" in entry:
            tag = value.get(entry["tag"])
            chosen = {each["case"]: each["type"] for each in entry["variants"]}.get(str(tag))
            branch = self._entries.get(chosen or "", {})
            members.update((member["name"], member) for member in branch.get("members", ()))
        found = {}
        for name, member in members.items():
            if name not in value:
                if "default" not in member:
                    raise UnfitError(name)
                continue
            try:
                found[name] = self._value(member["type"], value[name])
            except UnfitError:
                if "default" not in member:
                    raise
        return {name: found[name] for name in value if name in found}
