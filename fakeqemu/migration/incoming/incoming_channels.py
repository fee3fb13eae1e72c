"""The destination's channels beside the main one: multifd, and postcopy preempt (urgent pages).

Pages are not stored, so these channels are read and discarded; but they must be connected before
loading begins, and bytes that are not pages are an error.

See migration/migration.c: migration_ioc_process_incoming() and migration_has_all_channels();
migration/multifd.c: multifd_recv_new_channel(); migration/postcopy-ram.c:
postcopy_preempt_new_channel().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from fakeqemu.formats.migration_stream.channels.multifd import MAGIC, ChannelFailed, MultifdReader
from fakeqemu.formats.migration_stream.constants import MAGIC as FILE_MAGIC
from fakeqemu.model.host import Stream

if TYPE_CHECKING:
    from fakeqemu.migration.parameters.settings import MigrationSettings
    from fakeqemu.migration.state import Status
    from fakeqemu.model.machine import Machine

_MAGIC = MAGIC.to_bytes(4, "big")


def _unknown(begun: bytes | bytearray) -> str:
    """The error text for a channel with these first bytes; empty for a known one."""
    first = bytes(begun[: len(_MAGIC)])
    if first in (_MAGIC, FILE_MAGIC.to_bytes(4, "big")):
        return ""
    return f"unknown channel magic: {int.from_bytes(first, 'big')}"


class FurtherChannels:
    """The further channels of one destination."""

    def __init__(self, vm: Machine, migration: MigrationSettings, state: Status) -> None:
        """`state`: of the migration that they belong to."""
        self._vm = vm
        self._state = state
        self._migration = migration
        self._multifd: list[tuple[Stream, MultifdReader]] = []
        self._preempt: Stream | None = None
        self._unknown: list[Stream] = []
        #: bytes of the main channel that were read while others were awaited
        self.held = b""

    @property
    def by_first_bytes(self) -> bool:
        """Whether channels are identified by their magic number."""
        on = self._migration.capabilities
        return on("multifd") and not on("mapped-ram")

    @property
    def takes_preempt(self) -> bool:
        """Whether the next channel is the postcopy preempt channel."""
        return self._migration.capabilities("postcopy-preempt") and self._preempt is None

    @property
    def complete(self) -> bool:
        """Whether all further channels are connected."""
        if self.by_first_bytes:
            wanted: int = self._migration.parameters["multifd-channels"]
            return len(self._multifd) >= wanted
        return not (self.takes_preempt and self._vm.profile.traits.preempt_channel_at_setup)

    def take_preempt(self, channel: Stream) -> None:
        """Use `channel` as the postcopy preempt channel."""
        self._preempt = channel
        channel.on_close = lambda _: None
        channel.on_data = lambda _: None

    def identify(
        self,
        channel: Stream,
        begun: bytes,
        main: Callable[[bytes], None],
        go_on: Callable[[], None],
        fail: Callable[[str], None],
        *,
        stranger: Callable[[str], None],
    ) -> None:
        """Find out which channel `channel` is, from its first bytes `begun`.

        Calls `main` with its first bytes if it is the main one, `go_on` when with it all further
        channels are connected, and `fail` or, where magic numbers are checked, `stranger` with
        QEMU's text if it is no migration channel.
        """
        gathered = bytearray()
        self._unknown.append(channel)

        def received(data: bytes) -> None:
            gathered.extend(data)
            if len(gathered) < len(_MAGIC):
                return
            self._unknown.remove(channel)
            channel.on_data = None
            if bytes(gathered[: len(_MAGIC)]) != _MAGIC:
                if self._checks and (text := _unknown(gathered)):
                    stranger(text)
                else:
                    main(bytes(gathered))
                return
            self._take_multifd(channel, bytes(gathered), fail)
            if self.complete:
                go_on()

        channel.on_close = lambda _: None
        channel.on_data = received
        if begun:
            received(begun)

    def check_first(
        self,
        channel: Stream,
        begun: bytes,
        main: Callable[[bytes], None],
        stranger: Callable[[str], None],
    ) -> None:
        """Call `main` with the first bytes of `channel`, or `stranger` with the error.

        Encrypted channels are not checked.
        """
        if not self._checks:
            main(begun)
            return
        gathered = bytearray()

        def received(data: bytes) -> None:
            gathered.extend(data)
            if len(gathered) < len(_MAGIC):
                return
            channel.on_data = channel.on_close = None
            if text := _unknown(gathered):
                stranger(text)
            else:
                main(bytes(gathered))

        channel.on_close = lambda _: stranger("Failed to peek at channel")
        channel.on_data = received
        if begun:
            received(begun)

    @property
    def _checks(self) -> bool:
        traits = self._vm.profile.traits
        encrypted = self._migration.parameters.get("tls-creds")
        return traits.incoming_first_bytes_checked and not encrypted

    def _take_multifd(
        self, channel: Stream, begun: bytes, fail: Callable[[str], None]
    ) -> None:
        given = self._vm.configuration.uuid
        uuid = UUID(given) if given else None
        reader = MultifdReader(self._migration.parameters["multifd-channels"], uuid)

        def received(data: bytes) -> None:
            for event in reader.feed(data):
                if isinstance(event, ChannelFailed):
                    self._broken(event.text, fail)
                    return

        channel.on_data = received
        self._multifd.append((channel, reader))
        received(begun)

    def _broken(self, text: str, fail: Callable[[str], None]) -> None:
        if self._state.can("failed"):
            fail(text)
        else:
            self._vm.host.warn(text)

    def close(self) -> None:
        """Close all further channels."""
        channels = [channel for channel, _ in self._multifd] + self._unknown
        if self._preempt is not None:
            channels.append(self._preempt)
        for channel in channels:
            channel.on_data = channel.on_close = None
            channel.close()
        self._multifd.clear()
        self._unknown.clear()
        self._preempt = None
        self.held = b""
