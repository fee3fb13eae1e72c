"""What stands against migrating: devices without migration support, and explicit blockers.

Two kinds, because QEMU shows them differently: a device that cannot migrate is named by its
path, an explicit blocker gives its own reason and may hold for some modes only. Under
`--only-migratable` neither can come into being; while a migration runs no blocker can.
Memory that no other process can map blocks the modes that would hand it over; that is worked
out from the memory there is when somebody asks.

See migration/migration.c: migrate_add_blocker() and migration_is_blocked().
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from fakeqemu.qapi.errors import QapiError


@dataclass(frozen=True, slots=True, eq=False)
class Blocker:
    """One explicit reason not to migrate; its identity removes it again."""

    reason: str
    #: migration modes it holds for; None: all
    modes: frozenset[str] | None = None
    #: what takes it away when it goes
    owner: object = None


class Blockers:
    """Everything that blocks migration of one machine."""

    def __init__(
        self,
        only_migratable: bool,
        running: Callable[[], bool],
        of_memory: Callable[[str], tuple[list[str], list[str]]] = lambda _mode: ([], []),
    ) -> None:
        """`of_memory`: the reasons of the guest's memory against a mode.

        In two parts: of memory older and younger than what has explicit reasons.
        """
        self.only_migratable = only_migratable
        self._running = running
        self._of_memory = of_memory
        self._blockers: list[Blocker] = []
        #: (path of the section, owner)
        self._devices: list[tuple[str, object]] = []

    def add(
        self,
        reason: str,
        modes: Collection[str] | None = None,
        *,
        internal: bool = False,
        owner: object = None,
    ) -> Blocker:
        """Block migration (in `modes`) for `reason` until `remove`, or `remove_of` the owner.

        `internal` blockers are QEMU's own passing ones and ignore --only-migratable.
        Raises QapiError under --only-migratable and while a migration runs.
        """
        normal = modes is None or "normal" in modes
        if self.only_migratable and normal and not internal:
            text = f"disallowing migration blocker (--only-migratable) for: {reason}"
            raise QapiError(text)
        if self._running():
            text = "disallowing migration blocker (migration/snapshot in progress) for: "
            raise QapiError(text + reason)
        blocker = Blocker(reason, frozenset(modes) if modes is not None else None, owner)
        self._blockers.append(blocker)
        return blocker

    def remove(self, blocker: Blocker) -> None:
        """Take a blocker away; harmless when it is gone."""
        if blocker in self._blockers:
            self._blockers.remove(blocker)

    def add_device(self, path: str, owner: object = None) -> None:
        """A device that cannot migrate has been plugged; its section is at `path`.

        That is `0000:00:02.0/nvme`. `--only-migratable` has been asked before.
        """
        self._devices.append((path, owner))

    def remove_of(self, owner: object) -> None:
        """`owner` has gone, and its reasons with it."""
        self._blockers = [b for b in self._blockers if b.owner is not owner]
        self._devices = [entry for entry in self._devices if entry[1] is not owner]

    def reasons(self, mode: str) -> list[str]:
        """As `blocked-reasons` lists them, newest explicit one last, devices after all."""
        devices = [f"non-migratable device: {path}" for path, _ in self._devices]
        explicit = [blocker.reason for blocker in self._of(mode)]
        first, last = self._of_memory(mode)
        return first + explicit + last + devices[::-1]

    def check(self, mode: str) -> None:
        """Raise QapiError with the reason that `migrate` gives."""
        if self._devices:
            raise QapiError(f"State blocked by non-migratable device '{self._devices[0][0]}'")
        for reason in reversed(self.reasons(mode)):
            raise QapiError(reason)

    def _of(self, mode: str) -> list[Blocker]:
        return [b for b in self._blockers if b.modes is None or mode in b.modes]
