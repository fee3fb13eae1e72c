"""Pictures of consoles: valid files of the size that the console has."""

import struct
import zlib

from fakeqemu.formats.image import blank, message, png, ppm


def chunks(data):
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at = 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        checksum = data[at + 8 + size : at + 12 + size]
        assert int.from_bytes(checksum, "big") == zlib.crc32(kind + body)
        yield kind, body
        at += 12 + size


def test_png_and_ppm_hold_the_same_pixels():
    picture = message(640, 480, "Guest")
    found = dict(chunks(png(picture)))
    assert struct.unpack(">IIBBBBB", found[b"IHDR"]) == (640, 480, 8, 2, 0, 0, 0)
    rows = zlib.decompress(found[b"IDAT"])
    pixels = b"".join(rows[y * 1921 + 1 : (y + 1) * 1921] for y in range(480))
    assert ppm(picture) == b"P6\n640 480\n255\n" + pixels
    assert pixels != blank(640, 480).pixels


def test_text_is_in_the_middle():
    picture = message(64, 32, "o")
    lit = [n for n in range(64 * 32) if picture.pixels[n * 3 : n * 3 + 3] != b"\0\0\0"]
    assert lit
    assert all(28 <= n % 64 < 36 and 8 <= n // 64 < 24 for n in lit)


def size(running, **arguments):
    running.ask("screendump", filename="shot", **arguments)
    file = running.vm.host.files.open("shot", writable=False)
    return tuple(map(int, file.read(0, 20).split(b"\n")[1].split()))


def test_firmware_changes_the_mode_of_vga_only(start):
    running = start(
        "-machine", "q35", "-S", "-device", "VGA,id=a", "-device", "bochs-display,id=b"
    )
    assert size(running) == (640, 480)
    running.vm.lifecycle.cont()
    assert size(running) == (720, 400)
    assert size(running, device="b") == (640, 480)


def test_a_text_console_is_the_last_resort(start):
    running = start("-machine", "q35", "-S", "-chardev", "vc,id=t")
    assert size(running) == (640, 384)
    with_vga = start("-machine", "q35", "-S", "-chardev", "vc,id=t", "-device", "VGA")
    assert size(with_vga) == (640, 480)
