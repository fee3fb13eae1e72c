"""Requests that the phases of an outgoing migration yield, their results, and their errors.

A phase here (see `migration.phases.requests`) returns the guest's run state afterwards. See
migration/migration.c: migration_thread().

Writing never fails: as in a QEMUFile the first error is kept, and raised where a phase checks
(`CheckError`) or waits, unless it waits with `keeps_errors`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.migration_stream.channels.return_path import Answer
from fakeqemu.migration.phases.requests import Blocking, Due, PhaseError

# -- requests ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Write:
    """Send on the main channel."""

    data: bytes
    #: copies of these go along with it
    fds: tuple[int, ...] = ()


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
    """Send on the postcopy preempt channel, if there is one."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SyncMultifd:
    """Send a sync packet on each multifd channel; the result is the next packet number."""

    #: of the first packet
    number: int


@dataclass(frozen=True, slots=True)
class CheckError:
    """Raise the kept error of a channel. See qemu_file_get_error()."""


@dataclass(frozen=True, slots=True)
class WaitForChannel(Blocking):
    """Wait until the main channel is connected. See migration_channel_connect()."""


@dataclass(frozen=True, slots=True)
class OpenFurtherChannels(Blocking):
    """Connect the multifd and postcopy preempt channels."""


@dataclass(frozen=True, slots=True)
class OpenPreemptChannel(Blocking):
    """Connect the postcopy preempt channel. See postcopy_preempt_setup()."""


#: requests that write to a channel
StreamRequest = Write | WriteAt | Skip | WritePreempt | SyncMultifd
Request = StreamRequest | CheckError | Blocking

#: a part of a stream as requests; returns a value for its caller
Pieces = Generator[StreamRequest, Any, Any]
#: part of a phase
Steps = Generator[Request, Any, None]
#: a whole phase; returns the run state of the guest after it
Phase = Generator[Request, Any, str]

# -- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Changed:
    """An input of the time model changed: the next change may be at another time."""


@dataclass(frozen=True, slots=True)
class StartPostcopy:
    """The command migrate-start-postcopy."""


@dataclass(frozen=True, slots=True)
class Continue:
    """The command migrate-continue, in pre-switchover."""


Event = Due | Changed | StartPostcopy | Continue | Answer

# -- how a phase fails ---------------------------------------------------------------------------


class MigrationFailedError(PhaseError):
    """The migration has failed for good."""


class NotConnectedError(PhaseError):
    """Ends a phase before it began: the guest's run state is unchanged."""

    def __init__(self, text: str, *, hint: str = "", record: bool = True) -> None:
        """`record`: query-migrate shows the error."""
        super().__init__(text)
        self.hint = hint
        self.record = record


class ChannelBrokenError(PhaseError):
    """A channel was closed."""

    def __init__(self, text: str, *, clean: bool, by_return_path: bool = False) -> None:
        """`clean`: closed without error; `by_return_path`: a return path message was invalid."""
        super().__init__(text)
        self.clean = clean
        self.by_return_path = by_return_path
