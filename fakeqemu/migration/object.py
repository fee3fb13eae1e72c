"""The migration object: made late in the boot, it owns all migration state of the machine.

See migration/migration.c: migration_object_init() and struct MigrationState.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from fakeqemu.migration import cpr
from fakeqemu.migration.blockers import Blockers
from fakeqemu.migration.parameters.parameters import Layer
from fakeqemu.migration.parameters.settings import GlobalValue, MigrationSettings
from fakeqemu.migration.state import ENDED, RUNNING
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.incoming.incoming import Incoming
    from fakeqemu.migration.outgoing.outgoing import Outgoing
    from fakeqemu.migration.parameters.early import EarlyParameters
    from fakeqemu.migration.proposed.prepared import PreparedMigration
    from fakeqemu.migration.transfer.dirtyrate import DirtyRate
    from fakeqemu.model.machine import Machine

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


class MigrationObject(MigrationSettings):
    """The settings and both directions of migration of one machine."""

    def __init__(
        self,
        vm: Machine,
        globals: Iterable[GlobalValue] | None = None,
        early: EarlyParameters | None = None,
        *,
        machine_compat: Iterable[tuple[str, str, str]] | None = None,
        accelerator_compat: Iterable[tuple[str, str, str]] = (),
    ) -> None:
        """The boot step; layers as `MigrationSettings.lay` takes them. Raises StartupError."""
        super().__init__(vm.process, vm.runstate, vm.configuration)
        self._vm = vm
        self.blockers = Blockers(
            vm.configuration.only_migratable,
            lambda: self.running,
            lambda mode: cpr.faults(vm, mode),
        )
        vm.process.on_exit.append(self._exiting)
        vm.runstate.listen(self._runstate_changed)
        self.lay(
            globals,
            early,
            machine_compat=machine_compat,
            accelerator_compat=accelerator_compat,
        )

    # -- parts, made when first asked for, as few machines migrate -----------------------------

    @cached_property
    def outgoing(self) -> Outgoing:
        """The side that sends."""
        from fakeqemu.migration.outgoing.outgoing import Outgoing

        return Outgoing(self._vm, self)

    @cached_property
    def incoming(self) -> Incoming:
        """The side that receives."""
        from fakeqemu.migration.incoming.incoming import Incoming

        return Incoming(self._vm, self)

    @cached_property
    def prepared(self) -> PreparedMigration:
        """What `migrate_prepare` has prepared."""
        from fakeqemu.migration.proposed.prepared import PreparedMigration

        return PreparedMigration(self._vm, self)

    @cached_property
    def dirty_rate(self) -> DirtyRate:
        """What `calc-dirty-rate` measures."""
        from fakeqemu.migration.transfer.dirtyrate import DirtyRate

        return DirtyRate(self._vm)

    def has(self, part: str) -> bool:
        """Whether anybody has asked for it."""
        return part in self.__dict__

    def _sides(self) -> list[Outgoing | Incoming]:
        """Those that anybody has asked for."""
        return [getattr(self, side) for side in ("outgoing", "incoming") if self.has(side)]

    def _exiting(self, _code: int) -> None:
        if self.has("outgoing"):
            self.outgoing.exiting()

    def _runstate_changed(self, _old: str, _new: str) -> None:
        if self.has("outgoing"):
            self.outgoing.runstate_changed()

    def _incoming_side(self) -> Incoming | None:
        return self.incoming if self.has("incoming") else None

    # -- state -------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether an outgoing migration is under way."""
        return self.has("outgoing") and self.outgoing.status in RUNNING

    def yanks(self) -> list[Callable[[], None]]:
        """What ends the channels of each side that has one."""
        return [side.yank for side in self._sides() if side.yankable]

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
        super().announce(status)
        if status in ENDED:
            if self.has("prepared"):
                errors = [side.error for side in self._sides() if side.error]
                self.prepared.ended(status, errors[0] if errors else "")
            # what was sent in mode cpr-exec is only over when the program could not be executed
            if status != "completed" or self.mode != cpr.EXEC:
                from fakeqemu.migration.proposed import inline

                inline.end(self)

    # -- commands ----------------------------------------------------------------------------

    def set_parameters(self, changes: Mapping[str, Any]) -> None:
        """What migrate-set-parameters does with checked types. Raises QapiError."""
        self.change(changes, {}, Layer.QMP)

    def query_parameters(self) -> dict[str, Any]:
        """What query-migrate-parameters returns."""
        states = self.capabilities.states() if self.traits.capabilities_are_parameters else {}
        return {**self.parameters.reply(), **states}

    def _check_unprepared(self) -> None:
        if self.has("prepared"):
            self.prepared.check_free()

    def _check_settable(self, changes: Mapping[str, Any]) -> None:
        """Raise QapiError if one of these may not be changed now."""
        self._check_unprepared()
        if (
            any(name in self.capabilities.names for name in changes)
            and self.running
            and not self.traits.capabilities_in_running_migration
        ):
            raise QapiError("There's a migration process in progress")
        check_local(self._vm, changes)

    def change(
        self, parameters: Mapping[str, Any], states: Mapping[str, bool], layer: Layer
    ) -> None:
        """Set parameters and capabilities (also those among the parameters): all or nothing.

        Raises QapiError with the first error of the whole merged set.
        """
        self._check_settable(parameters)
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
        if self.has("outgoing"):
            self.outgoing.parameters_changed()

    def set_capabilities(self, wanted: list[dict[str, Any]]) -> None:
        """What migrate-set-capabilities does. Raises QapiError."""
        self._check_unprepared()
        if self.running:
            raise QapiError("There's a migration process in progress")
        self.capabilities.change((each["capability"], each["state"]) for each in wanted)


def current_migration(vm: Machine) -> MigrationObject | None:
    """The machine's migration object; None before the boot has made it."""
    found = vm.migration.object
    assert found is None or isinstance(found, MigrationObject)
    return found


def check_local(vm: Machine, changes: Mapping[str, Any]) -> None:
    """Raise QapiError if `local` is among the changes and a TAP has read it for good."""
    if vm.profile.traits.local_immutable_while_incoming and "local" in changes:
        vm.taps.check_immutable(bool(changes["local"]))


def _printed(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
