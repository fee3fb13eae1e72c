"""The migration object: made late in the boot, it owns all migration state of the machine.

Making it is a boot step that can fail: property defaults, then the compatibility properties
of accelerator and machine, then `-global`, then what `-incoming config:` left in the early
store, each on top of the last; then one check of everything. What users call parameters
and capabilities are properties of this object (most of them, some with an `x-` before the
name); it has a few more that only affect the stream's format.

See migration/migration.c: migration_object_init() and migration_instance_init();
migration/options.c: migration_properties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from fakeqemu.migration import cpr
from fakeqemu.migration.blockers import Blockers
from fakeqemu.migration.incoming.incoming import Incoming
from fakeqemu.migration.outgoing.outgoing import Outgoing
from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.migration.parameters.capabilities import Capabilities
from fakeqemu.migration.parameters.capability_rules import Situation
from fakeqemu.migration.parameters.early import EarlyParameters
from fakeqemu.migration.parameters.parameter_rules import compressed_or_tls
from fakeqemu.migration.parameters.parameters import Layer, Layers, Parameters
from fakeqemu.migration.proposed import inline
from fakeqemu.migration.proposed.prepared import Prepared
from fakeqemu.migration.state import ENDED, RUNNING
from fakeqemu.migration.transfer.dirtyrate import DirtyRate
from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.qapi.readers.string_input import parse_string
from fakeqemu.qapi.schema import EnumType

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

TYPE = "migration"

#: exit status that stands for SIGABRT
ABORTED = -6

#: what stands before the error that aborts; nobody can know the line of a patched source
_ABORTS = "Unexpected error in migrate_params_check() at ../migration/options.c:0:"

#: what `info migrate` calls globals: (label, property; None for --only-migratable)
_GLOBALS = (
    ("store-global-state", "store-global-state"),
    ("only-migratable", None),
    ("send-configuration", "send-configuration"),
    ("send-section-footer", "send-section-footer"),
    ("send-switchover-start", "send-switchover-start"),
    ("decompress-error-check", "decompress-error-check"),
    ("clear-bitmap-shift", "x-clear-bitmap-shift"),
)


class GlobalValue(Protocol):
    """A property's value given by -global, as parsed at boot."""

    @property
    def driver(self) -> str:
        """QOM type."""

    @property
    def value(self) -> str:
        """As it was given."""

    @property
    def property(self) -> str:  # last: it hides the decorator
        """Name of the property."""


