"""The header of a qcow2 image: fields, extensions, the name of the backing file.

Other programs read it by themselves (libvirt does), so it is written as QEMU writes it. What a
header may say, and the order in which it is looked at, are those of block/qcow2.c:
qcow2_do_open() and qcow2_read_extensions(): a damaged header is refused in the same words.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Protocol

from fakeqemu.dataclass import dataclass, field
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

MAGIC = 0x514649FB
_EXT_BACKING_FORMAT = 0xE2792ACA
_EXT_FEATURES = 0x6803F857
_EXT_CRYPTO = 0x0537BE77
_EXT_DATA_FILE = 0x44415441
EXT_BITMAPS = 0x23852875

#: incompatible feature bits
DIRTY, CORRUPT, EXTERNAL_DATA, COMPRESSION, EXTENDED_L2 = 1, 2, 4, 8, 16
LAZY_REFCOUNTS = 1
#: autoclear feature bits
BITMAPS, RAW_DATA = 1, 2
_KNOWN = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION | EXTENDED_L2
_CRYPT_AES, CRYPT_LUKS = 1, 2
#: type of bit (0 incompatible, 1 compatible, 2 autoclear), bit, name
_FEATURE_NAMES = (
    (0, 0, "dirty bit"), (0, 1, "corrupt bit"), (0, 2, "external data file"),
    (0, 3, "compression type"), (0, 4, "extended L2 entries"), (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"), (2, 1, "raw external data"),
)  # fmt: skip
_FEATURE = struct.Struct(">BB46s")
#: the largest cluster for which features are not named
_LARGEST_WITHOUT_NAMES = 4096
_HEADER = struct.Struct(">IIQIIQIIQQIIQ")
_HEADER_3 = struct.Struct(">QQQII")
_LENGTH_2, _LENGTH_3 = 72, 112
_SECTOR = 512

#: limits (block/qcow2.h): bytes of a refcount table and of a first-level table; snapshots;
#: bitmaps; bytes of the bitmap directory
LARGEST_REFTABLE, LARGEST_L1 = 8 << 20, 32 << 20
MOST_SNAPSHOTS = 65536
_MOST_BITMAPS = 65535
LARGEST_DIRECTORY = 1024 * _MOST_BITMAPS
_SNAPSHOT_ENTRY = 40
_LONGEST_FORMAT = 16
_INT64_MAX, _INT_MAX = (1 << 63) - 1, (1 << 31) - 1


class Store(Protocol):
    """The file an image is kept in. What goes wrong is a BlockIoError with the host's text."""

    def size(self) -> int:
        """Bytes in it."""

    def read(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes, zeros beyond the end."""

    def write(self, offset: int, data: bytes) -> None:
        """Write."""

    def zero(self, offset: int, count: int) -> None:
        """Zeros, without disk space where that can be."""

    def truncate(self, size: int, prealloc: str = "off") -> None:
        """Change its size."""


@dataclass
class Header:
    """The header's fields; `create` and the image's own rewriting fill it."""

    version: int = 3
    backing_file: str = ""
    backing_format: str = ""
    cluster_bits: int = 16
    #: bytes, a multiple of 512
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
    #: the name an image with external data gives its data file
    data_file: str = ""
    #: where the header of the encryption is: offset, bytes
    crypto: tuple[int, int] | None = None
    #: fields beyond those we know, kept as they are
    unknown_fields: bytes = b""
    #: header extensions kept as they are, that of bitmaps among them: type, data
    extensions: list[tuple[int, bytes]] = field(default_factory=list)
    #: whether the file says something that a writer has to correct
    stale: bool = False
    #: where extensions begin and end, and the backing file's name, as read
    _from: int = 0
    _to: int = 0
    _name: tuple[int, int] = (0, 0)

    @property
    def cluster(self) -> int:
        """Bytes in a cluster."""
        return 1 << self.cluster_bits

    @property
    def l2_entries(self) -> int:
        """Entries in a second-level table."""
        return self.cluster // (16 if self.incompatible & EXTENDED_L2 else 8)

    def pack(self) -> bytes:
        """The header's bytes, extensions and backing file name included."""
        tail = b""
        if self.backing_format:
            tail += _extension(_EXT_BACKING_FORMAT, c_bytes(self.backing_format))
        if self.data_file:
            tail += _extension(_EXT_DATA_FILE, c_bytes(self.data_file))
        if self.crypto is not None:
            tail += _extension(_EXT_CRYPTO, struct.pack(">QQ", *self.crypto))
        # there would be no room left beside it; see block/qcow2.c: qcow2_update_header()
        if self.version >= 3 and self.cluster > _LARGEST_WITHOUT_NAMES:
            names = b"".join(
                _FEATURE.pack(kind, bit, name.encode()) for kind, bit, name in _FEATURE_NAMES
            )
            tail += _extension(_EXT_FEATURES, names)
        for kind, data in self.extensions:
            tail += _extension(kind, data)
        tail += _extension(0, b"")
        length = _LENGTH_3 + len(self.unknown_fields) if self.version >= 3 else _LENGTH_2
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
            fixed += self.unknown_fields
        packed = fixed + tail + name
        if len(packed) > self.cluster:
            raise QapiError("Could not write qcow2 header: No space left on device")
        return packed


def _extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data.ljust(-(-len(data) // 8) * 8, b"\0")


def parse_header(store: Store, *, writable: bool = True) -> Header:
    """All of a header, as where no tables are wanted. Raises QapiError with QEMU's words."""
    header = read_fields(store, writable=writable)
    read_extensions(store, header)
    read_backing(store, header)
    return header


def read_fields(store: Store, *, writable: bool = True) -> Header:
    """The fields, and whether they can be. Raises QapiError with QEMU's words.

    `writable`: whether the image is to be written, which one marked as corrupt must not be.
    """
    raw = store.read(0, _LENGTH_3)
    (magic, version, name_at, name_length, cluster_bits, size, crypt, l1_size, l1_offset,
     table_offset, table_clusters, snapshots, snapshots_at) = _HEADER.unpack_from(raw)  # fmt: skip
    if magic != MAGIC:
        raise QapiError("Image is not in qcow2 format")
    if version not in (2, 3):
        raise QapiError(f"Unsupported qcow2 version {version}")
    if not 9 <= cluster_bits <= 21:
        raise QapiError(f"Unsupported cluster size: 2^{cluster_bits}")
    header = Header(
        version=version, cluster_bits=cluster_bits, size=size // _SECTOR * _SECTOR,
        crypt_method=crypt, l1_size=l1_size, l1_offset=l1_offset,
        refcount_table_offset=table_offset, refcount_table_clusters=table_clusters,
        snapshot_count=snapshots, snapshots_offset=snapshots_at,
    )  # fmt: skip
    length = _LENGTH_2
    if version >= 3:
        (header.incompatible, header.compatible, header.autoclear, header.refcount_order,
         length) = _HEADER_3.unpack_from(raw, _LENGTH_2)  # fmt: skip
        if length < 104:
            raise QapiError("qcow2 header too short")
    if length > header.cluster:
        raise QapiError("qcow2 header exceeds cluster size")
    if length > _LENGTH_3:
        header.unknown_fields = store.read(_LENGTH_3, length - _LENGTH_3)
    if name_at > header.cluster:
        raise QapiError("Invalid backing file offset")
    header._from, header._to = length, name_at or header.cluster
    header._name = name_at, name_length
    if length > 104:
        header.compression = raw[104]
    _check_features(store, header, writable)
    _check_tables(header, size)
    return header


def _check_features(store: Store, header: Header, writable: bool) -> None:
    if header.compression > 1:
        raise QapiError(f"qcow2: unknown compression type: {header.compression}")
    if bool(header.compression) != bool(header.incompatible & COMPRESSION):
        which = "must be set" if header.compression else "must not be set"
        raise QapiError(f"qcow2: Compression type incompatible feature bit {which}")
    if header.incompatible & ~_KNOWN:
        raise QapiError(f"Unsupported qcow2 feature(s): {_unknown(store, header)}")
    if header.incompatible & CORRUPT and writable:
        raise QapiError("qcow2: Image is corrupt; cannot be opened read/write")
    parts = 32 if header.incompatible & EXTENDED_L2 else 1
    if header.cluster // parts < _SECTOR:
        raise QapiError(f"Unsupported subcluster size: {header.cluster // parts}")
    if header.refcount_order > 6:
        raise QapiError("Reference count entry width too large; may not exceed 64 bits")
    if header.crypt_method == _CRYPT_AES:
        raise QapiError(
            "Use of AES-CBC encrypted qcow2 images is no longer supported in system emulators",
            "You can use 'qemu-img convert' to convert your image to an alternative supported"
            " format, such as unencrypted qcow2, or raw with the LUKS format instead.",
        )


def _unknown(store: Store, header: Header) -> str:
    """Names of the features we lack, as the image's own table of names has them."""
    left = header.incompatible & ~_KNOWN
    found = []
    for kind, bit, name in _feature_table(store, header):
        if kind == 0 and left >> bit & 1:
            found.append(name)
            left &= ~(1 << bit)
    if left:
        found.append(f"Unknown incompatible feature: {left:x}")
    return ", ".join(found)


def _feature_table(store: Store, header: Header) -> list[tuple[int, int, str]]:
    table = b""
    with contextlib.suppress(QapiError):  # as far as it can be read
        for kind, at, length in _extensions(store, header):
            if kind == _EXT_FEATURES:
                table = store.read(at, length)
    found = []
    for kind, bit, name in _FEATURE.iter_unpack(table[: len(table) // 48 * 48]):
        text = name.split(b"\0", 1)[0]
        if not text:
            break
        found.append((kind, bit & 63, text.decode(errors="surrogateescape")))
    return found


def _check_tables(header: Header, raw_size: int) -> None:
    """Offsets and sizes of the tables. `raw_size`: the size as the file has it, any number."""
    if not header.refcount_table_clusters:
        raise QapiError("Image does not contain a reference count table")
    place = header.refcount_table_offset, header.refcount_table_clusters, header.cluster
    validate_table(header, "Reference count table", place, LARGEST_REFTABLE)
    place = header.snapshots_offset, header.snapshot_count, _SNAPSHOT_ENTRY
    validate_table(header, "Snapshot table", place, _SNAPSHOT_ENTRY * MOST_SNAPSHOTS)
    place = header.l1_offset, header.l1_size, 8
    validate_table(header, "Active L1 table", place, LARGEST_L1)
    covered = header.cluster * header.l2_entries
    needed = (raw_size + covered - 1 & (1 << 64) - 1) // covered
    if needed > _INT_MAX:
        raise QapiError("Image is too big")
    if header.l1_size < needed:
        raise QapiError("L1 table is too small")


def validate_table(
    header: Header, name: str, place: tuple[int, int, int], largest: int
) -> None:
    """Whether a table of at most `largest` bytes can be where a file says. Raises QapiError.

    `place`: offset, entries, bytes in each. See block/qcow2.c: qcow2_validate_table().
    """
    offset, entries, entry = place
    if entries > largest // entry:
        raise QapiError(f"{name} too large")
    if _INT64_MAX - entries * entry < offset or offset % header.cluster:
        raise QapiError(f"{name} offset invalid")


def _extensions(store: Store, header: Header) -> Iterator[tuple[int, int, int]]:
    """Type, offset and length of each extension, as far as it can be. Raises QapiError."""
    at, end = header._from, header._to
    while at < end:
        kind, length = struct.unpack(">II", store.read(at, 8))
        at += 8
        if at > end or length > end - at:
            raise QapiError("Header extension too large")
        if kind == 0:
            return
        yield kind, at, length
        at += -(-length // 8) * 8


def read_extensions(store: Store, header: Header) -> None:
    """Take in the extensions. Raises QapiError."""
    for kind, at, length in _extensions(store, header):
        _take_extension(store, header, kind, at, length)


def _take_extension(store: Store, header: Header, kind: int, at: int, length: int) -> None:
    if kind == _EXT_FEATURES:
        return
    if kind == _EXT_BACKING_FORMAT and length >= _LONGEST_FORMAT:
        raise QapiError(f"ERROR: ext_backing_format: len={length} too large (>={_LONGEST_FORMAT})")
    if kind == _EXT_CRYPTO:
        if header.crypt_method != CRYPT_LUKS:
            raise QapiError("CRYPTO header extension only expected with LUKS encryption method")
        if length != 16:
            raise QapiError(f"CRYPTO header extension size {length}, but expected size 16")
        offset, size = struct.unpack(">QQ", store.read(at, 16))
        if offset % header.cluster:
            raise QapiError(
                f"Encryption header offset '{offset}' is not a multiple of cluster size"
                f" '{header.cluster}'"
            )
        header.crypto = offset, size
        return
    data = store.read(at, length)
    if kind == _EXT_BACKING_FORMAT:
        header.backing_format = _text(data)
    elif kind == _EXT_DATA_FILE:
        header.data_file = _text(data)
    elif kind == EXT_BITMAPS:
        if _take_bitmaps(header, data):
            header.extensions.append((kind, data))
        else:
            header.stale = True
    else:
        header.extensions.append((kind, data))


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode(errors="surrogateescape")


def _take_bitmaps(header: Header, data: bytes) -> bool:
    """Check the extension that says where bitmaps are; whether they are in force."""
    if len(data) != 24:
        raise QapiError("bitmaps_ext: Invalid extension length")
    if not header.autoclear & BITMAPS:
        return False
    number, reserved, size, offset = struct.unpack(">IIQQ", data)
    if reserved:
        raise QapiError("bitmaps_ext: Reserved field is not zero")
    if number > _MOST_BITMAPS:
        raise QapiError(
            f"bitmaps_ext: Image has {number} bitmaps, exceeding the QEMU supported maximum"
            f" of {_MOST_BITMAPS}"
        )
    if number == 0:
        raise QapiError("found bitmaps extension with zero bitmaps")
    if offset % header.cluster:
        raise QapiError("bitmaps_ext: invalid bitmap directory offset")
    if size > LARGEST_DIRECTORY:
        raise QapiError(
            f"bitmaps_ext: bitmap directory size ({size}) exceeds the maximum supported size"
            f" ({LARGEST_DIRECTORY})"
        )
    return True


def read_backing(store: Store, header: Header) -> None:
    """The name of the backing file. Raises QapiError."""
    at, length = header._name
    if not at:
        return
    if length > min(1023, header.cluster - at):
        raise QapiError("Backing file name too long")
    header.backing_file = _text(store.read(at, length))
