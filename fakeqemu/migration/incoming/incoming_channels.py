"""Which channels the destination has beside the main one: multifd, and postcopy preempt.

They must be connected before loading begins. Pages are not stored, so what comes on them is read
(`connection`) and discarded.

See migration/migration.c: migration_has_all_channels(); migration/postcopy-ram.c:
postcopy_preempt_new_channel().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.host import Stream

if TYPE_CHECKING:
    from fakeqemu.migration.parameters.settings import MigrationSettings
    from fakeqemu.traits import Traits


class FurtherChannels:
    """The further channels of one destination."""

    def __init__(self, migration: MigrationSettings, traits: Traits) -> None:
        self._migration = migration
        self._traits = traits
        self._multifd = 0
        self._preempt: Stream | None = None

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
            return self._multifd >= wanted
        return not (self.takes_preempt and self._traits.preempt_channel_at_setup)

    def multifd_connected(self) -> None:
        """One more multifd channel is there."""
        self._multifd += 1

    def take_preempt(self, channel: Stream) -> None:
        """Use `channel` as the postcopy preempt channel."""
        self._preempt = channel
        channel.on_close = lambda _: None
        channel.on_data = lambda _: None

    def close(self) -> None:
        """Forget all further channels, and close the one that is kept here."""
        preempt, self._preempt, self._multifd = self._preempt, None, 0
        if preempt is not None:
            preempt.on_data = preempt.on_close = None
            preempt.close()
