"""What the machine's parts ask of migration, which stands above them and implements it.

Some parts are there before migration is, and a machine that never boots has none: they ask through
`CurrentMigration`.

See migration/migration.c: current_migration, migrate_add_blocker() and migration_is_running();
util/yank.c: yank_register_function().
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol


class MigrationBlockers(Protocol):
    """Reasons why the machine cannot migrate now."""

    def add(
        self,
        reason: str,
        modes: Collection[str] | None = None,
        *,
        internal: bool = False,
        owner: object = None,
    ) -> object:
        """Block migration (in `modes`) with `reason`; gives what `remove` takes.

        `internal` ones ignore --only-migratable. Raises QapiError.
        """

    def add_device(self, path: str, owner: object = None) -> None:
        """A device that cannot migrate has been plugged; its section is at `path`."""

    def remove(self, blocker: Any) -> None:
        """Remove one that `add` gave."""

    def remove_of(self, owner: object) -> None:
        """Remove all of `owner`, which has gone."""


class MigrationParameterReader(Protocol):
    """Migration parameters for those who ask before there is a migration object, or after."""

    def read(self, name: str) -> Any:
        """The parameter's value now; None where there is none."""

    def cpr_is_incoming(self) -> bool:
        """Whether backends are to take over descriptors of an old process."""


class Migration(Protocol):
    """Both directions of migration of one machine."""

    @property
    def running(self) -> bool:
        """Whether an outgoing migration is under way."""

    @property
    def blockers(self) -> MigrationBlockers:
        """What blocks an outgoing migration."""

    def yanks(self) -> Sequence[Callable[[], None]]:
        """What ends the channels of each side that has one."""

    def guest_dirties(self, rate: int, working_set: int | None) -> None:
        """The guest writes to `rate` bytes a second, within `working_set` bytes of memory."""

    def save_to_image(self) -> None:
        """The machine's state goes into an image at once, as savevm does."""


class NoMigrationParameters:
    """What versions read that look at no parameter early: nothing."""

    def read(self, name: str) -> Any:  # noqa: ARG002
        """Nothing is set."""
        return None

    def cpr_is_incoming(self) -> bool:
        """Backends open their own descriptors."""
        return False


class CurrentMigration:
    """The migration of a machine, from its boot's making it on."""

    def __init__(self) -> None:
        #: set by the boot step that makes it; None before
        self.object: Migration | None = None
        #: set by the boot before that; the object's parameters once it is there
        self.parameters: MigrationParameterReader = NoMigrationParameters()
        #: a tester's: with which errno an incoming section fails to load, 0 if it does not
        self.load_fault: Callable[[str], int] | None = None

    @property
    def running(self) -> bool:
        """Whether an outgoing migration is under way."""
        return self.object is not None and self.object.running
