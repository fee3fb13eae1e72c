"""Guest memory as a tool sees it: the size asked for, the backends, the plugged modules.

See hw/core/machine.c: create_default_memdev(); hw/mem/memory-device.c: qmp_memory_device_list();
hw/core/machine-hmp-cmds.c: hmp_info_memory_size_summary().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass

if TYPE_CHECKING:
    from fakeqemu.model.qom.tree import Qom, QomObject
    from fakeqemu.profile import Profile


@dataclass(slots=True)
class Memory:
    """-m, worked out."""

    #: bytes that are there from the start
    size: int = 0
    #: slots for memory modules, and bytes there may be with all of them full
    slots: int = 0
    maxmem: int = 0
    #: address of what does not lie below 4 GiB
    above_4g_start: int = 1 << 32

    def property(self) -> dict[str, int]:
        """The machine's property `memory`."""
        if not self.slots and self.maxmem in (0, self.size):
            return {"size": self.size}
        return {"size": self.size, "slots": self.slots, "max-size": self.maxmem}


_MEMDEV = ("merge", "dump", "prealloc", "share", "reserve", "policy")


def memdevs(qom: Qom, profile: Profile) -> list[dict[str, Any]]:
    """What query-memdev returns, in QEMU's order."""
    objects = qom.container("/objects")
    found = [
        _memdev(objects.children[name])
        for name in objects.walked()
        if profile.is_a(objects.children[name].type, "memory-backend")
    ]
    return found[::-1]


def _memdev(obj: QomObject) -> dict[str, Any]:
    return {
        "id": obj.name,
        "size": obj.get("size"),
        **{name: obj.get(name) for name in _MEMDEV if obj.has(name)},
        "host-nodes": obj.get("host-nodes"),
    }
