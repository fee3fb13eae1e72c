"""The settings of migration: parameters, capabilities and other properties, in their layers.

Making them can fail: property defaults, then the compatibility properties of accelerator and
machine, then `-global`, then what `-incoming config:` left in the early store, each on top of the
last; then one check of everything. What users call parameters and capabilities are properties of
the migration object (most of them, some with an `x-` before the name); it has a few more that only
affect the stream's format.

See migration/options.c: migration_properties; migration/migration.c: migration_instance_init().
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any, Protocol

from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.migration.parameters.capabilities import Capabilities
from fakeqemu.migration.parameters.capability_rules import Situation
from fakeqemu.migration.parameters.parameter_rules import compressed_or_tls
from fakeqemu.migration.parameters.parameters import Layer, Layers, Parameters
from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.qapi.readers.string_input import parse_string
from fakeqemu.qapi.schema import EnumType

if TYPE_CHECKING:
    from fakeqemu.configuration import Configuration
    from fakeqemu.migration.parameters.early import EarlyParameters
    from fakeqemu.model.process import Process
    from fakeqemu.model.runstate import RunState

TYPE = "migration"

#: exit status that stands for SIGABRT
ABORTED = -6

#: what stands before the error that aborts; nobody can know the line of a patched source
_ABORTS = "Unexpected error in migrate_params_check() at ../migration/options.c:0:"


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


class IncomingSide(Protocol):
    """What decides about capabilities on the incoming side."""

    @property
    def listening(self) -> bool:
        """Whether it waits for a channel."""

    @property
    def multi_channel(self) -> bool:
        """Whether it can take more channels than one."""


class MigrationSettings:
    """Parameters, capabilities and other properties of one machine's migration."""

    def __init__(self, process: Process, runstate: RunState, configuration: Configuration) -> None:
        """Their defaults; `lay` puts the other layers on top."""
        self._process = process
        self._runstate = runstate
        self._configuration = configuration
        profile = process.profile
        self.traits = profile.traits
        self.types = schemainfo.parameter_types(profile)
        self.parameters = Parameters(profile, tuple(self.types))
        self.capabilities = Capabilities(profile, self._survey, process.host.warn)
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
        #: "ok", "kernel" or "memory": what blocks background-snapshot
        self.write_tracking = "ok"
        #: why the host does not support postcopy; empty if it does
        self.postcopy_fault = ""
        #: whether KVM runs with its dirty ring
        self.dirty_ring = False
        #: mode of the incoming side as implied by its cpr channel; None: the parameter's
        self.incoming_mode: str | None = None

    def lay(
        self,
        globals: Iterable[GlobalValue] | None = None,
        early: EarlyParameters | None = None,
        *,
        machine_compat: Iterable[tuple[str, str, str]] | None = None,
        accelerator_compat: Iterable[tuple[str, str, str]] = (),
    ) -> None:
        """Lay all other layers on the defaults, and check. Raises StartupError with QEMU's text.

        Left out, `globals` and `machine_compat` (QOM type, property, text) come from the
        machine's configuration.
        """
        if machine_compat is None:
            machine_compat = self._machine_compat()
        for layer, compat in (
            (Layer.ACCELERATOR, accelerator_compat),
            (Layer.MACHINE, machine_compat),
        ):
            for driver, name, text in compat:
                if self._is_mine(driver):
                    self._set_property(layer, driver, name, text)
        for given in self._configuration.globals if globals is None else globals:
            if self._is_mine(given.driver):
                self._apply_global(given)
        if early is not None:
            self._apply_early(early)
        try:
            self.parameters.check(self.capabilities)
            self.capabilities.check()
        except QapiError as error:
            raise StartupError(error.desc, hint=error.hint) from error

    @property
    def mode_makes_cpr(self) -> bool:
        """Whether parameter `mode` makes an incoming migration one of CPR, as designs have it.

        For a real one only its cpr channel, or the state that exec left, does; see migration/cpr.c:
        cpr_set_incoming_mode().
        """
        return self.traits.early_parameters or self.traits.tap_cpr

    @property
    def mode(self) -> str:
        """The MigMode that a migration started now has."""
        mode: str = self.parameters.get("mode", "normal")
        return mode

    def announce(self, status: str) -> None:
        """One side has entered `status`: the event, if there are any."""
        if self.capabilities("events"):
            self._process.events.emit("MIGRATION", {"status": status})

    # -- creation ----------------------------------------------------------------------------

    def _is_mine(self, driver: str) -> bool:
        if driver == self.traits.parameters_type:
            return True
        return driver == TYPE or self._process.profile.is_a(TYPE, driver)

    def _apply_global(self, given: GlobalValue) -> None:
        try:
            self._set_property(Layer.GLOBAL, given.driver, given.property, given.value)
        except QapiError as error:
            what = f"can't apply global {given.driver}.{given.property}={given.value}: "
            raise StartupError(what + error.desc, hint=error.hint) from error

    def _set_property(self, layer: Layer, driver: str, name: str, text: str) -> None:
        about = self._process.profile.migration_defaults.properties.get(name)
        parameter = self._parameter_of.get(name)
        # where parameters are not properties of this object, compat properties still reach them
        apart = bool(self.traits.parameters_type) and layer is Layer.GLOBAL
        if about is None or (apart and (parameter is None) == (driver != TYPE)):
            raise QapiError(f"Property '{driver if apart else TYPE}.{name}' not found")
        type = self.types[parameter] if parameter is not None else None
        values = type.values if isinstance(type, EnumType) else ()
        value = parse_string(about["type"], text, name, self._process.profile.traits, values)
        if parameter is not None:
            self.parameters.lay(layer, parameter, value)
        elif name in self._capability_of:
            self.capabilities.lay(layer, self._capability_of[name], value)
        else:
            self.properties.lay(layer, name, value)
        self._process.journal.note("parameter", parameter or name, value=value, layer=layer.value)

    def _apply_early(self, early: EarlyParameters) -> None:
        """Lay on what the command line said early.

        As posted this is a migrate-set-parameters that must not fail: it checks the parameters
        by themselves, and QEMU aborts where it refuses (util/error.c: error_handle()).
        """
        as_posted, implied = early.as_posted, early.implied_mode
        given, changes = early.given, early.values()
        layers = early.take()
        if not self._process.profile.traits.early_parameters:
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
                elif name in self.properties:
                    self.properties.lay(layer, name, value)
                else:
                    self.parameters.lay_unchecked({name: value}, layer)
                self._process.journal.note("parameter", name, value=value, layer=layer.value)

    def _survey(
        self, old: Set[str], new: Set[str], values: Mapping[str, Any] | None = None
    ) -> Situation:
        """The machine as the rules see it; `values`: parameters in place of those in force."""
        compressed, incoming = self.parameters.compressed_or_tls, self._incoming_side()
        return Situation(
            new=new,
            old=old,
            traits=self._process.profile.traits,
            compressed_or_tls=compressed if values is None else compressed_or_tls(values),
            inmigrate=self._runstate.check("inmigrate"),
            listening=incoming is not None and incoming.listening,
            multi_channel=incoming is None or incoming.multi_channel,
            postcopy_fault=self.postcopy_fault,
            write_tracking=self.write_tracking,
            dirty_ring=self.dirty_ring,
        )

    def _incoming_side(self) -> IncomingSide | None:
        """The incoming side; None while nobody has asked for one."""
        return None

    def _machine_compat(self) -> tuple[tuple[str, str, str], ...]:
        profile, asked = self._process.profile, self._configuration.machine_type
        machine = profile.default_machine if asked is None else profile.machine(asked)
        return machine.compat_props if machine is not None else ()
