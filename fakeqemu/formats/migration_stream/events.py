"""What a stream says, as the reader tells it: frozen messages in the order of the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from fakeqemu.dataclass import dataclass, field
from fakeqemu.formats.migration_stream.errors import StreamError
from fakeqemu.formats.migration_stream.vmstate.tpm_emulator import TpmBlob


@dataclass(frozen=True, slots=True)
class ConfigurationSection:
    """The configuration section, accepted."""

    #: machine type of the source
    machine: str
    #: those capabilities of the source that are compared and on
    capabilities: tuple[str, ...] = ()
    #: sent with validate-uuid
    uuid: UUID | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A line that QEMU prints on standard error without failing."""

    #: as on standard error, `warning: ` included
    text: str


@dataclass(frozen=True, slots=True)
class SectionBegins:
    """A section that has a name: SECTION_START or SECTION_FULL."""

    section_id: int
    name: str
    instance_id: int
    version_id: int
    #: SECTION_FULL: it is the whole; else parts follow
    full: bool


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The state of a device, skipped: what kind of device it is only QEMU knows."""

    section_id: int
    name: str
    instance_id: int
    #: bytes between header and footer
    size: int


@dataclass(frozen=True, slots=True)
class TpmState:
    """The state of a TPM emulator: PTM_BLOB_TYPE_* -> blob."""

    blobs: Mapping[int, TpmBlob]


@dataclass(frozen=True, slots=True)
class MappedRam:
    """Where a mapped-ram file keeps a block, as offsets into the file."""

    page_size: int
    bitmap_offset: int
    pages_offset: int


@dataclass(frozen=True, slots=True)
class SentRamBlock:
    """One block of the list at the beginning of the `ram` section."""

    name: str
    #: bytes in use
    size: int
    #: sent with postcopy-ram for blocks of huge pages
    page_size: int | None = None
    #: sent with x-ignore-shared: guest-physical address
    address: int | None = None
    mapped: MappedRam | None = None


@dataclass(frozen=True, slots=True)
class RamBlocks:
    """The list of RAM blocks, accepted."""

    blocks: tuple[SentRamBlock, ...]

    @property
    def total(self) -> int:
        """Bytes of all blocks."""
        return sum(block.size for block in self.blocks)


@dataclass(frozen=True, slots=True)
class RamPages:
    """Pages that came since the last event; their contents are gone."""

    normal: int = 0
    zero: int = 0
    xbzrle: int = 0
    compressed: int = 0


@dataclass(frozen=True, slots=True)
class RamRound:
    """The end-of-section mark of one part of the `ram` section."""

    #: it was the last part, the machine of the source stands still
    last: bool
    #: multifd channels are to be in step here
    flush: bool = False


@dataclass(frozen=True, slots=True)
class MultifdFlush:
    """Multifd channels are to be in step here."""


@dataclass(frozen=True, slots=True)
class OpenReturnPath:
    """The source wants answers."""


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered by a pong of the same value."""

    value: int


@dataclass(frozen=True, slots=True)
class PostcopyAdvise:
    """Postcopy may come."""


@dataclass(frozen=True, slots=True)
class PostcopyDiscard:
    """Ranges of a block that are stale."""

    block: str
    #: (offset, length) in bytes
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class PostcopyListen:
    """Pages come out of order from now on."""


@dataclass(frozen=True, slots=True)
class PostcopyRun:
    """The destination may run."""


@dataclass(frozen=True, slots=True)
class PostcopyResume:
    """A paused postcopy resumes."""


@dataclass(frozen=True, slots=True)
class RecvBitmap:
    """The source asks which pages of a block have come."""

    block: str


@dataclass(frozen=True, slots=True)
class EnableColo:
    """COLO is to follow."""


@dataclass(frozen=True, slots=True)
class SwitchoverStart:
    """The source has stopped and sends the rest (10.0 on)."""


@dataclass(frozen=True, slots=True)
class GlobalState:
    """The run state of the source before it stopped."""

    runstate: str
    #: it had been suspended when it was stopped; None if the version does not tell
    vm_was_suspended: bool | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """The description that follows the end of a precopy stream."""

    #: parsed JSON; None if it was too long to keep or no JSON
    value: dict[str, Any] | None
    #: bytes of it
    size: int
    #: devices whose sections had another size than described; empty is as it should be
    mismatches: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Loaded:
    """All is read and nothing was wrong; the reader is done."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The stream is refused; the reader is done unless postcopy can be recovered."""

    error: StreamError
    #: the guest already runs here: postcopy pauses instead of ending
    postcopy_running: bool = False


Event = (
    ConfigurationSection
    | Report
    | SectionBegins
    | DeviceState
    | TpmState
    | RamBlocks
    | RamPages
    | RamRound
    | MultifdFlush
    | OpenReturnPath
    | Ping
    | PostcopyAdvise
    | PostcopyDiscard
    | PostcopyListen
    | PostcopyRun
    | PostcopyResume
    | RecvBitmap
    | EnableColo
    | SwitchoverStart
    | GlobalState
    | Description
    | Loaded
    | Failed
)
