"""The channels of a destination beside the main one: multifd, and the one for urgent pages.

Pages are counted nowhere and kept nowhere, so these channels are read and forgotten; but they
have to be there before loading begins, and what is no page is refused.

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
    from fakeqemu.migration.object import MigrationObject
    from fakeqemu.model.machine import Machine

_MAGIC = MAGIC.to_bytes(4, "big")


def _unknown(begun: bytes | bytearray) -> str:
    """What is wrong with a channel that begins so; empty: nothing."""
    first = bytes(begun[: len(_MAGIC)])
    if first in (_MAGIC, FILE_MAGIC.to_bytes(4, "big")):
        return ""
    return f"unknown channel magic: {int.from_bytes(first, 'big')}"


class FurtherChannels:
    """Those of one destination."""

    def __init__(self, vm: Machine, migration: MigrationObject) -> None:
        self._vm = vm
        self._migration = migration
        self._multifd: list[tuple[Stream, MultifdReader]] = []
        self._preempt: Stream | None = None
        self._unknown: list[Stream] = []
        #: what the main channel said while others were awaited
        self.held = b""

    @property
    def by_first_bytes(self) -> bool:
        """Whether channels are told apart by what they begin with."""
        on = self._migration.capabilities
        return on("multifd") and not on("mapped-ram")

    @property
    def takes_preempt(self) -> bool:
        """Whether the next channel is the one for urgent pages."""
        return self._migration.capabilities("postcopy-preempt") and self._preempt is None

    @property
    def complete(self) -> bool:
        """Whether there is nothing to wait for."""
        if self.by_first_bytes:
            wanted: int = self._migration.parameters["multifd-channels"]
            return len(self._multifd) >= wanted
        return not (self.takes_preempt and self._vm.profile.traits.preempt_channel_at_setup)

    def take_preempt(self, channel: Stream) -> None:
        """Urgent pages come here."""
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
        """Find out what `channel` is, which begins with `begun`.

        Calls `main` with its first bytes if it is the main one, `go_on` when with it all
        further ones are there, and `fail` or, where first bytes are checked, `stranger` with
        QEMU's text if it is none at all.
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
        """Call `main` with what `channel` begins with, or `stranger` with what is wrong with it.

        Encrypted channels are not looked at.
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
            for said in reader.feed(data):
                if isinstance(said, ChannelFailed):
                    self._broken(said.text, fail)
                    return

        channel.on_data = received
        self._multifd.append((channel, reader))
        received(begun)

    def _broken(self, text: str, fail: Callable[[str], None]) -> None:
        incoming = self._migration.incoming
        if incoming.state.can("failed"):
            fail(text)
        else:
            self._vm.host.warn(text)

    def close(self) -> None:
        """Give all of them back."""
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
