"""A table of commands that fills itself when it is first looked into."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TypeVar

V = TypeVar("V")


class LazyRegistry(MutableMapping[str, V]):
    """Name -> command. Registering does not load the other modules, looking does."""

    #: one flag for all tables: the modules are loaded together
    _loaded = False

    def __init__(self) -> None:
        self._entries: dict[str, V] = {}

    def register(self, name: str, entry: V) -> None:
        """Add a command. ValueError if there is one of that name."""
        if name in self._entries:
            raise ValueError(f"command {name!r} is registered twice")
        self._entries[name] = entry

    def __getitem__(self, name: str) -> V:
        return self._all()[name]

    def __setitem__(self, name: str, entry: V) -> None:
        self._all()[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, V]:
        if not LazyRegistry._loaded:
            LazyRegistry._loaded = True
            from fakeqemu.commands import load_all

            load_all()
        return self._entries
