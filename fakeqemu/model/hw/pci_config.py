"""PCI configuration space, by ports 0xcf8 and 0xcfc: recorded contents, and what was written.

The bus behind it is the first one; no firmware numbers those behind bridges. What is writable
was recorded too; what writing would do beyond being kept is not modelled.

See hw/pci/pci_host.c: pci_data_write() and pci_host_config_read_common(); hw/pci/pci.c:
pci_default_write_config().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.hw.ioport import IoPortDevice
from fakeqemu.model.qdev.addresses import devfn_of

if TYPE_CHECKING:
    from fakeqemu.model.hw.ioport import IoSpace
    from fakeqemu.model.qdev.bus import Buses
    from fakeqemu.model.qom.tree import QomObject

_SIZE = 256
_ADDRESS, _DATA = 0xCF8, 0xCFC
#: where an i440FX tells how much memory there is, in units of so many bytes
_LAST_BANK, _BANK = 0x57, 8 << 20


class PciConfig(IoPortDevice):
    """The host bridge's access to configuration space."""

    widest = 4

    def __init__(self, io: IoSpace, object: QomObject, buses: Buses) -> None:
        super().__init__(io, object)
        self._buses = buses
        self._address = 0
        #: (device-function, register) -> byte that was written
        self._written: dict[tuple[int, int], int] = {}
        #: what `functions` gives, and the look at the devices that it is of
        self._recorded: tuple[int, dict[int, tuple[bytes, bytes]]] | None = None

    def reset(self) -> None:
        """As at the start."""
        self._address = 0
        self._written.clear()

    def handles(self, port: int, size: int) -> bool:
        """The address by four bytes, data by any."""
        if port == _ADDRESS:
            return size == 4
        return _DATA <= port <= _DATA + 3

    def read(self, port: int, size: int) -> int:
        """The address, or what is there."""
        if port == _ADDRESS:
            return self._address
        target = self._target(port)
        return -1 if target is None else self.get(*target, size)

    def write(self, port: int, size: int, value: int) -> None:
        """Choose an address, or write there."""
        if port == _ADDRESS:
            self._address = value
        elif (target := self._target(port)) is not None:
            self.put(*target, size, value)

    def functions(self) -> dict[int, tuple[bytes, bytes]]:
        """Device-function -> contents and writable bits, as recorded."""
        if self._recorded is None or self._recorded[0] != self.io.changes:
            self._recorded = self.io.changes, self._read_recorded()
        return self._recorded[1]

    def _read_recorded(self) -> dict[int, tuple[bytes, bytes]]:
        state = self.io.state
        assert state.type is not None
        part = state.profile.part("pci-config")
        board = part["machines"].get(state.profile.recorded_machine(state.type.name), {})
        found: dict[int, tuple[bytes, bytes]] = {}
        kind = "full" if state.configuration.has_defaults else "bare"
        for place, texts in board.get(kind, {}).items():
            slot, _, function = place.partition(".")
            found[int(slot, 16) << 3 | int(function)] = _bytes(texts)
        if self.object.type == "i440FX-pcihost" and 0 in found:
            content, writable = found[0]
            banks = min(state.memory.size // _BANK, 0xFF)
            content = content[:_LAST_BANK] + bytes([banks]) + content[_LAST_BANK + 1 :]
            found[0] = content, writable
        root = self._buses.pci_root()
        for device in root.devices if root is not None else ():
            if device.bus is not None and device.type in part["devices"]:
                found[devfn_of(device)] = _bytes(part["devices"][device.type])
        return found

    def get(self, function: int, register: int, size: int) -> int:
        """`size` bytes; all ones where no device is."""
        recorded = self.functions().get(function)
        if recorded is None:
            return (1 << 8 * size) - 1
        places = ((function, (register + n) % _SIZE) for n in range(size))
        content = bytes(self._written.get(at, recorded[0][at[1]]) for at in places)
        return int.from_bytes(content, "little")

    def put(self, function: int, register: int, size: int, value: int) -> None:
        """Write, as far as bits can be written."""
        recorded = self.functions().get(function)
        if recorded is None:
            return
        for number, byte in enumerate((value & (1 << 8 * size) - 1).to_bytes(size, "little")):
            place = (register + number) % _SIZE
            mask, old = recorded[1][place], self.get(function, place, 1)
            self._written[function, place] = old & ~mask | byte & mask

    def _target(self, port: int) -> tuple[int, int] | None:
        """Device-function and register; None: off, or behind a bridge."""
        address = self._address
        if not address & 0x80000000 or address >> 16 & 0xFF:
            return None
        return address >> 8 & 0xFF, (address & 0xFC) + port - _DATA


def _bytes(texts: list[str]) -> tuple[bytes, bytes]:
    return bytes.fromhex(texts[0]), bytes.fromhex(texts[1])
