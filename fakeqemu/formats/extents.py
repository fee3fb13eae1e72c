"""Pieces of images and what can go wrong with them: common to formats and block drivers.

See include/block/block-common.h: BDRV_MAX_LENGTH.
"""

from __future__ import annotations

from fakeqemu.dataclass import dataclass
from fakeqemu.qapi.errors import QapiError


class BlockIoError(QapiError):
    """A read or write failed; `desc` is the text of its errno."""

    def __init__(self, desc: str = "Input/output error", hint: str = "") -> None:
        super().__init__(desc, hint)
        #: whether for want of room
        self.nospace = desc == "No space left on device"
        #: read or write, as a job saw it
        self.operation = "write"


class MustWaitError(Exception):
    """A pending reply is needed first; the access is retried once it has come."""


#: what a range of an image is at one layer: has data, reads as zeros, or is up to the layer below
DATA, ZERO, HOLE = "data", "zero", "hole"

CHUNK = 1 << 20

#: the longest that an image may be, in bytes: BDRV_MAX_LENGTH of include/block/block-common.h
MAX_LENGTH = (1 << 63) - (1 << 30)


@dataclass(frozen=True, slots=True)
class Range:
    """A piece of an image of one kind."""

    offset: int
    length: int
    #: DATA, ZERO or HOLE
    kind: str

    @property
    def end(self) -> int:
        """The first offset after it."""
        return self.offset + self.length


def check_length(size: int) -> None:
    """Whether an image can be of `size`. Raises QapiError."""
    if not 0 <= size < 1 << 63:
        raise QapiError("Image size cannot be negative")
    if size > MAX_LENGTH:
        raise QapiError(f"offset({size}) exceeds maximum({MAX_LENGTH})")
