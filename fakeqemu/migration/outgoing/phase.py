"""What the phases of an outgoing migration yield, what they get for it, and how they fail.

A phase is a generator that reads from top to bottom, as the migration thread of QEMU does, see
migration/migration.c: migration_thread(). It yields a request and goes on when the driver
(`driver.py`) resumes it; it holds no callback and no timer. What it returns is the run state
that the guest is in afterwards.

Writing never fails: as in QEMU's QEMUFile the first error is kept, and raised where a phase
asks (`CheckError`) or waits, unless it waits with `keeps_errors`.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from fakeqemu.formats.migration_stream.channels.return_path import Answer

# -- requests ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Write:
    """Send on the main channel."""

    data: bytes


@dataclass(frozen=True, slots=True)
class WriteAt:
    """Write at an offset of the file that is migrated to."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Skip:
    """Leave a hole of so many bytes in the file."""

    size: int


@dataclass(frozen=True, slots=True)
class WritePreempt:
    """Send on the channel of urgent pages, if there is one."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SyncMultifd:
    """Send a sync packet on each multifd channel; gets the number of the next one."""

    #: of the first packet
    number: int


@dataclass(frozen=True, slots=True)
class CheckError:
    """Raise the error of a channel that was kept, see qemu_file_get_error()."""


@dataclass(frozen=True, slots=True)
class WaitForChannel:
    """Go on when the main channel is connected, see migration_channel_connect()."""

    keeps_errors: bool = False


@dataclass(frozen=True, slots=True)
class OpenFurtherChannels:
    """Open what multifd and postcopy-preempt take beside the main channel."""

    keeps_errors: bool = False


@dataclass(frozen=True, slots=True)
class OpenPreemptChannel:
    """Open the channel of urgent pages, see postcopy_preempt_setup()."""

    keeps_errors: bool = False


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let so many nanoseconds pass; events wait meanwhile."""

    delay: int
    keeps_errors: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Gets the next event: `Due` at a time of the clock, or what happens before."""

    #: nanoseconds; None: nothing happens by itself
    until: int | None = None
    keeps_errors: bool = False


#: what puts pieces of the stream on the channels
StreamRequest = Write | WriteAt | Skip | WritePreempt | SyncMultifd
#: what a phase is suspended for
Blocking = WaitForChannel | OpenFurtherChannels | OpenPreemptChannel | Sleep | Wait
Request = StreamRequest | CheckError | Blocking

#: pieces of a stream; what they give is what a caller may want to know of them
Pieces = Generator[StreamRequest, Any, Any]
#: part of a phase
Steps = Generator[Request, Any, None]
#: a whole phase; returns the run state of the guest after it
Phase = Generator[Request, Any, str]

# -- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Due:
    """The time that was waited for has come."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Something that the time model depends on has changed: when to go on may be another."""


@dataclass(frozen=True, slots=True)
class StartPostcopy:
    """The command migrate-start-postcopy."""


@dataclass(frozen=True, slots=True)
class Continue:
    """The command migrate-continue, in pre-switchover."""


Event = Due | Changed | StartPostcopy | Continue | Answer

# -- how a phase fails ---------------------------------------------------------------------------


class PhaseError(Exception):
    """A phase is left; `text` is why, empty for a reason that is recorded already."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class MigrationFailedError(PhaseError):
    """The migration has failed for good."""


class NotConnectedError(PhaseError):
    """It came to nothing before it began: the guest is as it was."""

    def __init__(self, text: str, *, hint: str = "", record: bool = True) -> None:
        """`record`: query-migrate shows the reason."""
        super().__init__(text)
        self.hint = hint
        self.record = record


class ChannelBrokenError(PhaseError):
    """A channel has ended."""

    def __init__(self, text: str, *, clean: bool, by_return_path: bool = False) -> None:
        """`clean`: the other end just closed it; `by_return_path`: what it answered was bad."""
        super().__init__(text)
        self.clean = clean
        self.by_return_path = by_return_path
