"""Migration capabilities: switches that are set together or not at all.

Names and order come from the profile, which may be on together is decided in `capability_rules`.

See migration/options.c: qmp_migrate_set_capabilities() and migrate_caps_check().
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import TYPE_CHECKING, Any

from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.migration.parameters.capability_rules import Situation, first_fault
from fakeqemu.migration.parameters.parameters import Explanation, Layer
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
        #: the states that each layer gave, lowest layer first
        self._layers: dict[Layer, dict[str, bool]] = {layer: {} for layer in Layer}
        #: the names that are on: what the layers come to
        self._on: set[str] = set()

    def __call__(self, name: str) -> bool:
        """Whether capability `name` is on; a name the version lacks never is."""
        return name in self._on

    def explain(self, name: str) -> Explanation:
        """The state of `name` in each layer that says something, and which layer wins."""
        layers: dict[Layer, Any] = {Layer.DEFAULT: False}
        layers |= {layer: given[name] for layer, given in self._layers.items() if name in given}
        return Explanation(name, name in self._on, next(reversed(layers)), layers)

    def reply(self) -> list[dict[str, Any]]:
        """As query-migrate-capabilities shows them."""
        return [{"capability": name, "state": name in self._on} for name in self.names]

    def lay(self, layer: Layer, name: str, state: bool) -> None:
        """Set unchecked: for the layers below QMP, which `check` checks as a whole."""
        self._layers[layer][name] = state
        (self._on.add if state else self._on.discard)(name)

    def check(self) -> None:
        """Check the capabilities in force as if just set. Raises QapiError."""
        self._judge(set(), self._on)

    def change(self, wanted: Iterable[tuple[str, bool]]) -> None:
        """Set states; of a name given twice the last counts. All or nothing.

        Raises QapiError with the first rule that refuses the merged set.
        """
        merged, given = set(self._on), dict(wanted)
        for name, state in given.items():
            (merged.add if state else merged.discard)(name)
        self._judge(self._on, merged)
        self._on = merged
        self._layers[Layer.QMP].update(given)

    def _judge(self, old: Set[str], new: Set[str]) -> None:
        for name in self.names:
            if name in new and name in self._deprecated:
                self._warn(f"warning: {name} capability is deprecated")
        fault = first_fault(self._survey(old, new))
        if fault is not None:
            raise QapiError(fault)
