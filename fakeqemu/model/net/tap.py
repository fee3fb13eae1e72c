"""TAP backends: who has a host's interface open, and what local migration does to that.

With the parameter `local` on, source and destination run on the same host and the open device
travels through the migration channel, so the destination must not open it. But a TAP decides
that when it is made: one from the command line before there is a migration object, from the
early parameters; one from `netdev_add` from the parameter as it then is. If the parameter is
something else once the incoming migration starts, the damage may be done: a TAP that was
opened has taken the interface away from the running guest. The record keeps that as a fact.

The kernel refuses a second opener of an interface, unless both ask for several queues: then the
frames for one guest go to the other. See net/tap.c: net_init_tap(); net/tap-linux.c: tap_open().
What goes along with a migration is as `local` was last posted, but the section's name and layout
(`tap_section`) and the text for a device that does not come, which are ours.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from fakeqemu.dataclass import dataclass
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.migration import CurrentMigration
    from fakeqemu.model.process import Process
    from fakeqemu.model.runstate import RunState

#: room enough for the file that stands for an open TAP device
_FILE_SIZE = 4096
_SECTION = "tap/"


def refused(ifname: str, code: int) -> QapiError:
    """The error for an interface that the kernel does not open, by its errno."""
    return QapiError(f"could not configure /dev/net/tun ({ifname}): {os.strerror(code)}")


def tap_section(id: str) -> str:
    """Name of the stream's section with the open device of netdev `id`."""
    return _SECTION + id


@dataclass(slots=True)
class TapBackend:
    """One TAP."""

    #: id of the netdev
    id: str
    #: name of the host's interface; empty: the kernel chooses
    ifname: str
    #: what `local` was when the TAP was made
    local: bool
    #: whether this device takes part in local migration at all
    supports_local: bool = True
    #: whether the host's device was opened when the TAP was made
    opened: bool = True
    #: whether it was asked for with several queues
    multi_queue: bool = False
    #: whether it has the device open now
    holds: bool = True
    #: stands for the open device, where something has to
    fd: int | None = None
    #: whether the destination of a local migration has the device as well
    sent: bool = False


