"""The section of a TPM emulator: the blobs that it keeps its state in, as they came out of it.

See backends/tpm/tpm_emulator.c: vmstate_tpm_emulator.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Mapping

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.migration_stream.byte_reader import ByteReader
from fakeqemu.formats.migration_stream.vmstate.vmstate_fields import VmState, VmStateField

SECTION = "tpm-emulator"
VERSION = 0
#: PTM_BLOB_TYPE_* in the order of the section -> name of the member
BLOB_TYPES = {1: "permanent", 2: "volatil", 3: "savestate"}


@dataclass(frozen=True, slots=True)
class TpmBlob:
    """One blob of an emulator's state."""

    #: PTM_STATE_FLAG_*
    flags: int
    data: bytes


def layout_of(blobs: Mapping[int, TpmBlob]) -> VmState:
    """The section's fields where the blobs are so large."""
    fields: list[VmStateField] = []
    for kind, name in BLOB_TYPES.items():
        fields += [
            VmStateField(f"state_blobs.{name}_flags", "uint32", 4),
            VmStateField(f"state_blobs.{name}.size", "uint32", 4),
            VmStateField(f"state_blobs.{name}.buffer", "buffer", len(blobs[kind].data)),
        ]
    return VmState(SECTION, VERSION, tuple(fields), minimum_version=VERSION)


def encode(blobs: Mapping[int, TpmBlob]) -> bytes:
    """The section's bytes."""
    found = [blobs[kind] for kind in BLOB_TYPES]
    return b"".join(struct.pack(">II", each.flags, len(each.data)) + each.data for each in found)


def read(pull: ByteReader) -> Generator[None, None, dict[int, TpmBlob] | str]:
    """The blobs of a section, by type; where the stream ends, the name of what it lacks."""
    blobs: dict[int, TpmBlob] = {}
    for kind, name in BLOB_TYPES.items():
        flags = yield from pull.number(4)
        size = yield from pull.number(4)
        if (yield from pull.want(size)) < size or pull.error:
            return f"state_blobs.{name}.buffer"
        blobs[kind] = TpmBlob(flags, (yield from pull.get(size)))
    return blobs
