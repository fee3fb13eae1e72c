"""TAP backends as far as migration notices them: when each opened its device, and why.

With the parameter `local` on, source and destination run on the same host and the open device
travels through the migration channel, so the destination must not open it. But a TAP decides
that when it is made: one from the command line before there is a migration object, from the
early parameters; one from `netdev_add` from the parameter as it then is. If the parameter is
something else once the incoming migration starts, the damage may be done: a TAP that was
opened has taken the interface away from the running guest. The record keeps that as a fact.

See net/tap.c: net_init_tap(); net/tap-linux.c: tap_open().
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakeqemu.journal import Journal
    from fakeqemu.model.migration import CurrentMigration
    from fakeqemu.model.runstate import RunState


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


class Taps:
    """The TAPs of one machine; one interface is opened at most once on the host."""

    def __init__(
        self, runstate: RunState, journal: Journal, migration: CurrentMigration
    ) -> None:
        self._runstate = runstate
        self._journal = journal
        self._migration = migration
        self._taps: dict[str, TapBackend] = {}

    def __iter__(self) -> Iterator[TapBackend]:
        return iter(tuple(self._taps.values()))

    def create(
        self, id: str, ifname: str, *, supports_local: bool = True, inherited: bool = False
    ) -> TapBackend:
        """A TAP made now. Raises QapiError if the interface is open already.

        `inherited`: its device was opened by the old process of a CPR start.
        """
        local = bool(self._migration.parameters.read("local")) and supports_local
        waits = inherited or (local and self._runstate.check("inmigrate"))
        if not waits and ifname and any(t.opened and t.ifname == ifname for t in self):
            raise QapiError(
                f"could not configure /dev/net/tun ({ifname}): Device or resource busy"
            )
        tap = TapBackend(id, ifname, local, supports_local, opened=not waits)
        self._taps[id] = tap
        self._journal.note("tap", id, ifname=ifname, local=local, opened=tap.opened)
        return tap

    def remove(self, id: str) -> None:
        """The netdev has gone."""
        self._taps.pop(id, None)

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
