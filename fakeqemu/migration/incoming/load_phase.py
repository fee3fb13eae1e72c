"""The phase of the main channel: wait for it, load the stream, recover from postcopy pauses.

See migration/migration.c: process_incoming_migration_co() and migration_incoming_setup();
migration/savevm.c: postcopy_pause_incoming().
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

from fakeqemu.migration.incoming.incoming_channels import FurtherChannels
from fakeqemu.migration.incoming.loadvm import LoadVm
from fakeqemu.migration.incoming.phase import (
    Closed,
    MainChannel,
    Phase,
    PostcopyBrokenError,
    Received,
)
from fakeqemu.migration.phases.requests import Wait
from fakeqemu.model.host import Stream


class LoadOwner(Protocol):
    """The interface of `Incoming` that the phase uses."""

    @property
    def further(self) -> FurtherChannels:
        """The channels beside the main one."""

    @property
    def over(self) -> bool:
        """Whether the incoming migration has ended."""

    @property
    def silent_hangup(self) -> bool:
        """Whether nobody notices a main channel that is closed without a byte."""

    @property
    def file(self) -> Stream | None:
        """The main channel if it is a file, in which bytes can be skipped."""

    def use_main(self, channel: Stream, *, reads: bool = True) -> None:
        """Use the channel as the main one; `reads`: its input is wanted now."""

    def begin_load(self) -> LoadVm:
        """Enter `active`."""

    def pause_postcopy(self) -> None:
        """Enter `postcopy-paused`: the channel broke while the guest runs here."""

    def begin_recovery(self) -> None:
        """Enter `postcopy-recover`: there is another channel."""


def load(owner: LoadOwner) -> Phase:
    """The whole of an incoming migration, once a channel can come."""
    first = yield from _first_input(owner)
    loading = owner.begin_load()
    while not (yield from _load(owner, loading, first)):
        owner.pause_postcopy()
        first = yield from _reconnected(owner, loading)


def _first_input(owner: LoadOwner) -> Generator[Wait, Any, Received | Closed]:
    """Wait for the main channel, and until loading may begin."""
    while not isinstance(event := (yield Wait()), MainChannel):
        if isinstance(event, Closed):
            return event  # shut down by a command
    channel, begun = event.channel, event.begun
    if event.waits:
        owner.use_main(channel, reads=False)
        while not owner.further.complete:
            if isinstance(event := (yield Wait()), Closed):
                return event
        owner.use_main(channel)
        return Received(begun)
    owner.use_main(channel)
    if begun:
        return Received(begun)
    # of a file the first byte is noticed, not the connection
    event = yield Wait()
    while isinstance(event, Closed) and owner.silent_hangup:
        event = yield Wait()
    assert isinstance(event, Received | Closed)
    return event


def _load(
    owner: LoadOwner, loading: LoadVm, event: Received | Closed
) -> Generator[Wait, Any, bool]:
    """Load to the end: true. False: the channel broke while the guest runs here."""
    while not owner.over:
        try:
            match event:
                case Received(data) if data:
                    loading.feed(data)
                    _skip(owner, loading)
                case Closed():
                    loading.feed_eof()
        except PostcopyBrokenError:
            return False
        if not owner.over:
            event = yield Wait()
    return True


def _skip(owner: LoadOwner, loading: LoadVm) -> None:
    """Pass by what has no effect without reading it, where that can be done."""
    while (file := owner.file) is not None and (size := loading.skippable):
        file.skip(size)
        loading.skip(size)


def _reconnected(owner: LoadOwner, loading: LoadVm) -> Generator[Wait, Any, Received]:
    """Wait for the main channel of a recovery."""
    while not isinstance(event := (yield Wait()), MainChannel):
        pass
    owner.begin_recovery()
    loading.recover()
    owner.use_main(event.channel)
    return Received(event.begun)
