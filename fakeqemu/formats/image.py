"""Pictures: what a console shows, letters drawn into it, and the file formats it is saved in.

See ui/ui-qmp-cmds.c: ppm_save() and png_save(); ui/console.c: qemu_create_placeholder_surface();
ui/console-vc.c: vga_putcharxy().
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from fakeqemu.dataclass import dataclass

#: a letter's cell, as wide and high as a VGA adapter's
CELL_WIDTH, CELL_HEIGHT = 8, 16
_GREY = b"\xaa\xaa\xaa"
_BLACK = b"\0\0\0"
_PNG = b"\x89PNG\r\n\x1a\n"

#: letter -> five columns from left to right, the lowest bit on top
_GLYPHS = {
    " ": "0000000000", "(": "001c224100", ")": "0041221c00", ".": "0060600000",
    "0": "3e5149453e", "1": "00427f4000", "2": "4261514946", "3": "21414d4d33",
    "4": "181412ff10", "5": "2745454539", "6": "3c4a494931", "7": "4121110907",
    "8": "3649494936", "9": "464949291e", "G": "3e41415173", "_": "4040404040",
    "a": "2054547840", "b": "7f28444438", "c": "3844444428", "d": "384444287f",
    "e": "3854545418", "f": "00087e0902", "g": "18a4a49c78", "h": "7f08040478",
    "i": "00447d4000", "j": "2040403d00", "k": "7f10284400", "l": "00417f4000",
    "m": "7c04780478", "n": "7c08040478", "o": "3844444438", "p": "fc18242418",
    "q": "18242418fc", "r": "7c08040408", "s": "4854545424", "t": "04043f4424",
    "u": "3c4040207c", "v": "1c2040201c", "w": "3c4030403c", "x": "4428102844",
    "y": "4c9090907c", "z": "4464544c44",
}  # fmt: skip
_BOX = "7f4141417f"


@dataclass(frozen=True, slots=True)
class Picture:
    """Rows of pixels, three bytes each: red, green, blue."""

    width: int
    height: int
    pixels: bytes

    def row(self, number: int) -> bytes:
        """One row."""
        size = self.width * 3
        return self.pixels[number * size : (number + 1) * size]


def blank(width: int, height: int) -> Picture:
    """A black picture."""
    return Picture(width, height, bytes(width * height * 3))


def message(width: int, height: int, text: str) -> Picture:
    """A black picture with `text` in its middle."""
    x = max(0, (width - len(text) * CELL_WIDTH) // 2)
    y = max(0, (height - CELL_HEIGHT) // 2)
    return written(blank(width, height), x, y, text)


def written(picture: Picture, x: int, y: int, text: str) -> Picture:
    """The picture with `text` on it, the first letter's upper left corner at (x, y)."""
    pixels = bytearray(picture.pixels)
    for line, drawn in enumerate(_lines(text)):
        start = ((y + line) * picture.width + x) * 3
        pixels[start : start + len(drawn)] = drawn
    return Picture(picture.width, picture.height, bytes(pixels))


def _lines(text: str) -> Iterator[bytes]:
    glyphs = [bytes.fromhex(_GLYPHS.get(char, _BOX)) for char in text]
    for line in range(CELL_HEIGHT):
        bit = line // 2
        yield b"".join(
            b"".join(_GREY if column >> bit & 1 else _BLACK for column in glyph)
            + _BLACK * (CELL_WIDTH - len(glyph))
            for glyph in glyphs
        )


def ppm(picture: Picture) -> bytes:
    """The picture as a binary portable pixmap."""
    return f"P6\n{picture.width} {picture.height}\n255\n".encode() + picture.pixels


def png(picture: Picture) -> bytes:
    """The picture as a PNG of true colours."""
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + picture.row(number) for number in range(picture.height))
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return _PNG + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
