"""Events of the phases of an incoming migration, and how those phases end early.

See `migration.phases.requests` for what a phase is, and migration/migration.c:
process_incoming_migration_co().
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from fakeqemu.dataclass import dataclass
from fakeqemu.migration.phases.requests import Blocking, PhaseError, Wait
from fakeqemu.model.host import Stream

#: a whole phase
Phase = Generator[Blocking, Any, None]


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes came on the channel."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The channel was closed, or broke."""


@dataclass(frozen=True, slots=True)
class ChannelFeatures:
    """What a channel can do that others cannot."""

    #: there can be a return path, and `yank` ends it
    is_socket: bool = True
    #: nobody notices it when the channel is closed without a byte: a pipe has no input then
    silent_hangup: bool = False
    #: of a file that is read here: where in it the stream begins
    file_offset: int | None = None


@dataclass(frozen=True, slots=True)
class MainChannel:
    """A channel turned out to be the main one."""

    channel: Stream
    #: what was read of it to find that out
    begun: bytes
    #: loading begins when the further channels are connected, not with the first byte
    waits: bool


@dataclass(frozen=True, slots=True)
class FurtherConnected:
    """One more of the further channels is connected."""


class ChannelClosedError(PhaseError):
    """The channel was closed before what was waited for had come."""


class DroppedError(PhaseError):
    """The connection is closed with a warning; the migration goes on waiting."""


class LoadFailedError(PhaseError):
    """Loading the stream failed for good."""


class PostcopyBrokenError(PhaseError):
    """The channel broke while the guest runs here."""


def read(size: int) -> Generator[Wait, Any, bytes]:
    """At least so many bytes of the channel. Raises ChannelClosedError."""
    gathered = bytearray()
    while len(gathered) < size:
        match (yield Wait()):
            case Received(data):
                gathered += data
            case Closed():
                raise ChannelClosedError("")
    return bytes(gathered)
