"""A connection to the destination, from the moment it is accepted until it is known what it is for.

Its phase takes the TLS greeting, looks at the first bytes and hands the channel over. That of a
multifd channel goes on reading: pages are not stored, but bytes that are not pages are an error.

See migration/migration.c: migration_ioc_process_incoming(); migration/tls.c:
migration_tls_channel_process_incoming(); migration/multifd.c: multifd_recv_new_channel().
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from fakeqemu.formats.migration_stream.channels.multifd import MAGIC, ChannelFailed, MultifdReader
from fakeqemu.formats.migration_stream.constants import MAGIC as FILE_MAGIC
from fakeqemu.migration.channels.tls import HELLO
from fakeqemu.migration.incoming.incoming_channels import FurtherChannels
from fakeqemu.migration.incoming.phase import (
    ChannelClosedError,
    ChannelFeatures,
    Closed,
    DroppedError,
    Phase,
    Received,
    read,
)
from fakeqemu.migration.phases.driver import PhaseDriver
from fakeqemu.migration.phases.requests import Blocking, PhaseError, Sleep
from fakeqemu.model.host import Stream
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.parameters.settings import MigrationSettings
    from fakeqemu.model.machine import Machine

EXTRA_CONNECTION = (
    "socket_accept_incoming_migration: Extra incoming migration connection; ignoring"
)
_MULTIFD = MAGIC.to_bytes(4, "big")
_FILE = FILE_MAGIC.to_bytes(4, "big")


class ConnectionOwner(Protocol):
    """The interface of `Incoming` that a connection uses."""

    @property
    def further(self) -> FurtherChannels:
        """The channels beside the main one."""

    @property
    def awaits_recovery(self) -> bool:
        """Whether the next connection is the main channel of a recovery."""

    @property
    def has_main_channel(self) -> bool:
        """Whether there is a main channel, or a connection that may become it."""

    @property
    def loading_begun(self) -> bool:
        """Whether loading has begun."""

    def claim_main(self, channel: Stream, features: ChannelFeatures) -> None:
        """The channel will be the main one unless its first bytes are none of a stream."""

    def main_connected(self, begun: bytes, *, waits: bool) -> None:
        """The channel that was claimed is the main one; see `phase.MainChannel`."""

    def recovery_connected(self, begun: bytes, *, closed: bool) -> None:
        """As `main_connected`, after a postcopy pause; `closed`: by the other side already."""

    def further_connected(self) -> None:
        """One more of the further channels is connected."""

    def stranger(self, text: str) -> None:
        """A connection is no migration channel."""

    def further_broken(self, text: str) -> None:
        """Something that is no pages came on a further channel."""

    def fail_by_bug(self, error: QapiError) -> None:
        """An unexpected exception."""


class IncomingConnection:
    """One connection. `accept` or `open` begin its phase."""

    def __init__(
        self,
        vm: Machine,
        migration: MigrationSettings,
        owner: ConnectionOwner,
        channel: Stream,
        features: ChannelFeatures,
    ) -> None:
        self._vm = vm
        self._migration = migration
        self._owner = owner
        self._channel = channel
        self._features = features
        self._driver = PhaseDriver(vm.guard, vm.process, self)
        #: nobody else closes the channel
        self._owned = True
        #: bytes that came and are not looked at yet
        self._begun = b""

    def accept(self) -> None:
        """Somebody has connected to the listening socket."""
        self._driver.start(self._accepted())

    def open(self, *, delay: int) -> None:
        """The channel was not listened for: it is the main one. It is read after `delay` ns."""
        self._driver.start(self._opened(delay))

    def close(self) -> None:
        """All is over."""
        self._driver.stop()
        if self._owned:
            self._drop()

    # -- the phase ---------------------------------------------------------------------------

    def _accepted(self) -> Phase:
        owner, further = self._owner, self._owner.further
        if not (owner.awaits_recovery or self._has_purpose):
            raise DroppedError(EXTRA_CONNECTION)
        # another connection may become what this one could have been meanwhile
        yield from self._greet()
        if owner.awaits_recovery:
            self._recovers()
        elif further.by_first_bytes and not owner.loading_begun:
            yield from self._identify()
        elif not owner.has_main_channel:
            self._claim_main()
            yield from self._check_first()
        elif further.takes_preempt:
            self._owned = False
            further.take_preempt(self._channel)
            owner.further_connected()
        else:
            raise DroppedError(EXTRA_CONNECTION)

    @property
    def _has_purpose(self) -> bool:
        """Whether another channel is wanted. See migration_has_all_channels()."""
        owner, further = self._owner, self._owner.further
        unidentified = further.by_first_bytes and not owner.loading_begun
        return unidentified or not owner.has_main_channel or further.takes_preempt

    def _opened(self, delay: int) -> Phase:
        owner = self._owner
        if delay:
            yield Sleep(delay)
        if not owner.awaits_recovery:
            yield from self._greet()
            self._claim_main()
            owner.main_connected(self._begun, waits=False)
            return
        # it is noticed with its first byte; until then another one may be
        closed = False
        try:
            yield from self._gather(1)
        except ChannelClosedError:
            if self._features.silent_hangup:
                return
            closed = True
        else:
            yield from self._greet()
        if not owner.awaits_recovery:
            raise DroppedError(EXTRA_CONNECTION)
        self._recovers(closed=closed)

    def _greet(self) -> Phase:
        """Take the handshake, where there are TLS credentials."""
        credentials = self._migration.parameters.get("tls-creds")
        if not credentials:
            return
        try:
            yield from self._gather(len(HELLO))
        except ChannelClosedError as closed:
            raise DroppedError(
                "TLS handshake failed: The TLS connection was non-properly terminated."
            ) from closed
        try:
            self._vm.objects.check_tls_credentials(credentials, "server")
        except QapiError as error:
            raise DroppedError(error.desc) from error
        if not self._begun.startswith(HELLO):
            raise DroppedError("TLS handshake failed: An unexpected TLS packet was received.")
        self._begun = self._begun[len(HELLO) :]

    def _identify(self) -> Phase:
        """Channels arrive in any order: their magic number says which is the main one."""
        owner = self._owner
        yield from self._gather(len(_MULTIFD))
        if self._begun.startswith(_MULTIFD):
            yield from self._multifd()
        elif self._checks and (text := _unknown(self._begun)):
            owner.stranger(text)
        elif not owner.has_main_channel:
            self._claim_main()
            owner.main_connected(self._begun, waits=True)

    def _check_first(self) -> Phase:
        """The first connection: the main channel, unless its first bytes are no magic number."""
        owner = self._owner
        if self._checks:
            try:
                yield from self._gather(len(_FILE))
            except ChannelClosedError:
                owner.stranger("Failed to peek at channel")
                return
            if text := _unknown(self._begun):
                owner.stranger(text)
                return
        owner.main_connected(self._begun, waits=True)

    def _multifd(self) -> Phase:
        given = self._vm.configuration.uuid
        reader = MultifdReader(
            self._migration.parameters["multifd-channels"], UUID(given) if given else None
        )
        self._owner.further.multifd_connected()
        self._read_pages(reader, self._begun)
        self._owner.further_connected()
        self._listen()
        while True:
            self._read_pages(reader, (yield from read(1)))

    # -- its parts ---------------------------------------------------------------------------

    def _gather(self, size: int) -> Generator[Blocking, Any, None]:
        """Read until `_begun` has so many bytes. Raises ChannelClosedError."""
        if len(self._begun) < size:
            self._listen()
            self._begun += yield from read(size - len(self._begun))
        self._channel.on_data = self._channel.on_close = None

    def _listen(self) -> None:
        if not self._driver.started:
            return  # what was read has ended the migration
        self._channel.on_close = lambda _: self._driver.post(Closed())
        self._channel.on_data = lambda data: self._driver.post(Received(data))

    def _claim_main(self) -> None:
        """Hand the channel over: the owner closes it from now on."""
        self._owned = False
        self._owner.claim_main(self._channel, self._features)

    def _recovers(self, *, closed: bool = False) -> None:
        self._claim_main()
        self._owner.recovery_connected(self._begun, closed=closed)

    @property
    def _checks(self) -> bool:
        """Whether the magic number of what is no multifd channel is checked."""
        encrypted = self._migration.parameters.get("tls-creds")
        return self._vm.profile.traits.incoming_first_bytes_checked and not encrypted

    def _read_pages(self, reader: MultifdReader, data: bytes) -> None:
        for event in reader.feed(data):
            if isinstance(event, ChannelFailed):
                self._owner.further_broken(event.text)
                return

    def _drop(self) -> None:
        self._owned = False
        self._channel.on_data = self._channel.on_close = None
        self._channel.close()

    # -- PhaseOwner --------------------------------------------------------------------------

    def complete(self, result: Any) -> None:
        """It is known what the channel is for."""

    def phase_failed(self, error: PhaseError) -> None:
        """The connection is dropped, unless it was closed by the other side without harm."""
        if isinstance(error, DroppedError):
            self._vm.host.warn(error.text)
            self._drop()

    def fail_by_bug(self, error: QapiError) -> None:
        """A bug of ours."""
        self._owner.fail_by_bug(error)


def _unknown(begun: bytes) -> str:
    """The error text for a channel with these first bytes; empty for a known one."""
    first = begun[: len(_FILE)]
    if first in (_MULTIFD, _FILE):
        return ""
    return f"unknown channel magic: {int.from_bytes(first, 'big')}"
