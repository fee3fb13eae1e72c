"""The virtual machine: the parts a management tool can see, held together.

Each part owns its own state; this class owns none but the parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.clock import Clock
from fakeqemu.journal import Journal
from fakeqemu.model.events import Events
from fakeqemu.model.host import Host

if TYPE_CHECKING:
    from fakeqemu.boot.configuration import Configuration
    from fakeqemu.profile import Profile


class Machine:
    """One emulated QEMU process, minus its sockets."""

    def __init__(
        self, profile: Profile, configuration: Configuration, clock: Clock, host: Host
    ) -> None:
        self.profile = profile
        self.configuration = configuration
        self.clock = clock
        self.host = host
        self.journal = Journal(clock)
        self.events = Events(clock, self.journal)
