"""Migration capabilities: switches that are set together or not at all.

Names and order come from the profile, which may be on together is decided in `capability_rules`.

See migration/options.c: qmp_migrate_set_capabilities() and migrate_caps_check().
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import TYPE_CHECKING, Any

from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.migration.parameters.capability_rules import Situation, first_fault
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.profile import Profile

#: builds the rules' view of the machine from the names on now and the names wanted
Survey = Callable[[Set[str], Set[str]], Situation]


class Capabilities:
    """The migration capabilities of one machine."""

    def __init__(self, profile: Profile, survey: Survey, warn: Callable[[str], None]) -> None:
        self.names = profile.migration_defaults.capabilities
        self._deprecated = schemainfo.deprecated_capabilities(profile)
        self._survey = survey
        self._warn = warn
        self._on: set[str] = set()

    def __call__(self, name: str) -> bool:
        """Whether capability `name` is on; a name the version lacks never is."""
        return name in self._on

    def reply(self) -> list[dict[str, Any]]:
        """As query-migrate-capabilities shows them."""
        return [{"capability": name, "state": name in self._on} for name in self.names]

    def turn_on(self, name: str) -> None:
        """Switch on unchecked: for the layers below QMP, which `check` checks as a whole."""
        self._on.add(name)

    def turn_off(self, name: str) -> None:
        """Switch off unchecked."""
        self._on.discard(name)

    def check(self) -> None:
        """Check the capabilities in force as if just set. Raises QapiError."""
        self._judge(set(), self._on)

    def change(self, wanted: Iterable[tuple[str, bool]]) -> None:
        """Set states; of a name given twice the last counts. All or nothing.

        Raises QapiError with the first rule that refuses the merged set.
        """
        merged = set(self._on)
        for name, state in wanted:
            (merged.add if state else merged.discard)(name)
        self._judge(self._on, merged)
        self._on = merged

    def _judge(self, old: Set[str], new: Set[str]) -> None:
        for name in self.names:
            if name in new and name in self._deprecated:
                self._warn(f"warning: {name} capability is deprecated")
        fault = first_fault(self._survey(old, new))
        if fault is not None:
            raise QapiError(fault)
