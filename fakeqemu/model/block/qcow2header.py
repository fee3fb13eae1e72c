"""The header of a qcow2 image: fields, extensions, the name of the backing file.

Other programs read it by themselves (libvirt does), so it is written as QEMU writes it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Protocol

from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.utf8 import c_bytes

MAGIC = 0x514649FB
_EXT_BACKING_FORMAT = 0xE2792ACA
_EXT_FEATURES = 0x6803F857
_EXT_BITMAPS = 0x23852875

#: incompatible feature bits
DIRTY, CORRUPT, EXTERNAL_DATA, COMPRESSION, EXTENDED_L2 = 1, 2, 4, 8, 16
LAZY_REFCOUNTS = 1
_KNOWN = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION | EXTENDED_L2
#: type of bit (0 incompatible, 1 compatible, 2 autoclear), bit, name
_FEATURE_NAMES = (
    (0, 0, "dirty bit"), (0, 1, "corrupt bit"), (0, 2, "external data file"),
    (0, 3, "compression type"), (0, 4, "extended L2 entries"), (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"), (2, 1, "raw external data"),
)  # fmt: skip
#: features that fill the header's first 16 bytes etc.
_HEADER = struct.Struct(">IIQIIQIIQQIIQ")
_HEADER_3 = struct.Struct(">QQQII")
_LENGTH_2, _LENGTH_3 = 72, 112

class Store(Protocol):
    """The file an image is kept in."""

    def size(self) -> int:
        """Bytes in it."""

    def read(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes, zeros beyond the end."""

    def write(self, offset: int, data: bytes) -> None:
        """Write."""

    def zero(self, offset: int, count: int) -> None:
        """Zeros, without disk space where that can be."""

    def truncate(self, size: int) -> None:
        """Change its size."""


@dataclass
class Header:
    """The header's fields; `create` and the image's own rewriting fill it."""

    version: int = 3
    backing_file: str = ""
    backing_format: str = ""
    cluster_bits: int = 16
    size: int = 0
    crypt_method: int = 0
    l1_size: int = 0
    l1_offset: int = 0
    refcount_table_offset: int = 0
    refcount_table_clusters: int = 0
    snapshot_count: int = 0
    snapshots_offset: int = 0
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    compression: int = 0
    #: header extensions that mean nothing to us: type, data
    extensions: list[tuple[int, bytes]] = field(default_factory=list)

    def pack(self) -> bytes:
        """The header's bytes, extensions and backing file name included."""
        tail = b""
        if self.backing_format:
            tail += _extension(_EXT_BACKING_FORMAT, c_bytes(self.backing_format))
        for kind, data in self.extensions:
            tail += _extension(kind, data)
        if self.version >= 3:
            names = b"".join(
                struct.pack(">BB46s", kind, bit, name.encode())
                for kind, bit, name in _FEATURE_NAMES
            )
            tail += _extension(_EXT_FEATURES, names)
        tail += _extension(0, b"")
        length = _LENGTH_3 if self.version >= 3 else _LENGTH_2
        name = c_bytes(self.backing_file)
        at = length + len(tail) if name else 0
        fixed = _HEADER.pack(
            MAGIC, self.version, at, len(name), self.cluster_bits, self.size, self.crypt_method,
            self.l1_size, self.l1_offset, self.refcount_table_offset,
            self.refcount_table_clusters, self.snapshot_count, self.snapshots_offset,
        )  # fmt: skip
        if self.version >= 3:
            fixed += _HEADER_3.pack(
                self.incompatible, self.compatible, self.autoclear, self.refcount_order, length
            ) + bytes([self.compression]).ljust(8, b"\0")
        packed = fixed + tail + name
        if len(packed) > 1 << self.cluster_bits:
            raise QapiError("Could not write qcow2 header: No space left on device")
        return packed


def _extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data.ljust(-(-len(data) // 8) * 8, b"\0")


def parse_header(store: Store) -> Header:
    """Read a header. Raises QapiError with QEMU's words."""
    raw = store.read(0, _LENGTH_3)
    if struct.unpack_from(">I", raw)[0] != MAGIC:
        raise QapiError("Image is not in qcow2 format")
    (_, version, name_at, name_length, cluster_bits, size, crypt, l1_size, l1_offset,
     table_offset, table_clusters, snapshots, snapshots_at) = _HEADER.unpack_from(raw)  # fmt: skip
    if version not in (2, 3):
        raise QapiError(f"Unsupported qcow2 version {version}")
    if not 9 <= cluster_bits <= 21:
        raise QapiError(f"Unsupported cluster size: 2^{cluster_bits}")
    header = Header(
        version=version, cluster_bits=cluster_bits, size=size, crypt_method=crypt,
        l1_size=l1_size, l1_offset=l1_offset, refcount_table_offset=table_offset,
        refcount_table_clusters=table_clusters, snapshot_count=snapshots,
        snapshots_offset=snapshots_at,
    )  # fmt: skip
    length = _LENGTH_2
    if version >= 3:
        (header.incompatible, header.compatible, header.autoclear, header.refcount_order,
         length) = _HEADER_3.unpack_from(raw, _LENGTH_2)  # fmt: skip
        if length < 104:
            raise QapiError("qcow2 header too short")
        if length > 104:
            header.compression = raw[104]
    if length > 1 << cluster_bits:
        raise QapiError("qcow2 header exceeds cluster size")
    if header.incompatible & ~_KNOWN:
        left = header.incompatible & ~_KNOWN
        raise QapiError(f"Unsupported qcow2 feature(s): Unknown incompatible feature: {left:x}")
    if header.refcount_order > 6:
        raise QapiError("Reference count entry width too large; may not exceed 64 bits")
    if not header.refcount_table_clusters:
        raise QapiError("Image does not contain a reference count table")
    _parse_extensions(store, header, length, name_at or 1 << cluster_bits)
    if name_at:
        if name_length > min(1023, (1 << cluster_bits) - name_at):
            raise QapiError("Backing file name too long")
        header.backing_file = store.read(name_at, name_length).decode(errors="surrogateescape")
    return header


def _parse_extensions(store: Store, header: Header, at: int, end: int) -> None:
    while at + 8 <= end:
        kind, length = struct.unpack(">II", store.read(at, 8))
        if kind == 0:
            return
        at += 8
        if length > end - at:
            raise QapiError("Header extension too large")
        data = store.read(at, length)
        if kind == _EXT_BACKING_FORMAT:
            header.backing_format = data.decode(errors="surrogateescape")
        elif kind != _EXT_FEATURES:
            header.extensions.append((kind, data))
        at += -(-length // 8) * 8
