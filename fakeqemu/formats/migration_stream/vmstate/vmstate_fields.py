"""The few sections whose fields are known here: written by the writer, checked by the reader.

A section of a device can only be read by the code of that device, or with the description
that ends the stream. What every machine has is small and stable enough to be known: the
clock (`timer`) and the run state (`globalstate`).

See migration/global_state.c: vmstate_globalstate; system/cpu-timers.c: vmstate_timers;
migration/vmstate.c: vmstate_save_state_v().
"""

from __future__ import annotations

from dataclasses import dataclass

from fakeqemu.traits import Traits


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a section."""

    name: str
    #: QEMU's name of the field's type, for the description
    type: str
    #: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A section as a list of fields."""

    name: str
    version_id: int
    fields: tuple[Field, ...]
    #: oldest version that is loaded
    minimum_version: int = 1
    #: `data` only: QEMU knows the section as one buffer, without a name of its own
    old_style: bool = False

    @property
    def size(self) -> int:
        """Bytes between header and footer."""
        return sum(field.size for field in self.fields)


TIMER = Layout(
    "timer",
    2,
    (
        Field("cpu_ticks_offset", "int64", 8),
        Field("unused", "unused_buffer", 8),
        Field("cpu_clock_offset", "int64", 8),
    ),
)

_GLOBAL_STATE_PLAIN = Layout(
    "globalstate", 1, (Field("size", "uint32", 4), Field("runstate", "buffer", 100))
)
_GLOBAL_STATE_SUSPEND = Layout(
    "globalstate",
    1,
    (
        Field("size", "uint32", 4),
        Field("runstate", "buffer", 32),
        Field("has_vm_was_suspended", "uint8", 1),
        Field("vm_was_suspended", "uint8", 1),
        Field("unused", "buffer", 66),
    ),
)


def global_state(traits: Traits) -> Layout:
    """The run state's section in a version."""
    return _GLOBAL_STATE_SUSPEND if traits.stream_global_state_suspend else _GLOBAL_STATE_PLAIN


def known(name: str, traits: Traits) -> Layout | None:
    """The layout of a section by its name; None for all but those above."""
    return {"timer": TIMER, "globalstate": global_state(traits)}.get(name)
