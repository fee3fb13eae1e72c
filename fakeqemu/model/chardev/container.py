"""The object `/chardevs`, which has the character devices. See chardev/char.c: chardev_init()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.qom.tree import QomObject

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardevs import Chardevs
    from fakeqemu.profile import Profile


class ChardevContainer(QomObject):
    """The object `/chardevs`: whatever character devices there are at the moment."""

    def __init__(self, chardevs: Chardevs, profile: Profile) -> None:
        super().__init__("container")
        self._chardevs = chardevs
        self._profile = profile
        self._seen: dict[str, QomObject] = {}

    @property
    def children(self) -> dict[str, QomObject]:
        """One object for each character device."""
        found: dict[str, QomObject] = {}
        for id, chardev in self._chardevs.items():
            obj = self._seen.get(id)
            type = f"chardev-{chardev.backend}"
            if obj is None or obj.type != type:
                obj = self._object(id, type)
            found[id] = obj
        self._seen = found
        return found

    def _object(self, id: str, type: str) -> QomObject:
        obj = QomObject(type)
        obj.name, obj.parent = id, self
        try:
            entries = self._profile.qom_properties(type)
        except KeyError:
            entries = []
        obj.shapes.update((e["name"], e["type"]) for e in entries)
        if "connected" in obj.shapes:
            obj.values["connected"] = lambda: self._chardevs[id].connected
        return obj
