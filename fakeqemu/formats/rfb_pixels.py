"""How a VNC client wants its pixels: bits, colours, byte order.

See ui/vnc.c: set_pixel_format() and vnc_write_pixels_generic().
"""

from __future__ import annotations

import struct

from fakeqemu.dataclass import dataclass

_TRIPLE = 3
_LARGEST = 0xFF
_WIDTHS = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """One format; the default is QEMU's own."""

    bits: int = 32
    big_endian: bool = False
    #: the largest value of red, green and blue, and how far each is shifted left
    maxima: tuple[int, int, int] = (255, 255, 255)
    shifts: tuple[int, int, int] = (16, 8, 0)
    #: what is to be sent before pixels that are numbers of colours
    colour_map: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> PixelFormat | None:
        """What a client has asked for; None if that cannot be."""
        bits, _, big, true_colour, red, green, blue, r, g, b = struct.unpack(
            ">BBBBHHHBBB", data[:13]
        )
        colour_map = b""
        if not true_colour:
            bits, (red, green, blue), (r, g, b) = 8, (7, 7, 3), (0, 3, 6)
            colour_map = _colour_map((red, green, blue), (r, g, b))
        if bits not in _WIDTHS or max(red, green, blue) > _LARGEST or max(r, g, b) >= bits:
            return None
        maxima = (red or _LARGEST, green or _LARGEST, blue or _LARGEST)
        return cls(bits, bool(big), maxima, (r, g, b), colour_map)

    def described(self) -> bytes:
        """As a server tells it."""
        depth = 24 if self.bits == 32 else self.bits
        return struct.pack(
            ">BBBBHHHBBB3x", self.bits, depth, self.big_endian, 1, *self.maxima, *self.shifts
        )

    def converted(self, pixels: bytes) -> bytes:
        """Red, green, blue in bytes as pixels of this format."""
        if self == PixelFormat():
            out = bytearray(len(pixels) // _TRIPLE * 4)
            out[0::4], out[1::4], out[2::4] = pixels[2::3], pixels[1::3], pixels[0::3]
            return bytes(out)
        known: dict[bytes, bytes] = {}
        triples = (pixels[at : at + _TRIPLE] for at in range(0, len(pixels), _TRIPLE))
        return b"".join(
            known[triple] if triple in known else known.setdefault(triple, self._one(triple))
            for triple in triples
        )

    def _one(self, triple: bytes) -> bytes:
        value = 0
        for part, largest, shift in zip(triple, self.maxima, self.shifts, strict=True):
            value |= part * (largest + 1) // 256 << shift
        return value.to_bytes(self.bits // 8, "big" if self.big_endian else "little")


def _colour_map(maxima: tuple[int, int, int], shifts: tuple[int, int, int]) -> bytes:
    """The message that says what 256 numbers of colours mean."""
    out = struct.pack(">BxHH", 1, 0, 256)
    for number in range(256):
        parts = [
            (number >> shift & largest) * 65535 // largest
            for largest, shift in zip(maxima, shifts, strict=True)
        ]
        out += struct.pack(">HHH", *parts)
    return out
