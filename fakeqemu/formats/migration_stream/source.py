"""What a stream's writer has to know of the machine that is sent.

See migration/savevm.c: SaveState and SaveStateEntry; migration/ram.c: ram_save_setup().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.migration_stream.constants import PAGE_SIZE
from fakeqemu.formats.migration_stream.vmstate import vmstate_fields as layout


@dataclass(frozen=True, slots=True)
class SourceBlock:
    """A RAM block of the source."""

    name: str
    #: bytes in use
    size: int
    #: bytes of a host page
    page_size: int = PAGE_SIZE
    #: guest-physical address
    address: int = 0


@dataclass(frozen=True, slots=True)
class DeviceSection:
    """The state of a device to be sent: a layout and the bytes of it."""

    layout: layout.VmState
    data: bytes
    instance_id: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """The machine that is sent, as far as the stream tells of it."""

    #: machine type's real name, not an alias
    machine: str
    blocks: tuple[SourceBlock, ...] = ()
    #: capabilities that are on
    capabilities: frozenset[str] = frozenset()
    #: given by -uuid; sent with validate-uuid
    uuid: UUID | None = None
    devices: tuple[DeviceSection, ...] = ()
    #: further ones, whose state is asked for when the guest has stopped
    late_devices: Callable[[], Sequence[DeviceSection]] = tuple
    #: descriptors that go along with the states of devices
    descriptors: tuple[int, ...] = ()
    #: sizes of host pages of all RAM, or-ed
    page_size_summary: int = PAGE_SIZE
    #: migration properties send-configuration and send-section-footer
    configuration: bool = True
    footers: bool = True
    #: migration property multifd-flush-after-each-section
    flush_each_section: bool = False
    #: not with suppress-vmdesc
    description: bool = True
    #: migration properties store-global-state and send-switchover-start
    global_state: bool = True
    switchover_start: bool = True
    #: number of the `ram` section
    ram_id: int = 2
    #: page number -> content of a block's pages that are not zero; without it all of them are
    content: Callable[[str], Mapping[int, bytes]] | None = None
    #: name and instance of sections that the machine has and this writer cannot make: only the
    #: description names them
    unsent: tuple[tuple[str, int], ...] = ()
