"""Migration blockers: devices without migration support, and explicit blockers.

Two kinds, because QEMU reports them differently: a device that cannot migrate is named by its path,
an explicit blocker gives its own reason and may apply to some modes only. Under `--only-migratable`
neither can be added; while a migration runs no blocker can. Memory that no other process can map
blocks the CPR modes; that is computed when `blockers` are queried.

See migration/migration.c: migrate_add_blocker() and migration_is_blocked().
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from fakeqemu.dataclass import dataclass
from fakeqemu.qapi.errors import QapiError


@dataclass(frozen=True, slots=True, eq=False)
class Blocker:
    """One explicit migration blocker; compared by identity when it is removed."""

    reason: str
    #: migration modes that it blocks; None: all
    modes: frozenset[str] | None = None
    #: the device or backend whose removal removes the blocker
    owner: object = None


class Blockers:
    """Everything that blocks migration of one machine."""

    def __init__(
        self,
        only_migratable: bool,
        running: Callable[[], bool],
        of_memory: Callable[[str], tuple[list[str], list[str]]] = lambda _mode: ([], []),
    ) -> None:
        """`of_memory`: blockers of a mode that come from the guest's memory.

        In two parts: of memory older and younger than what has explicit blockers.
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
        """Block migration (in `modes`) with `reason` until `remove`, or `remove_of` the owner.

        `internal` blockers are QEMU's own temporary ones and ignore --only-migratable. Raises
        QapiError under --only-migratable and while a migration runs.
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
        """Remove a blocker; no effect if it has been removed already."""
        if blocker in self._blockers:
            self._blockers.remove(blocker)

    def add_device(self, path: str, owner: object = None) -> None:
        """A device that cannot migrate has been plugged; its section is at `path`.

        That is `0000:00:02.0/nvme`. `--only-migratable` has been asked before.
        """
        self._devices.append((path, owner))

    def remove_of(self, owner: object) -> None:
        """Remove all blockers of `owner`, which has been unplugged or deleted."""
        self._blockers = [b for b in self._blockers if b.owner is not owner]
        self._devices = [entry for entry in self._devices if entry[1] is not owner]

    def reasons(self, mode: str) -> list[str]:
        """Texts as in `blocked-reasons`: newest explicit one last, devices after all."""
        devices = [f"non-migratable device: {path}" for path, _ in self._devices]
        explicit = [blocker.reason for blocker in self._of(mode)]
        first, last = self._of_memory(mode)
        return first + explicit + last + devices[::-1]

    def check(self, mode: str) -> None:
        """Raise QapiError with the first blocker, as `migrate` does."""
        if self._devices:
            raise QapiError(f"State blocked by non-migratable device '{self._devices[0][0]}'")
        for reason in reversed(self.reasons(mode)):
            raise QapiError(reason)

    def _of(self, mode: str) -> list[Blocker]:
        return [b for b in self._blockers if b.modes is None or mode in b.modes]
