"""Migration objects that users make: `-object migration,id=m0,PARAMETER=VALUE` and object-add.

What one is made with before the machine has its migration object is kept early and then laid
over -global, below what other options say: the accelerator's compatibility properties come too
late for it. Afterwards it is the migration object: what qom-get and qom-set do is what
query-migrate-parameters and migrate-set-parameters do. Of two, one is current; the other keeps
its values to itself, so the current one begins without what the other was given, by QMP too.

Proposed; properties are those of migration/options.c: migration_properties, by the names that
migrate-set-parameters and migrate-set-capabilities have for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.migration.object import check_local, current_migration
from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.migration.parameters.parameters import Layer, Layers
from fakeqemu.model.qom.user_object import UserObject
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.parameters.capabilities import Capabilities
    from fakeqemu.migration.parameters.reader import ParameterReader
    from fakeqemu.model.machine import Machine
    from fakeqemu.qapi.schema import Schema

TYPE = "migration"


def _unknown(obj: UserObject, name: str, _value: Any, _schema: Schema) -> None:
    raise QapiError(f"Property '{obj.type}.{name}' not found")


class UserMigrationObject(UserObject):
    """One of them."""

    def __init__(self, owner: UserMigrationObjects, given: dict[str, Any]) -> None:
        super().__init__(TYPE, _unknown)
        self._owner = owner
        self.options = given
        self.own_shapes().update(owner.shapes)

    def get(self, name: str) -> Any:
        """What query-migrate-parameters shows, or of one that is not current its own value."""
        if name not in self.shapes:
            return super().get(name)
        return self._owner.value(self, name)

    def set(self, name: str, value: Any, schema: Schema) -> None:
        """What migrate-set-parameters does. Raises QapiError."""
        if name not in self.shapes:
            super().set(name, value, schema)
            return
        self._owner.set(self, schemainfo.check_object(self._owner.profile, {name: value}))


class UserMigrationObjects:
    """Those of one machine, and which of them is current."""

    def __init__(self, vm: Machine, parameters: ParameterReader) -> None:
        self.profile = vm.profile
        self._vm = vm
        self._parameters = parameters
        self.shapes = schemainfo.object_shapes(vm.profile)
        self.current: UserMigrationObject | None = None
        vm.objects.users[TYPE] = lambda id: self.current is not None and self.current.name == id

    def make(self, _id: str, given: dict[str, Any]) -> UserMigrationObject:
        """One of them, current from now on. Raises QapiError."""
        if self.current is not None and not self.profile.traits.second_migration_object_current:
            raise QapiError(f"there is a migration object already: '{self.current.name}'")
        made = UserMigrationObject(self, dict(given))
        if self.current is None:
            self._put(given)
        else:
            self._replace(self.current, given)
        self.current = made
        return made

    def value(self, obj: UserMigrationObject, name: str) -> Any:
        """A property's value."""
        migration = self._parameters.object
        if obj is not self.current or migration is None:
            return obj.options.get(name, self._default(name))
        if name in migration.properties:
            return migration.properties[name]
        states = migration.capabilities.states()
        return states[name] if name in states else migration.parameters.reply().get(name)

    def set(self, obj: UserMigrationObject, values: dict[str, Any]) -> None:
        """Set checked properties. Raises QapiError."""
        if obj is self.current:
            self._put(values)
        obj.options.update(values)

    def _replace(self, old: UserMigrationObject, given: dict[str, Any]) -> None:
        """Begin anew with `given`, in place of what `old` had. Raises QapiError."""
        migration = current_migration(self._vm)
        if migration is None:
            self._parameters.early.forget(Layer.OBJECT)
            self._put(given)
            return
        if migration.running or migration.incoming.started:
            raise QapiError("There's a migration process in progress")
        had = {name: self.value(old, name) for name in self.shapes}
        settings: tuple[Layers | Capabilities, ...] = (
            migration.parameters, migration.capabilities, migration.properties,
        )  # fmt: skip
        before = [each.snapshot() for each in settings]
        for each in settings:
            each.clear(Layer.OBJECT)
            each.clear(Layer.QMP)
        try:
            self._put(given)
            check_local(self._vm, {"local": migration.parameters.get("local")})
        except QapiError:
            for each, layers in zip(settings, before, strict=True):
                each.restore(layers)
            raise
        old.options = had

    def _put(self, values: dict[str, Any]) -> None:
        migration = current_migration(self._vm)
        if migration is None:
            self._parameters.early.add_config(values, Layer.OBJECT)
            return
        options = {n: v for n, v in values.items() if n in migration.properties}
        rest = {n: v for n, v in values.items() if n not in options}
        migration.change(rest, {}, Layer.QMP)
        for name, value in options.items():
            migration.properties.lay(Layer.QMP, name, value)

    def _default(self, name: str) -> Any:
        known = self.profile.migration_defaults
        if name in known.capabilities:
            return False
        if name in known.parameters:
            return known.parameters[name]
        return known.properties.get(name, {}).get("default-value")
