"""Parameters and capabilities given with `migrate` or `migrate-incoming`, beside the address.

They are for that migration alone: a layer over all others, which queries do not show and which
the end of the migration clears. Or, where they are stored, they are what migrate-set-parameters
would have set. What is wrong with them is found before anything begins, and what fails to begin
leaves everything as it was.

What devices read when they are made is global: their value cannot be one thing for them and
another for the migration, so a different one inline is an error.

Proposed in addition to qapi/migration.json: migrate and migrate-incoming.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fakeqemu.migration.parameters.early import READABLE_EARLY
from fakeqemu.migration.parameters.parameters import Layer
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.object import MigrationObject


def start_with(
    migration: MigrationObject,
    config: Mapping[str, Any] | None,
    capabilities: Sequence[Mapping[str, Any]] | None,
    start: Callable[[], None],
) -> None:
    """`start()` with inline values in force. Raises QapiError, and then nothing has changed."""
    if migration.running or (config is None and capabilities is None):
        start()
        return
    parameters, states = migration.parameters, migration.capabilities
    before = parameters.snapshot(), states.snapshot()
    end(migration)
    try:
        set_inline(migration, config or {}, capabilities or ())
        start()
    except QapiError:
        parameters.restore(before[0])
        states.restore(before[1])
        raise


def set_inline(
    migration: MigrationObject,
    config: Mapping[str, Any],
    capabilities: Sequence[Mapping[str, Any]],
) -> None:
    """Put inline values in force, all or none. Raises QapiError."""
    check_global(migration, config)
    stored = migration.traits.inline_parameters_stored
    states = {each["capability"]: each["state"] for each in capabilities}
    migration.change(config, states, Layer.QMP if stored else Layer.INLINE)


def check_global(migration: MigrationObject, config: Mapping[str, Any]) -> None:
    """Raise QapiError for a value that contradicts one that is given globally and read early."""
    for name in sorted(READABLE_EARLY & set(config)):
        found = migration.parameters.explain(name)
        if found.winner not in (None, Layer.DEFAULT, Layer.INLINE) and found.value != config[name]:
            raise QapiError(
                f"Parameter '{name}' contradicts its global value, which is read when devices"
                " are made"
            )


def end(migration: MigrationObject) -> None:
    """The migration is over, and so are the values given with it."""
    migration.parameters.clear(Layer.INLINE)
    migration.capabilities.clear(Layer.INLINE)
