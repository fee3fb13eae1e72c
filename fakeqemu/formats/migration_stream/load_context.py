"""What the loading machine compares a stream with: plain data, given by the incoming side.

See migration/savevm.c: configuration_post_load() and configuration_validate_capabilities();
migration/ram.c: parse_ramblock().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol
from uuid import UUID

from fakeqemu.dataclass import dataclass, field
from fakeqemu.formats.migration_stream.dirty_bitmaps import Sink


class PageSink(Protocol):
    """Where the content of pages goes, by block."""

    def pages(self, block: str) -> Mapping[int, bytes]:
        """Page number -> content, of those that are not zero."""

    def store(self, block: str, offset: int, data: bytes) -> None:
        """Put bytes into a block."""


@dataclass(frozen=True, slots=True)
class LocalBlock:
    """A RAM block of the loading machine."""

    #: bytes in use
    size: int
    #: bytes it may grow to; None if it cannot be resized
    max_size: int | None = None
    #: bytes of a host page; postcopy compares them where pages are huge
    page_size: int = 4096


@dataclass(frozen=True, slots=True)
class LoadContext:
    """The loading machine, as far as a stream can disagree with it."""

    #: machine type's real name, not an alias
    machine: str
    #: every capability the version knows, in QEMU's order, and whether it is on
    capabilities: Mapping[str, bool] = field(default_factory=dict)
    #: given by -uuid; None if it was not
    uuid: UUID | None = None
    #: blocks known to the model by their id; others are taken as they come unless `blocks_complete`
    blocks: Mapping[str, LocalBlock] = field(default_factory=dict)
    blocks_complete: bool = False
    #: newest version of a section the machine loads, by name and instance, None for a section
    #: it does not have; without it every section is taken
    section: Callable[[str, int], int | None] | None = None
    #: run states the version has; empty: any
    runstates: frozenset[str] = frozenset()
    #: migration properties send-configuration and send-section-footer
    configuration: bool = True
    footers: bool = True
    #: whether a description is to follow (not with suppress-vmdesc)
    description: bool = True
    #: sizes of host pages of all RAM, or-ed
    page_size_summary: int = 4096
    #: the stream lies in a seekable file that begins at this offset (for mapped-ram)
    file_offset: int = 0
    #: takes what pages contain; without it that is dropped
    memory: PageSink | None = None
    #: takes the dirty bitmaps; without it they are dropped
    bitmaps: Sink | None = None

    def on(self, capability: str) -> bool:
        """Whether a capability is on."""
        return self.capabilities.get(capability, False)