class MigrationObject:
    """Parameters, capabilities and both directions of migration of one machine."""

    def __init__(
        self,
        vm: Machine,
        globals: Iterable[GlobalValue] | None = None,
        early: EarlyParameters | None = None,
        *,
        machine_compat: Iterable[tuple[str, str, str]] | None = None,
        accelerator_compat: Iterable[tuple[str, str, str]] = (),
    ) -> None:
        """The boot step. Raises StartupError with QEMU's text.

        Left out, `globals` and `machine_compat` (QOM type, property, text) come from the
        machine's configuration.
        """
        self._vm = vm
        profile = vm.profile
        configuration = vm.configuration
        self.types = schemainfo.parameter_types(profile)
        self.parameters = Parameters(profile, tuple(self.types))
        self.capabilities = Capabilities(profile, self._survey, vm.host.warn)
        self.traits = profile.traits
        known = profile.migration_defaults
        self._parameter_of = {
            known.property_of(name): name
            for name in self.types
            if name not in known.capabilities
        }
        self._capability_of = {known.property_of(name): name for name in known.capabilities}
        #: properties that are neither parameter nor capability
        self.properties = Layers(
            {
                name: about.get("default-value")
                for name, about in known.properties.items()
                if name not in self._parameter_of and name not in self._capability_of
            }
        )
        self.blockers = Blockers(
            configuration.only_migratable, lambda: self.running, lambda mode: cpr.faults(vm, mode)
        )
        #: "ok", "kernel" or "memory": what blocks background-snapshot
        self.write_tracking = "ok"
        #: why the host does not support postcopy; empty if it does
        self.postcopy_fault = ""
        #: whether KVM runs with its dirty ring
        self.dirty_ring = False
        #: mode of the incoming side as implied by its cpr channel; None: the parameter's
        self.incoming_mode: str | None = None
        self.outgoing = Outgoing(vm, self)
        self.incoming = Incoming(vm, self)
        self.prepared = Prepared(vm, self)
        self.dirty_rate = DirtyRate(vm)

        if machine_compat is None:
            machine_compat = _machine_compat(vm)
        for layer, compat in (
            (Layer.ACCELERATOR, accelerator_compat),
            (Layer.MACHINE, machine_compat),
        ):
            for driver, name, text in compat:
                if self._is_mine(driver):
                    self._set_property(layer, name, text)
        for given in configuration.globals if globals is None else globals:
            if self._is_mine(given.driver):
                self._apply_global(given)
        if early is not None:
            self._apply_early(early)
        try:
            self.parameters.check(self.capabilities)
            self.capabilities.check()
        except QapiError as error:
            raise StartupError(error.desc, hint=error.hint) from error

    # -- state -------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether an outgoing migration is under way."""
        return self.outgoing.status in RUNNING

    def yanks(self) -> list[Callable[[], None]]:
        """What ends the channels of each side that has one."""
        return [side.yank for side in (self.outgoing, self.incoming) if side.yankable]

    def guest_dirties(self, rate: int, working_set: int | None) -> None:
        """The guest writes to `rate` bytes a second, within `working_set` bytes of memory."""
        self.outgoing.guest_dirties(rate, working_set)

    def save_to_image(self) -> None:
        """The machine's state goes into an image at once, as savevm does."""
        self.outgoing.save_to_image()

    @property
    def vcpus(self) -> int:
        """How many virtual CPUs the machine has."""
        return self._vm.cpus.topology.cpus

    @property
    def mode(self) -> str:
        """The MigMode that a migration started now has."""
        mode: str = self.parameters.get("mode", "normal")
        return mode

    def globals(self) -> list[tuple[str, str]]:
        """What `info migrate` calls globals: (name, value as printed)."""
        lines = []
        for label, name in _GLOBALS:
            if name is None:
                value: Any = self.blockers.only_migratable
            elif name in self.properties:
                value = self.properties[name]
            else:
                continue
            lines.append((label, _printed(value)))
        return lines

    def announce(self, status: str) -> None:
        """One side has entered `status`: the event, and at the end no inline values any more."""
        if self.capabilities("events"):
            self._vm.events.emit("MIGRATION", {"status": status})
        if status in ENDED:
            self.prepared.ended(status, self.outgoing.error or self.incoming.error)
            if self.mode != cpr.EXEC:
                inline.end(self)

    # -- commands ----------------------------------------------------------------------------

    def set_parameters(self, changes: Mapping[str, Any]) -> None:
        """What migrate-set-parameters does with checked types. Raises QapiError."""
        self.check_settable(changes)
        self.change(changes, {}, Layer.QMP)

    def query_parameters(self) -> dict[str, Any]:
        """What query-migrate-parameters returns."""
        states = self.capabilities.states() if self.traits.capabilities_are_parameters else {}
        return {**self.parameters.reply(), **states}

    def check_settable(self, changes: Mapping[str, Any]) -> None:
        """Raise QapiError if one of these may not be changed now, whatever its value."""
        self.prepared.check_free()
        if (
            any(name in self.capabilities.names for name in changes)
            and self.running
            and not self.traits.capabilities_in_running_migration
        ):
            raise QapiError("There's a migration process in progress")
        if self.traits.local_immutable_while_incoming and "local" in changes:
            self._vm.taps.check_immutable(bool(changes["local"]))

    def change(
        self, parameters: Mapping[str, Any], states: Mapping[str, bool], layer: Layer
    ) -> None:
        """Set parameters and capabilities (also those among the parameters): all or nothing.

        Raises QapiError with the first error of the whole merged set.
        """
        values = {n: v for n, v in parameters.items() if n not in self.capabilities.names}
        states = {**{n: v for n, v in parameters.items() if n not in values}, **states}
        capability: Callable[[str], bool] = self.capabilities
        if states:
            merged = self.parameters.merged(values)
            survey = partial(self._survey, values=merged)
            capability = self.capabilities.check_change(states, survey).__contains__
        self.parameters.check(capability, values)
        self.parameters.lay_unchecked(values, layer)
        self.capabilities.lay_unchecked(states, layer)
        for name, value in {**values, **states}.items():
            self._vm.journal.note("parameter", name, value=value, layer=layer.value)
        self.outgoing.parameters_changed()

    def set_capabilities(self, wanted: list[dict[str, Any]]) -> None:
        """What migrate-set-capabilities does. Raises QapiError."""
        self.prepared.check_free()
        if self.running:
            raise QapiError("There's a migration process in progress")
        self.capabilities.change((each["capability"], each["state"]) for each in wanted)

    # -- creation ----------------------------------------------------------------------------

    def _is_mine(self, driver: str) -> bool:
        return driver == TYPE or self._vm.profile.is_a(TYPE, driver)

    def _apply_global(self, given: GlobalValue) -> None:
        try:
            self._set_property(Layer.GLOBAL, given.property, given.value)
        except QapiError as error:
            what = f"can't apply global {given.driver}.{given.property}={given.value}: "
            raise StartupError(what + error.desc, hint=error.hint) from error

    def _set_property(self, layer: Layer, name: str, text: str) -> None:
        about = self._vm.profile.migration_defaults.properties.get(name)
        if about is None:
            raise QapiError(f"Property '{TYPE}.{name}' not found")
        parameter = self._parameter_of.get(name)
        type = self.types[parameter] if parameter is not None else None
        values = type.values if isinstance(type, EnumType) else ()
        value = parse_string(about["type"], text, name, self._vm.profile.traits, values)
        if parameter is not None:
            self.parameters.lay(layer, parameter, value)
        elif name in self._capability_of:
            self.capabilities.lay(layer, self._capability_of[name], value)
        else:
            self.properties.lay(layer, name, value)
        self._vm.journal.note("parameter", parameter or name, value=value, layer=layer.value)

    def _apply_early(self, early: EarlyParameters) -> None:
        """Lay on what the command line said early.

        As posted this is a migrate-set-parameters that must not fail: it checks the parameters
        by themselves, and QEMU aborts where it refuses (util/error.c: error_handle()).
        """
        as_posted, implied = early.as_posted, early.implied_mode
        given, changes = early.given or implied is not None, early.values()
        layers = early.take()
        if not self._vm.profile.traits.early_parameters:
            # real versions know the mode of a cpr channel, but never show it
            self.incoming_mode = implied
            return
        if as_posted and given:
            try:
                self.parameters.check(self.capabilities, changes)
            except QapiError as error:
                raise StartupError(
                    error.desc, hint=error.hint, code=ABORTED, heading=_ABORTS
                ) from error
        for layer, values in layers.items():
            for name, value in values.items():
                if name in self.capabilities.names:
                    self.capabilities.lay(layer, name, value)
                else:
                    self.parameters.lay_unchecked({name: value}, layer)
                self._vm.journal.note("parameter", name, value=value, layer=layer.value)

    def _survey(
        self, old: Set[str], new: Set[str], values: Mapping[str, Any] | None = None
    ) -> Situation:
        """The machine as the rules see it; `values`: parameters in place of those in force."""
        compressed = self.parameters.compressed_or_tls
        return Situation(
            new=new,
            old=old,
            traits=self._vm.profile.traits,
            compressed_or_tls=compressed if values is None else compressed_or_tls(values),
            inmigrate=self._vm.runstate.check("inmigrate"),
            listening=self.incoming.listening,
            multi_channel=self.incoming.multi_channel,
            postcopy_fault=self.postcopy_fault,
            write_tracking=self.write_tracking,
            dirty_ring=self.dirty_ring,
        )


def current_migration(vm: Machine) -> MigrationObject | None:
    """The machine's migration object; None before the boot has made it."""
    found = vm.migration.object
    assert found is None or isinstance(found, MigrationObject)
    return found


def _machine_compat(vm: Machine) -> tuple[tuple[str, str, str], ...]:
    asked = vm.configuration.machine_type
    machine = vm.profile.default_machine if asked is None else vm.profile.machine(asked)
    return machine.compat_props if machine is not None else ()


def _printed(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
