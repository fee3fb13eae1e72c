"""MAC addresses that QEMU gives to NICs without one. See net/net.c: qemu_macaddr_get_free()."""

from __future__ import annotations

from collections import Counter

_PREFIX = "52:54:00:12:34:"
_FIRST, _LAST = 0x56, 0xFE
_NONE_FREE = 0xFF
_UNSET = "00:00:00:00:00:00"


class MacAddresses:
    """Which last bytes of the addresses are in use, and how often."""

    def __init__(self) -> None:
        self._used: Counter[int] = Counter()

    def take(self, mac: str) -> str:
        """`mac`, or the first free address if it is empty or all zeros."""
        if not mac or mac == _UNSET:
            free = (byte for byte in range(_FIRST, _LAST + 1) if not self._used[byte])
            mac = f"{_PREFIX}{next(free, _NONE_FREE):02x}"
        if mac.startswith(_PREFIX):
            self._used[int(mac[-2:], 16)] += 1
        return mac

    def release(self, mac: str) -> None:
        """A NIC with that address has gone."""
        if mac.startswith(_PREFIX):
            self._used[int(mac[-2:], 16)] -= 1
