"""A table of commands, whose modules are imported when a command of theirs is looked for."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from functools import cached_property
from importlib import import_module
from typing import TypeVar

V = TypeVar("V")


class LazyRegistry(MutableMapping[str, V]):
    """Name -> command. Looking for one imports its module, as `index` has it; iterating all."""

    def __init__(self, table: str) -> None:
        #: what the index calls it
        self.table = table
        self._entries: dict[str, V] = {}

    def register(self, name: str, entry: V) -> None:
        """Add a command. ValueError if there is one of that name."""
        if name in self._entries:
            raise ValueError(f"command {name!r} is registered twice")
        self._entries[name] = entry

    def __getitem__(self, name: str) -> V:
        if name not in self._entries and name in self._modules:
            import_module(f"fakeqemu.commands.{self._modules[name]}")
        return self._entries[name]

    def __setitem__(self, name: str, entry: V) -> None:
        self.get(name)  # or its module would register a second one later
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    @cached_property
    def _modules(self) -> dict[str, str]:
        """Name -> module below `fakeqemu.commands`."""
        from fakeqemu.commands.index import MODULES

        modules = MODULES.get(self.table, {})
        return {name: module for module, names in modules.items() for name in names.split(", ")}

    def _all(self) -> dict[str, V]:
        from fakeqemu.commands import load_all

        load_all()
        return self._entries
