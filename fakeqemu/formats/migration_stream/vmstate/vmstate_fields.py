"""The few sections whose fields are known here: written by the writer, checked by the reader.

A section of a device can only be read by the code of that device, or with the description
that ends the stream. What every machine has is small and stable enough to be known: the
clock (`timer`) and the run state (`globalstate`).

See migration/global_state.c: vmstate_globalstate; system/cpu-timers.c: vmstate_timers;
migration/vmstate.c: vmstate_save_state_v().
"""

from __future__ import annotations

from fakeqemu.dataclass import dataclass
from fakeqemu.traits import Traits


@dataclass(frozen=True, slots=True)
class VmStateField:
    """One field of a section."""

    name: str
    #: QEMU's name of the field's type, for the description
    type: str
    #: bytes
    size: int


@dataclass(frozen=True, slots=True)
class VmState:
    """A section as a list of fields."""

    name: str
    version_id: int
    fields: tuple[VmStateField, ...]
    #: oldest version that is loaded
    minimum_version: int = 1
    #: `data` only: QEMU knows the section as one buffer, without a name of its own
    old_style: bool = False

    @property
    def size(self) -> int:
        """Bytes between header and footer."""
        return sum(field.size for field in self.fields)


TIMER = VmState(
    "timer",
    2,
    (
        VmStateField("cpu_ticks_offset", "int64", 8),
        VmStateField("unused", "unused_buffer", 8),
        VmStateField("cpu_clock_offset", "int64", 8),
    ),
)

_GLOBAL_STATE_PLAIN = VmState(
    "globalstate", 1, (VmStateField("size", "uint32", 4), VmStateField("runstate", "buffer", 100))
)
_GLOBAL_STATE_SUSPEND = VmState(
    "globalstate",
    1,
    (
        VmStateField("size", "uint32", 4),
        VmStateField("runstate", "buffer", 32),
        VmStateField("has_vm_was_suspended", "uint8", 1),
        VmStateField("vm_was_suspended", "uint8", 1),
        VmStateField("unused", "buffer", 66),
    ),
)


def global_state(traits: Traits) -> VmState:
    """The run state's section in a version."""
    return _GLOBAL_STATE_SUSPEND if traits.stream_global_state_suspend else _GLOBAL_STATE_PLAIN


def known(name: str, traits: Traits) -> VmState | None:
    """The layout of a section by its name; None for all but those above."""
    return {"timer": TIMER, "globalstate": global_state(traits)}.get(name)
