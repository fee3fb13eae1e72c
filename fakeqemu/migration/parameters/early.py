"""Early parameters: what is said of parameters before there is a migration object.

The object that owns migration parameters is made late in the boot, after net backends: it
needs the accelerator and the machine type first, because their compatibility properties are
layers below the user's. What has to be known earlier (is this a CPR start; may a TAP open its
device) is therefore kept here, for a while: the step that makes the object lays it on top of
`-global` and empties the store. Which options and commands fill it is a matter of proposals.

Reading early is opt-in, name by name. There are no defaults yet, and a value that could
still change under the reader is a trap, so reading any other name is a bug of the caller and
raises `EarlyReadError`.

Two modes: by default the option does what it is meant to do. With `as_posted` the store
behaves as the patches did: any `-incoming` makes the machine wait for one, a lone `config:`
included, and a value that the object refuses aborts the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fakeqemu.migration.parameters.parameters import Layer

#: what may be read before the migration object exists
READABLE_EARLY = frozenset({"mode", "local"})

#: modes of the incoming side in which descriptors and state come from the old process
CPR_INCOMING_MODES = frozenset({"cpr-transfer", "cpr-exec"})


class EarlyReadError(AssertionError):
    """A parameter was read before it has a value: the reader asks too soon."""


class EarlyParameters:
    """The early parameter store of one machine."""

    def __init__(self, *, defaults: Mapping[str, Any] | None = None, as_posted: bool = False):
        """`defaults`: let unset names read as these instead of as None, and no other be illegal."""
        self.as_posted = as_posted
        self._defaults = dict(defaults or {})
        self._given: dict[Layer, dict[str, Any]] = {}
        self._gone = False

    @property
    def given(self) -> bool:
        """Whether any parameters were given, none of them included."""
        return bool(self._given)

    def add_config(self, values: Mapping[str, Any], layer: Layer = Layer.CONFIG) -> None:
        """Keep checked parameters; where only one may say some, the option parser sees to it."""
        self._given[layer] = {**self._given.get(layer, {}), **values}

    def forget(self, layer: Layer) -> None:
        """Keep nothing of what a layer said."""
        self._given.pop(layer, None)

    @property
    def implied_mode(self) -> str | None:
        """The mode that a cpr channel implies; None without one."""
        return self._given.get(Layer.IMPLIED, {}).get("mode")

    def imply_mode(self, mode: str) -> None:
        """A cpr channel, or state left by exec, says which mode this is: it overrules options."""
        self.add_config({"mode": mode}, Layer.IMPLIED)

    def read(self, name: str) -> Any:
        """The early value of `name`; None if unset (or its default, if the store has them).

        `mode` is never unset: it reads `normal`. Raises EarlyReadError for a name that may
        not be read early, and once the store is empty.
        """
        if self._gone:
            raise EarlyReadError(f"early parameter '{name}' read after the migration object")
        if name not in READABLE_EARLY and name not in self._defaults:
            raise EarlyReadError(f"migration parameter '{name}' may not be read early")
        values = self.values()
        if name in values:
            return values[name]
        return self._defaults.get(name, "normal" if name == "mode" else None)

    def values(self) -> dict[str, Any]:
        """Everything that was said, of a name what the highest layer says."""
        merged: dict[str, Any] = {}
        for layer in Layer:
            merged.update(self._given.get(layer, {}))
        return merged

    def take(self) -> dict[Layer, dict[str, Any]]:
        """Hand everything to the migration object, by layer, and forget it."""
        given = {layer: self._given[layer] for layer in Layer if layer in self._given}
        self._given, self._gone = {}, True
        return given
