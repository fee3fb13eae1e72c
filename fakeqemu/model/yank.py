"""Who can be yanked: sockets of any owner that `yank` can shut down.

See util/yank.c: yank_register_instance(), yank_register_function() and qmp_yank().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fakeqemu.qapi.errors import DeviceNotFoundError

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardevs import Chardevs
    from fakeqemu.model.migration import CurrentMigration

Instance = dict[str, Any]


class Yank:
    """The yank instances of one machine, as YankInstance: {"type": ..., ...}."""

    def __init__(self, chardevs: Chardevs, migration: CurrentMigration) -> None:
        self._chardevs = chardevs
        self._migration = migration
        self._others: list[tuple[Instance, Callable[[], None]]] = []

    def register(self, instance: Instance, yank: Callable[[], None]) -> None:
        """`yank` ends the connections of `instance`; a second registration replaces the first."""
        self.unregister(instance)
        self._others.append((instance, yank))

    def unregister(self, instance: Instance) -> None:
        """Forget an instance; harmless if it is not known."""
        self._others = [other for other in self._others if other[0] != instance]

    def instances(self) -> list[Instance]:
        """What query-yank returns."""
        found = [
            {"type": "chardev", "id": chardev.id}
            for chardev in self._chardevs.values()
            if chardev.supports_yank
        ]
        migration = [{"type": "migration"}] if self._migrations() else []
        return [*found, *(instance for instance, _ in self._others), *migration]

    def _migrations(self) -> Sequence[Callable[[], None]]:
        """What yanks the migrations that have a channel."""
        migration = self._migration.object
        return () if migration is None else migration.yanks()

    def yank(self, instances: list[Instance]) -> None:
        """End the connections of all of them; none if one is unknown. Raises QapiError."""
        calls: list[Callable[[], None]] = []
        for instance in instances:
            calls.append(self._call(instance))
        for call in calls:
            call()

    def _call(self, instance: Instance) -> Callable[[], None]:
        if instance["type"] == "chardev":
            chardev = self._chardevs.get(instance["id"])
            if chardev is not None and chardev.supports_yank:
                return chardev.yank
        if instance["type"] == "migration" and (calls := self._migrations()):
            return calls[0]
        for known, call in self._others:
            if known == instance:
                return call
        raise DeviceNotFoundError("Instance not found")
