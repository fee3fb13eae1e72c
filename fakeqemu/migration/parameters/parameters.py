"""Migration parameters, each value with the layer that it comes from.

Names, types and defaults come from the profile; limits are in `parameter_rules`. A parameter's
value is that of the highest layer that says something about it:

    default < accelerator compat < machine compat < -global < -object < -incoming config
    < early option < implied < QMP < inline

Implied is the mode that a cpr channel, or state left by an exec, brings with it. Only proposals
have the layers -object, early option and inline.

Changes are all or nothing: the merged set is checked as a whole, then laid down.

See migration/options.c: qmp_migrate_set_parameters(), migrate_params_apply() and
migrate_params_test_apply().
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass
from fakeqemu.migration.parameters.parameter_rules import check_parameters, compressed_or_tls

if TYPE_CHECKING:
    from fakeqemu.profile import Profile


class Layer(Enum):
    """Where a value comes from, lowest first."""

    DEFAULT = "default"
    ACCELERATOR = "accelerator compat"
    MACHINE = "machine compat"
    GLOBAL = "-global"
    #: a migration object that a user made before the machine's
    OBJECT = "-object"
    CONFIG = "-incoming config"
    #: an option of its own, or one with the members of a command
    OPTION = "early option"
    IMPLIED = "implied"
    QMP = "QMP"
    #: given with migrate or migrate-incoming, for that migration alone; shown by no query
    INLINE = "inline"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a parameter's value comes from."""

    #: the parameter
    name: str
    #: the value in force; None if it was never set and has no default
    value: Any
    #: the layer that gives it; None if none does
    winner: Layer | None
    #: what each layer says, lowest first; silent layers are absent
    layers: dict[Layer, Any]


class Layers:
    """Named values in layers; also holds the migration object's other properties."""

    def __init__(self, defaults: Mapping[str, Any]) -> None:
        self._layers: dict[Layer, dict[str, Any]] = {layer: {} for layer in Layer}
        self._layers[Layer.DEFAULT] = dict(defaults)

    def lay(self, layer: Layer, name: str, value: Any) -> None:
        """Set `name` in `layer`, unchecked; again replaces."""
        self._layers[layer][name] = value

    def explain(self, name: str) -> Explanation:
        """The value of `name` in each layer, and which layer wins."""
        layers = {
            layer: self._layers[layer][name] for layer in Layer if name in self._layers[layer]
        }
        winner = next(reversed(layers), None)
        value = layers[winner] if winner is not None else None
        return Explanation(name, value, winner, layers)

    def values(self, without: Layer | None = None) -> dict[str, Any]:
        """Every value in force, or that would be `without` a layer; in order of first mention."""
        merged: dict[str, Any] = {}
        for layer in Layer:
            if layer is not without:
                merged.update(self._layers[layer])
        return merged

    def snapshot(self) -> dict[Layer, dict[str, Any]]:
        """What `restore` takes back to."""
        return {layer: dict(values) for layer, values in self._layers.items()}

    def restore(self, layers: dict[Layer, dict[str, Any]]) -> None:
        """Be as when `snapshot` was taken."""
        self._layers = layers

    def clear(self, layer: Layer) -> None:
        """Let a layer say nothing."""
        self._layers[layer] = {}

    def __getitem__(self, name: str) -> Any:
        explanation = self.explain(name)
        if explanation.winner is None:
            raise KeyError(name)
        return explanation.value

    def __contains__(self, name: object) -> bool:
        return any(name in values for values in self._layers.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self.values())


class Parameters(Layers):
    """The migration parameters of one machine."""

    def __init__(self, profile: Profile, members: tuple[str, ...]) -> None:
        super().__init__(copy.deepcopy(profile.migration_defaults.parameters))
        self._traits = profile.traits
        #: every name migrate-set-parameters takes, in the schema's order
        self.members = members

    def get(self, name: str, default: Any = None) -> Any:
        """The value in force, or `default` if the version has no such parameter."""
        explanation = self.explain(name)
        return default if explanation.winner is None else explanation.value

    @property
    def compressed_or_tls(self) -> bool:
        """Whether multifd compression or TLS is set up."""
        return compressed_or_tls(self.values())

    def reply(self) -> dict[str, Any]:
        """As query-migrate-parameters shows them."""
        return copy.deepcopy(self.values(without=Layer.INLINE))

    def check(
        self, capability: Callable[[str], bool], changes: Mapping[str, Any] | None = None
    ) -> None:
        """Raise QapiError with the first error of the values in force, `changes` laid over."""
        check_parameters(self.merged(changes or {}), self.values(), capability, self._traits)

    def change(
        self, changes: Mapping[str, Any], layer: Layer, capability: Callable[[str], bool]
    ) -> None:
        """Set `changes` in `layer` (checked types, null for an unset tls member).

        All or nothing. Raises QapiError with the first error of the merged set.
        """
        self.check(capability, changes)
        self.lay_unchecked(changes, layer)

    def merged(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The values in force, `changes` laid over."""
        return {**self.values(), **self._stored(changes)}

    def lay_unchecked(self, changes: Mapping[str, Any], layer: Layer) -> None:
        """Set `changes` in `layer`, for the layers below QMP, which `check` checks as a whole."""
        for name, value in self._stored(changes).items():
            self.lay(layer, name, value)

    def _stored(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Changes as they are kept: null is an empty text, inert parameters are left out."""
        return {
            name: "" if value is None else copy.deepcopy(value)
            for name, value in changes.items()
            if name not in self._traits.inert_parameters
        }
