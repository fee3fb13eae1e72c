"""The TPM backends of one machine, of which there can be one, and the device that uses it.

See system/tpm.c: tpm_init_tpmdev(), tpm_cleanup() and qmp_query_tpm(); backends/tpm/tpm_util.c:
set_tpm(); hw/tpm/tpm_tis_isa.c: tpm_tis_isa_realizefn(); hw/tpm/tpm_crb.c: tpm_crb_realize() and
tpm_crb_reset().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.device import missing_value
from fakeqemu.model.tpm.emulator import TpmEmulator, TpmError, attach
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fakeqemu.formats.migration_stream.vmstate.tpm_emulator import TpmBlob
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.lifecycle import Lifecycle
    from fakeqemu.model.migration import CurrentMigration
    from fakeqemu.model.process import Process
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.model.runstate import RunState

_BLOCKS = "Migration disabled: TPM emulator does not support migration"
#: type of a device -> bytes that it has for a command
_BUFFERS = {"tpm-tis": 4096, "tpm-crb": 4096 - 128}
_ISA_IRQS = 16


class Tpm:
    """The TPM of a machine, if it has one."""

    def __init__(
        self,
        process: Process,
        runstate: RunState,
        lifecycle: Lifecycle,
        migration: CurrentMigration,
        *,
        only_migratable: bool,
    ) -> None:
        self._process = process
        self._runstate = runstate
        self._migration = migration
        self._only_migratable = only_migratable
        self._device: DeviceObject | None = None
        self.emulator: TpmEmulator | None = None
        #: its storage has been let go, and is to be locked again should the guest go on here
        self._relocks = False
        #: the main loop ends, and what it leaves is cleaned up
        self._ends = False
        lifecycle.on_state_change.append(self._guest_changed)
        lifecycle.on_reset.append(lambda _cause: self._reset())
        lifecycle.on_shutdown.append(self._shutting_down)
        process.on_exit.append(self._exiting)

    def add_emulator(self, id: str, chardev: Chardev) -> list[str]:
        """Attach an emulator; what fails it, as QEMU reports it, or nothing."""
        emulator = TpmEmulator(id, self._process.host, self._process.profile.traits)
        try:
            attach(emulator, chardev)
        except TpmError as error:
            return [str(error)]
        reports: list[str] = []
        try:
            emulator.prepare()
            if not emulator.can_migrate and self._only_migratable:
                raise TpmError(f"disallowing migration blocker (--only-migratable) for: {_BLOCKS}")
            self.emulator = emulator
            self.block_migration()
            return []
        except TpmError as error:
            reports.append(str(error))
        self._end(emulator, reports.append)
        return reports

    def block_migration(self) -> None:
        """An emulator whose state cannot be read is in migration's way, once there is one."""
        emulator, migration = self.emulator, self._migration.object
        if emulator is not None and migration is not None and not emulator.can_migrate:
            migration.blockers.add(_BLOCKS, owner=self)

    def save(self) -> Mapping[int, TpmBlob]:
        """The emulator's state, for a migration. Raises TpmError."""
        assert self.emulator is not None
        self._relocks = False
        blobs = self.emulator.save()
        self._relocks = True
        return blobs

    def load(self, blobs: Mapping[int, TpmBlob]) -> None:
        """The state that a migration has brought. Raises TpmError."""
        if self.emulator is not None:
            self.emulator.load(blobs)

    # -- the device ------------------------------------------------------------------------------

    def choose(self, device: DeviceObject, name: str, text: str) -> None:
        """A device's property names its backend. Raises QapiError."""
        if self.emulator is None or self.emulator.id != text:
            raise missing_value(device, name, text)
        if self._device is not None:
            raise QapiError(f"TPM backend '{text}' is already initialized")
        self._device = device

    def realize(self, device: DeviceObject) -> None:
        """Check what a device asks for. Raises QapiError."""
        if not device.values.get("tpmdev") or self._device is not device:
            raise QapiError("'tpmdev' property is required")
        irq = device.values.get("irq", 0)
        if irq >= _ISA_IRQS:
            raise QapiError(f"IRQ {irq} is outside valid range of 0 to {_ISA_IRQS - 1}")
        if device.values.get("ppi") is False:
            device.forget_child("tpm-ppi[0]")

    def startup(self, report: Callable[[str], None]) -> None:
        """The machine is reset. Raises TpmError."""
        if self.emulator is not None and self._device is not None:
            self.emulator.startup(
                _BUFFERS[self._device.type],
                incoming=self._runstate.check("inmigrate"),
                report=report,
            )

    def query(self) -> list[dict[str, Any]]:
        """What query-tpm says: of a backend that a device uses."""
        if self.emulator is None or self._device is None:
            return []
        return [
            {
                "id": self.emulator.id,
                "model": self._device.type,
                "options": self.emulator.options,
            }
        ]

    # -- inside ----------------------------------------------------------------------------------

    def _reset(self) -> None:
        try:
            self.startup(self._process.host.warn)
        except TpmError as error:
            self._process.host.warn(str(error))
            self._process.exit(1)

    def _shutting_down(self, cause: str) -> None:  # noqa: ARG002
        self._ends = True

    def _guest_changed(self, running: bool, state: str) -> None:
        known = state == "running" or self._process.profile.traits.tpm_relocks_suspended
        if not running or not known or not self._relocks or self.emulator is None:
            return
        try:
            self.emulator.lock_storage()
        except TpmError as error:
            self._process.host.warn(str(error))

    def _exiting(self, code: int) -> None:
        emulator, self.emulator = self.emulator, None
        if emulator is None:
            return
        if code and not self._ends:
            emulator.close()  # exit() where something failed: nothing is cleaned up
        else:
            self._end(emulator, self._process.host.warn)

    @staticmethod
    def _end(emulator: TpmEmulator, report: Callable[[str], None]) -> None:
        try:
            emulator.shutdown()
        except TpmError as error:
            report(str(error))
        emulator.close()
