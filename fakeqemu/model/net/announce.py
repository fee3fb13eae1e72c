"""Self-announcement: RARP frames that tell switches where a guest's addresses are now.

See net/announce.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import MILLISECOND, Timer

if TYPE_CHECKING:
    from fakeqemu.clock import Clock
    from fakeqemu.model.net.client import Nic

_BROADCAST = b"\xff" * 6
_ETH_P_RARP = b"\x80\x35"
#: Ethernet, IPv4, lengths of their addresses, reverse request
_RARP_REQUEST = b"\0\x01\x08\0\x06\x04\0\x03"
_ANY_ADDRESS = bytes(4)
_MIN_FRAME = 60


def rarp_frame(mac: str) -> bytes:
    """The frame that announces `mac` (`52:54:00:12:34:56`)."""
    address = bytes.fromhex(mac.replace(":", ""))
    body = (address + _ANY_ADDRESS) * 2
    return (_BROADCAST + address + _ETH_P_RARP + _RARP_REQUEST + body).ljust(_MIN_FRAME, b"\0")


class Announcements:
    """The announcements under way, at most one for each id."""

    def __init__(self, clock: Clock, nics: Callable[[], Iterable[Nic]]) -> None:
        """`nics`: those that there are at the moment."""
        self._clock = clock
        self._nics = nics
        self._timers: dict[str, Timer] = {}

    def start(self, parameters: Mapping[str, Any]) -> None:
        """Announce `rounds` times as AnnounceParameters say: the first time now."""
        id = parameters.get("id", "")
        old = self._timers.pop(id, None)
        if old is not None:
            old.cancel()
        if parameters["rounds"]:
            self._announce(id, parameters, parameters["rounds"])

    def _announce(self, id: str, parameters: Mapping[str, Any], left: int) -> None:
        self._timers.pop(id, None)
        only = parameters.get("interfaces")
        for nic in self._nics():
            if only is None or nic.name in only:
                nic.send(rarp_frame(nic.mac))
        if (left := left - 1) == 0:
            return
        step = parameters["initial"] + (parameters["rounds"] - left - 1) * parameters["step"]
        step = min(step, parameters["max"])
        self._timers[id] = self._clock.call_later(
            step * MILLISECOND, lambda: self._announce(id, parameters, left)
        )
