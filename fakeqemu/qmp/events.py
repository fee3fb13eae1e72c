"""Events on their way to the clients.

What a guest can provoke at will is limited for the whole process: the first of its kind goes
out at once, of those that follow within a second only the last, when the second is over. Which
events, how long and what makes two of a kind is data (`schemas/overlays/event-limits.json`).

See monitor/monitor.c: monitor_qapi_event_queue_no_reenter() and monitor_qapi_event_conf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import MILLISECOND, SECOND
from fakeqemu.dataclass import dataclass
from fakeqemu.model.events import Event
from fakeqemu.qapi.json.writer import FixedObject
from fakeqemu.qapi.policy import CompatPolicy, hide_output

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine
    from fakeqemu.profile import Profile


@dataclass(frozen=True, slots=True)
class Limit:
    """How often an event may be sent."""

    #: nanoseconds between two
    interval: int
    #: the data member that tells two of them apart; None: none does
    key: str | None
    #: member and value that exempt an event
    unless: tuple[str, str] | None

    def kind(self, event: Event) -> tuple[str, Any] | None:
        """What `event` shares its limit with; None if it has none."""
        data = event.data or {}
        if self.unless is not None and data.get(self.unless[0]) == self.unless[1]:
            return None
        return event.name, data.get(self.key) if self.key is not None else None


def limits_of(profile: Profile) -> Mapping[str, Limit]:
    """The limits of a version, by event; an overlay profile has those of its base."""
    entries = profile.overlay_data("event-limits")
    return {
        name: Limit(
            entry["ms"] * MILLISECOND,
            entry.get("key"),
            tuple(entry["unless"]) if "unless" in entry else None,
        )
        for name, entry in entries.items()
    }


class EventQueue:
    """From the machine's events to the messages for clients that have negotiated."""

    def __init__(
        self, vm: Machine, policy: CompatPolicy, send: Callable[[dict[str, Any]], None]
    ) -> None:
        """`send`: sends a message to all those clients."""
        self._vm = vm
        self._policy = policy
        self._limits = limits_of(vm.profile)
        #: what went out less than its interval ago -> the last one since, if any
        self._held: dict[tuple[str, Any], Event | None] = {}
        self._send_message = send
        vm.events.listen(self._emitted)

    def _emitted(self, event: Event) -> None:
        limit = self._limits.get(event.name)
        kind = limit.kind(event) if limit is not None else None
        if limit is None or kind is None:
            self._send(event)
        elif kind in self._held:
            self._held[kind] = event
        else:
            self._send(event)
            self._hold(kind, limit)

    def _hold(self, kind: tuple[str, Any], limit: Limit) -> None:
        self._held[kind] = None

        def over() -> None:
            event = self._held.pop(kind)
            if event is not None:
                self._send(event)
                self._hold(kind, limit)

        self._vm.process.call_later(limit.interval, over)

    def _send(self, event: Event) -> None:
        data = event.data
        if self._policy.hides_anything:
            info = self._vm.profile.schema.events[event.name]
            if self._policy.hides(info.feature):
                return
            if data is not None:
                data = hide_output(info.arg_type, data, self._policy)
        seconds, rest = divmod(event.realtime, SECOND)
        message: dict[str, Any] = {
            "timestamp": {"seconds": seconds, "microseconds": rest // 1000},
            "event": event.name,
        }
        if data is not None:
            message["data"] = data
        # all clients get the same text
        self._send_message(FixedObject(message))
