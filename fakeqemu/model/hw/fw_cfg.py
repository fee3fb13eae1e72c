"""The firmware configuration device: numbered items and a directory of named files.

What the board, the command line and the topology say is there; ACPI and SMBIOS tables, which
a real board builds, are not.

See hw/nvram/fw_cfg.c: fw_cfg_common_realize() and fw_cfg_add_file(); hw/i386/fw_cfg.c:
fw_cfg_arch_create().
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING
from uuid import UUID

from fakeqemu.model.host_files import find_file
from fakeqemu.model.hw.ioport import IoPortDevice
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Cpus
    from fakeqemu.model.boards.guest_memory import GuestMemory
    from fakeqemu.model.boards.numa import Numa
    from fakeqemu.model.hw.ioport import IoSpace
    from fakeqemu.model.qom.tree import QomObject

_SELECTOR, _DATA = 0x510, 0x511
#: the DMA register, what it reads as, and the bits of a request's control word
_DMA, _DMA_SIGNATURE = 0x514, b"QEMU CFG"
_ERROR, _READ, _SKIP, _SELECT, _WRITE = 1, 2, 4, 8, 16
_SIGNATURE, _ID, _UUID, _RAM_SIZE, _NOGRAPHIC, _NB_CPUS = 0, 1, 2, 3, 4, 5
_BOOT_MENU, _MAX_CPUS, _NUMA, _DIRECTORY, _FIRST_FILE = 0xE, 0xF, 0xD, 0x19, 0x20
_ACPI_TABLES, _IRQ0_OVERRIDE = 0x8000, 0x8002
#: address and length of what no memory is put at
_RESERVED = (0xFD00000000, 0x300000000)


def _system_states(pm: QomObject) -> bytes:
    """Which ACPI sleep states there are: a byte for each, the type and a bit for "there"."""
    s4 = int(pm.values.get("s4_val", 2))
    has_s3, has_s4 = not pm.values.get("disable_s3"), not pm.values.get("disable_s4")
    return bytes([0x80, 0, 0, 1 | has_s3 << 7, s4 | has_s4 << 7, 0x80])


class FwCfg(IoPortDevice):
    """By ports, with DMA."""

    widest = 4

    def __init__(
        self, io: IoSpace, object: QomObject, memory: GuestMemory, cpus: Cpus, numa: Numa
    ) -> None:
        super().__init__(io, object)
        self._memory = memory
        self._cpus = cpus
        self._numa = numa
        self._selected: bytes | None = None
        self._at = 0
        self._request = 0
        self.reset()

    def handles(self, port: int, size: int) -> bool:
        """The selector by two bytes, data one by one, the DMA register by any up to four."""
        if _DMA <= port <= _DMA + 8 - size:
            return True
        return (port, size) in ((_SELECTOR, 2), (_SELECTOR, 1), (_DATA, 1))

    def reset(self) -> None:
        """The signature is selected."""
        self._request = 0
        self._select(_SIGNATURE)

    def read(self, port: int, size: int) -> int:
        """The next byte; zeros behind the end."""
        if port >= _DMA:
            at = port - _DMA
            return int.from_bytes(_DMA_SIGNATURE[at : at + size], "little")
        if size == 2:
            return 0
        if self._selected is None or self._at >= len(self._selected):
            return 0
        self._at += 1
        return self._selected[self._at - 1]

    def write(self, port: int, size: int, value: int) -> None:
        """Select an item, or ask for a transfer; data cannot be written."""
        if port == _SELECTOR and size == 2:
            self._select(value)
        elif port == _DMA and size == 4:
            self._request = int.from_bytes(value.to_bytes(4, "little"), "big") << 32
        elif port == _DMA + 4 and size == 4:
            request = self._request | int.from_bytes(value.to_bytes(4, "little"), "big")
            self._request = 0
            self._transfer(request)

    def _transfer(self, request: int) -> None:
        """Do what the request at that address of guest memory says."""
        memory = self._memory
        control, length, address = struct.unpack(">IIQ", memory.read(request, 16))
        if control & _SELECT:
            self._select(control >> 16)
        if control & _READ:
            content = (self._selected or b"")[self._at : self._at + length]
            memory.write(address, content)
            memory.zero(address + len(content), length - len(content))
        if control & (_READ | _SKIP):
            self._at += length
        # what is there is not for the guest to write
        memory.write(request, struct.pack(">I", _ERROR if control & _WRITE else 0))

    def _select(self, key: int) -> None:
        self._selected = self._items().get(key & 0xBFFF)
        self._at = 0

    def files(self) -> dict[str, bytes]:
        """The named files, in order of their names as the directory has them."""
        state, configuration = self.io.state, self.io.state.configuration
        host = self.io.process.host
        boot = configuration.machine_options.get("boot", {})
        found = {
            "bios-geometry": b"",
            "bootorder": b"",
            "etc/boot-fail-wait": struct.pack("<i", int(boot.get("reboot-timeout", -1))),
            "etc/e820": self._e820(),
            "etc/tpm/log": b"",
        }
        if "splash-time" in boot:
            found["etc/boot-menu-wait"] = struct.pack("<H", int(boot["splash-time"]))
        if state.boot_splash is not None:
            name, content = state.boot_splash
            found[name] = content
        for obj in self.io.objects():
            if obj.type == "pvpanic":
                found["etc/pvpanic-port"] = struct.pack("<H", int(obj.values["ioport"]))
            elif obj.type in ("PIIX4_PM", "ICH9-LPC"):
                found["etc/system-states"] = _system_states(obj)
        for entry in configuration.option_roms:
            name = entry.values["romfile"]
            path = find_file(host, configuration.data_directories, name)
            if path is not None:
                found[f"genroms/{name.rpartition('/')[2]}"] = host.read_file(path)
        for entry in configuration.fw_cfg:
            values = entry.values
            if "string" in values:
                found[values["name"]] = c_bytes(values["string"])
            elif "file" in values:
                found[values["name"]] = host.read_file(values["file"])
        return dict(sorted(found.items()))

    def _items(self) -> dict[int, bytes]:
        state, configuration = self.io.state, self.io.state.configuration
        uuid = configuration.uuid
        files = self.files()
        directory = struct.pack(">I", len(files))
        items: dict[int, bytes] = {}
        for number, (name, content) in enumerate(files.items(), _FIRST_FILE):
            directory += struct.pack(">IHH56s", len(content), number, 0, c_bytes(name)[:55])
            items[number] = content
        menu = configuration.machine_options.get("boot", {}).get("menu") == "on"
        nodes = self._numa.nodes
        slots = [self._cpus.nodes.get(n, 0) for n in range(self._cpus.topology.maxcpus)]
        numa = struct.pack(
            f"<{1 + len(slots) + len(nodes)}Q",
            len(nodes), *slots, *(nodes[n].mem for n in sorted(nodes)),
        )  # fmt: skip
        return {
            _SIGNATURE: b"QEMU",
            _ID: struct.pack("<I", 3),
            _UUID: UUID(uuid).bytes if uuid else bytes(16),
            _RAM_SIZE: struct.pack("<Q", state.memory.size),
            _NOGRAPHIC: struct.pack("<H", configuration.nographic),
            _NB_CPUS: struct.pack("<H", len(self._cpus)),
            _NUMA: numa,
            _BOOT_MENU: struct.pack("<H", menu),
            _MAX_CPUS: struct.pack("<H", self._apic_ids()),
            _DIRECTORY: directory,
            _IRQ0_OVERRIDE: struct.pack("<I", 1),
            _ACPI_TABLES: state.acpi_tables,
            **items,
        }

    def _apic_ids(self) -> int:
        """One more than the highest APIC id there may be."""
        topology = self._cpus.topology
        return topology.apic_id(topology.maxcpus - 1) + 1

    def _e820(self) -> bytes:
        """Where memory is: address, length, kind (1: RAM, 2: reserved)."""
        ram: list[tuple[int, int]] = []
        regions = [r for r in self._memory.regions() if not r.rom]
        for start, limit in ((0, 1 << 32), (1 << 32, 1 << 64)):
            ends = [r.end for r in regions if start <= r.start < limit]
            if ends:
                ram.append((start, max(ends) - start))
        # addresses that some processors keep for themselves
        found = struct.pack("<QQI", *_RESERVED, 2)
        for start, size in ram:
            found += struct.pack("<QQI", start, size, 1)
        return found
