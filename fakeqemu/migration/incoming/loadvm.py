"""The destination's handling of stream events: return path messages, states, start of the guest.

The reader (`formats.migration_stream.reader`) reports what the stream contains; here that changes
the machine. An error is raised: LoadFailedError or, once the guest runs here, PostcopyBrokenError.

See migration/savevm.c: qemu_loadvm_state_main(), loadvm_postcopy_handle_listen() and
loadvm_postcopy_handle_run(); migration/migration.c: process_incoming_migration_bh().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fakeqemu.formats.migration_stream import events
from fakeqemu.formats.migration_stream.channels import return_path as returnpath
from fakeqemu.formats.migration_stream.constants import PostcopyState
from fakeqemu.formats.migration_stream.errors import LoadError
from fakeqemu.formats.migration_stream.reader import StreamReader
from fakeqemu.migration import cpr, vmstate as guest
from fakeqemu.migration.block_dirty_bitmaps import IncomingBitmaps, mapping_of
from fakeqemu.migration.incoming.phase import LoadFailedError, PostcopyBrokenError
from fakeqemu.migration.state import Status
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.formats.migration_stream.vmstate.tpm_emulator import TpmBlob
    from fakeqemu.migration.parameters.settings import MigrationSettings
    from fakeqemu.model.machine import Machine

_UNKNOWN_SECTION = (
    "section or instance '{}' {}. Make sure that your current VM setup matches your saved VM "
    "setup, including any hotplugged devices"
)
_BITMAPS_LOST = (
    "postcopy_ram_listen_thread: loadvm failed during postcopy: -{}. All states are migrated"
    " except dirty bitmaps. Some dirty bitmaps may be lost, and present migrated dirty bitmaps"
    " are correctly migrated and valid."
)
_BITMAPS_LOST_HINT = (
    "All state is migrated except dirty bitmaps. Some dirty bitmaps may be lost,"
    " but any migrated dirty bitmaps are valid."
)
_INVALID = "load of migration failed: Invalid argument"
_NO_DEVICE = "netdev '{}' waits for its device, which the source has not sent"


#: states in which nothing more is loaded
ENDS = ("completed", "failed")


class LoadVm:
    """One incoming stream, from its first byte to the end, across channel reconnections."""

    def __init__(
        self,
        vm: Machine,
        migration: MigrationSettings,
        state: Status,
        answer: Callable[[bytes], None],
        received_fds: Callable[[], list[int]],
        *,
        file_offset: int = 0,
    ) -> None:
        """`state`: the destination's; `answer`: sends on the return path, if there is one.

        `received_fds`: takes the descriptors that have come along with the stream.
        """
        self._vm = vm
        self._migration = migration
        self._state = state
        self._send = answer
        self._received_fds = received_fds
        #: those that have come and belong to no device yet
        self._fds: list[int] = []
        self._traits = vm.profile.traits
        self._bitmaps = IncomingBitmaps(vm, lambda: mapping_of(migration))
        expected = guest.expectation(vm, migration, file_offset, self._bitmaps)
        self._reader = StreamReader(expected, self._traits)
        #: the source has opened the return path
        self._answering = False
        #: the source's run state from the section `globalstate`; None if the stream lacks it
        self._runstate: str | None = None

    @property
    def in_postcopy(self) -> bool:
        """Whether the source has switched to postcopy."""
        return self._reader.postcopy >= PostcopyState.LISTENING

    @property
    def postcopy_advised(self) -> bool:
        """Whether the source may switch to postcopy, or has."""
        return self._reader.postcopy > PostcopyState.NONE

    @property
    def skippable(self) -> int:
        """Number of upcoming bytes whose content has no effect."""
        return self._reader.skippable

    def feed(self, data: bytes) -> None:
        """Load further bytes of the stream. Raises PhaseError, as what follows does."""
        self._handle(self._reader.feed(data))

    def skip(self, size: int) -> None:
        """Count so many bytes without content, see `skippable`."""
        self._handle(self._reader.skip(size))

    def feed_eof(self) -> None:
        """The channel was closed by the source."""
        self._handle(self._reader.feed_eof())

    def recover(self) -> None:
        """Continue on the new channel of a postcopy recovery."""
        self._reader.recover()
        self._answering = True

    # -- what the stream says ----------------------------------------------------------------

    def _handle(self, stream_events: list[events.Event]) -> None:
        for event in stream_events:
            if self._state.current in ENDS:
                return
            match event:
                case events.Report(text):
                    self._vm.host.warn(text)
                case events.OpenReturnPath():
                    self._open_return_path()
                case events.Ping(value):
                    self._answer(returnpath.pong(value))
                case events.GlobalState(runstate, suspended):
                    self._runstate = runstate
                    if suspended and self._traits.suspend_survives_stop:
                        self._vm.lifecycle.was_suspended = True
                case events.DeviceState(name=name) if self._vm.taps.awaits(name):
                    self._fds += self._received_fds()
                    self._vm.taps.received(name, self._fds)
                case events.TpmState(blobs):
                    self._load_tpm(blobs)
                case events.SectionBegins(name=name) if errno := self._fault_of(name):
                    text = (
                        f"error while loading state for instance 0x{event.instance_id:x} "
                        f"of device '{name}'"
                    )
                    error = LoadError(errno, text).error(
                        has_cause=self._traits.load_error_has_cause
                    )
                    in_postcopy = self._reader.postcopy >= PostcopyState.RUNNING
                    self._failed(events.Failed(error, postcopy_running=in_postcopy))
                    return
                case events.SectionBegins(name=guest.REGISTERS_SECTION):
                    self._vm.cpus.registers_came = True
                case events.Description():
                    self._compare_devices(event)
                case events.RecvBitmap(block):
                    size = guest.received_blocks(self._vm)[block].size
                    received = self._reader.received(block)
                    self._answer(returnpath.received_bitmap(block, size, received))
                case events.Loaded():
                    self._loaded()
                case events.Failed():
                    self._failed(event)
                case _:
                    self._postcopy(event)

    def _fault_of(self, section: str) -> int:
        """The errno with which a tester lets a section fail; 0 if none."""
        fault = self._vm.migration.load_fault
        return 0 if fault is None else fault(section)

    def _postcopy(self, event: events.Event) -> None:
        state = self._state
        match event:
            case events.PostcopyListen():
                memory_follows = self._migration.capabilities("postcopy-ram")
                device = self._traits.postcopy_device_state and memory_follows
                state.move("postcopy-device" if device else "postcopy-active")
            case events.PostcopyRun():
                self._check_taps()
                if state.current == "postcopy-device":
                    state.move("postcopy-active")
                self._activate_disks(live=True)
                self._start_guest(live=True)
            case events.PostcopyResume():
                self._answer(returnpath.resume_ack())
                state.move("postcopy-active")
            case _:
                pass  # pages and sections are only passed by

    def _open_return_path(self) -> None:
        self._answering = True
        on = self._migration.capabilities
        if on("switchover-ack") and self._traits.switchover_ack_from_destination:
            self._answer(returnpath.switchover_ack())

    def _answer(self, message: bytes) -> None:
        if self._answering:
            self._send(message)

    def _load_tpm(self, blobs: Mapping[int, TpmBlob]) -> None:
        from fakeqemu.model.tpm.emulator import TpmError

        try:
            self._vm.tpm.load(blobs)
        except TpmError as error:
            where = "error while loading state for instance 0x0 of device 'tpm-emulator'"
            if self._traits.load_error_has_cause:
                hook = "post load hook failed for: tpm-emulator, version_id: 0, minimum_version: 0"
                self._fail([], f"{_INVALID}: {where}: {hook}: {error}")
            else:
                self._fail([str(error), where], "load of migration failed: Input/output error")

    def _compare_devices(self, event: events.Description) -> None:
        """Report sections of the stream's description that this machine certainly lacks."""
        described = (event.value or {}).get("devices")
        for device in described if isinstance(described, list) else ():
            name = device.get("name") if isinstance(device, dict) else None
            number = device.get("instance_id", 0) if isinstance(device, dict) else 0
            if isinstance(name, str) and guest.lacks_section(self._vm, name, number):
                text = _UNKNOWN_SECTION.format(name, number)
                if self._traits.load_error_has_cause:
                    self._fail([], f"{_INVALID}: Unknown {text}")
                else:
                    self._fail([f"Unknown savevm {text}"], _INVALID)
                return

    # -- the end -----------------------------------------------------------------------------

    def _announce(self) -> None:
        """Send self-announcements (RARP). See process_incoming_migration_bh()."""
        if self._vm.net.nics:
            parameters = self._migration.parameters
            names = ("initial", "max", "rounds", "step")
            self._vm.net.announce({name: parameters[f"announce-{name}"] for name in names})

    def _start_guest(self, *, live: bool) -> None:
        self._announce()
        self._bitmaps.before_guest_runs()
        lifecycle, runstate = self._vm.lifecycle, self._vm.runstate
        if not live:
            assert self._runstate is not None
            runstate.set(self._runstate)
        elif lifecycle.autostart:
            lifecycle.vm_start()
        else:
            runstate.set("paused")

    def _activate_disks(self, *, live: bool) -> None:
        """Activate the disks, unless late-block-activate defers that until `cont`."""
        late = self._traits.disks_taken_late or self._migration.capabilities(
            "late-block-activate"
        )
        if late and not (live and self._vm.lifecycle.autostart):
            return
        try:
            self._vm.activate_disks()
        except QapiError as error:
            self._vm.host.warn(error.desc)
            self._vm.lifecycle.autostart = False

    def _loaded(self) -> None:
        for fd in self._fds:
            self._vm.host.close_fd(fd)
        if not self.in_postcopy:
            self._check_taps()
            migration = self._migration
            if (migration.incoming_mode or migration.mode) in cpr.SHARING:
                cpr.take_memory(self._vm)
            live = {None, "running"}
            if self._traits.suspend_survives_stop:
                live.add("suspended")
                if self._runstate == "suspended":
                    self._vm.lifecycle.was_suspended = True
            alive = self._runstate in live
            self._activate_disks(live=alive)
            self._start_guest(live=alive)
        self._state.move("completed")
        self._answer(returnpath.shut())

    def _check_taps(self) -> None:
        """Fail if the device of a TAP has not come. In mode cpr-exec no descriptors travel."""
        if (self._migration.incoming_mode or self._migration.mode) == cpr.EXEC:
            self._vm.taps.reopen()
            return
        for tap in self._vm.taps.waiting:
            self._fail([], f"{_INVALID}: {_NO_DEVICE.format(tap.id)}")

    def _failed(self, event: events.Failed) -> None:
        if event.postcopy_running:
            for line in event.error.reports:
                self._vm.host.warn(line)
            on = self._migration.capabilities
            if on("postcopy-ram") or not on("dirty-bitmaps"):
                raise PostcopyBrokenError("")
            # the guest has all it needs
            self._tell_bitmaps_lost(event)
            self._loaded()
            return
        self._fail(list(event.error.reports), event.error.text)

    def _tell_bitmaps_lost(self, event: events.Failed) -> None:
        if not self._traits.load_error_has_cause:
            self._vm.host.warn(_BITMAPS_LOST.format(event.error.errno))
            return
        failed = f"loadvm failed during postcopy: -{event.error.errno}"
        self._vm.host.warn(f"{failed}: {event.error.cause}")
        self._vm.host.warn(_BITMAPS_LOST_HINT)

    def _fail(self, reports: list[str], text: str) -> None:
        for line in reports:
            self._vm.host.warn(line)
        if self._traits.reports_failed_load:
            self._answer(returnpath.shut(1))
        raise LoadFailedError(text)
