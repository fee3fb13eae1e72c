"""Migration capabilities: switches that are set together or not at all.

Names and order come from the profile, which may be on together is decided in `capability_rules`.

See migration/options.c: qmp_migrate_set_capabilities() and migrate_caps_check().
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any

from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.migration.parameters.capability_rules import Situation, first_fault
from fakeqemu.migration.parameters.parameters import Explanation, Layer, Layers
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
        #: the states that each layer gave
        self._layers = Layers({})
        #: the names that are on: what the layers come to
        self._on: frozenset[str] = frozenset()

    def __call__(self, name: str) -> bool:
        """Whether capability `name` is on; a name the version lacks never is."""
        return name in self._on

    def explain(self, name: str) -> Explanation:
        """The state of `name` in each layer that says something, and which layer wins."""
        layers: dict[Layer, Any] = {Layer.DEFAULT: False, **self._layers.explain(name).layers}
        return Explanation(name, name in self._on, next(reversed(layers)), layers)

    def states(self) -> dict[str, bool]:
        """Every capability and its state, as queries show it."""
        shown = self._layers.values(without=Layer.INLINE)
        return {name: shown.get(name, False) for name in self.names}

    def reply(self) -> list[dict[str, Any]]:
        """As query-migrate-capabilities shows them."""
        return [{"capability": name, "state": state} for name, state in self.states().items()]

    def lay(self, layer: Layer, name: str, state: bool) -> None:
        """Set unchecked: for the layers below QMP, which `check` checks as a whole."""
        self._layers.lay(layer, name, state)
        self._merge()

    def check(self) -> None:
        """Check the capabilities in force as if just set. Raises QapiError."""
        self._judge(set(), self._on, self._survey)

    def change(self, wanted: Iterable[tuple[str, bool]]) -> None:
        """Set states by QMP; of a name given twice the last counts. All or nothing.

        Raises QapiError with the first rule that refuses the merged set.
        """
        given = dict(wanted)
        self.check_change(given)
        self.lay_unchecked(given, Layer.QMP)

    def check_change(self, given: Mapping[str, bool], survey: Survey | None = None) -> Set[str]:
        """The names that would be on with `given`. Raises QapiError if a rule refuses them."""
        merged = (self._on | {name for name, state in given.items() if state}) - {
            name for name, state in given.items() if not state
        }
        self._judge(self._on, merged, survey or self._survey)
        return merged

    def lay_unchecked(self, given: Mapping[str, bool], layer: Layer) -> None:
        """Set what `check_change` has checked."""
        for name, state in given.items():
            self._layers.lay(layer, name, state)
        self._merge()

    def snapshot(self) -> dict[Layer, dict[str, Any]]:
        """What `restore` takes back to."""
        return self._layers.snapshot()

    def restore(self, layers: dict[Layer, dict[str, Any]]) -> None:
        """Be as when `snapshot` was taken."""
        self._layers.restore(layers)
        self._merge()

    def clear(self, layer: Layer) -> None:
        """Let a layer say nothing."""
        self._layers.clear(layer)
        self._merge()

    def _merge(self) -> None:
        self._on = frozenset(name for name, state in self._layers.values().items() if state)

    def _judge(self, old: Set[str], new: Set[str], survey: Survey) -> None:
        for name in self.names:
            if name in new and name in self._deprecated:
                self._warn(f"warning: {name} capability is deprecated")
        fault = first_fault(survey(old, new))
        if fault is not None:
            raise QapiError(fault)