class Taps:
    """The TAPs of one machine."""

    def __init__(
        self, process: Process, runstate: RunState, state: MachineState, migration: CurrentMigration
    ) -> None:
        self._process = process
        self._runstate = runstate
        self._state = state
        self._migration = migration
        self._taps: dict[str, TapBackend] = {}
        runstate.listen(self._runstate_changed)

    def __iter__(self) -> Iterator[TapBackend]:
        return iter(tuple(self._taps.values()))

    @property
    def support_local(self) -> bool:
        """Whether TAPs take part in local migration where they do not say so themselves."""
        since = self._process.profile.traits.tap_local_since
        version = None if self._state.type is None else self._state.type.version
        return since is not None and (version is None or version >= since)

    def create(
        self,
        id: str,
        ifname: str,
        *,
        supports_local: bool | None = None,
        multi_queue: bool = False,
        inherited: bool = False,
        given: bool = False,
    ) -> TapBackend:
        """A TAP made now. Raises QapiError if the interface cannot be opened (again).

        `inherited`: its device was opened by the old process of a CPR start. `given`: by whoever
        gave its descriptor.
        """
        supports = self.support_local if supports_local is None else supports_local
        reads = self._process.profile.traits.tap_has_local
        local = reads and bool(self._migration.parameters.read("local")) and supports
        waits = inherited or (local and self._runstate.check("inmigrate"))
        tap = TapBackend(
            *(id, ifname, local, supports),
            opened=not waits,
            multi_queue=multi_queue,
            holds=inherited or not waits,
        )
        shared = not waits and bool(ifname) and self._open(tap, given=given)
        self._taps[id] = tap
        self._process.journal.note("tap", id, ifname=ifname, local=local, opened=tap.opened)
        if shared:
            self._note_shared(tap, "opened an interface that others have open")
        return tap

    def remove(self, id: str) -> None:
        """The netdev has gone."""
        tap = self._taps.pop(id, None)
        if tap is not None and tap.fd is not None:
            self._process.host.close_fd(tap.fd)

    def close(self) -> None:
        """The process ends."""
        for tap in self:
            self.remove(tap.id)

    def _open(self, tap: TapBackend, *, given: bool) -> bool:
        """Open the interface, alone or (true) beside others. Raises QapiError."""
        others = [each for each in self if each.holds and each.ifname == tap.ifname]
        if others and not given:
            if any(each.multi_queue != tap.multi_queue for each in others):
                raise refused(tap.ifname, errno.EINVAL)
            if not tap.multi_queue:
                raise refused(tap.ifname, errno.EBUSY)
        found = self._process.host.open_tap(tap.ifname, multi_queue=tap.multi_queue, given=given)
        tap.fd = found.fd
        return bool(others) or found.shared

    def _note_shared(self, tap: TapBackend, what: str) -> None:
        """Frames for one guest may go to another from now on, and QEMU says nothing."""
        self._process.journal.note("tap-shared", tap.id, ifname=tap.ifname, what=what)

    def _runstate_changed(self, old: str, new: str) -> None:  # noqa: ARG002
        for tap in self:
            if new == "running" and tap.sent:
                tap.sent = False
                self._note_shared(tap, "the guest runs, but a destination got its device")

    # -- local migration, the source -----------------------------------------------------------

    def to_send(self) -> list[TapBackend]:
        """The TAPs whose devices go along with the stream, each with a descriptor."""
        found = [tap for tap in self if tap.supports_local and tap.holds]
        for tap in found:
            self.descriptor(tap)
        return found

    def descriptor(self, tap: TapBackend) -> int:
        """The descriptor that stands for the TAP's open device. Raises QapiError."""
        if tap.fd is None:
            tap.fd = self._process.host.create_memory(tap.id, _FILE_SIZE)
        return tap.fd

    def handed_over(self) -> None:
        """The destination has them, and runs."""
        for tap in self.to_send():
            tap.sent = True
            self._process.journal.note("tap-sent", tap.id, ifname=tap.ifname)

    # -- local migration, the destination ------------------------------------------------------

    def reopen(self) -> None:
        """Those that wait open their devices after all. Raises QapiError."""
        for tap in self.waiting:
            if tap.ifname:
                self._open(tap, given=False)
            tap.holds = True

    @property
    def waiting(self) -> list[TapBackend]:
        """The TAPs whose devices are to come with the stream."""
        return [tap for tap in self if tap.local and not tap.opened and not tap.holds]

    def awaits(self, section: str) -> bool:
        """Whether a section is that of the device of a TAP that waits for it."""
        return any(tap_section(tap.id) == section for tap in self.waiting)

    def received(self, section: str, fds: list[int]) -> None:
        """The device in a section has come; its descriptor is the first, and taken from `fds`."""
        for tap in self.waiting:
            if tap_section(tap.id) == section and fds:
                tap.fd, tap.holds = fds.pop(0), True
                self._process.journal.note("tap-received", tap.id, ifname=tap.ifname)

    # -- `local` against what TAPs have read ---------------------------------------------------

    def check_before_incoming(self, local: bool) -> None:
        """Refuse to start incoming if `local` has changed since a TAP was made. QapiError."""
        for tap in self:
            if tap.supports_local and tap.local != local:
                was, is_ = ("on" if value else "off" for value in (tap.local, local))
                raise QapiError(
                    f"netdev '{tap.id}' was created with migration parameter 'local' {was},"
                    f" it is {is_} now"
                )

    def check_immutable(self, local: bool) -> None:
        """Refuse to change `local` from what a TAP has read while incoming is awaited.

        Raises QapiError. A later outgoing migration may set it again.
        """
        if self._runstate.check("inmigrate") and any(
            tap.supports_local and tap.local != local for tap in self
        ):
            raise QapiError(
                "you can not change 'local' parameter value after TAP device initialization"
            )
