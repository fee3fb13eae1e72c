"""Dumps: the files that debuggers read, and what happens around them."""

import errno
import os
import struct
import zlib

import pytest

PAGE = 4096


def content(running, name):
    file = running.vm.host.files.open(name, writable=False)
    return file.read(0, file.size())


def dump(running, name="core", **options):
    running.ask("dump-guest-memory", paging=False, protocol=f"file:{name}", **options)
    return content(running, name)


def segments(core):
    """(kind, offset, physical address, bytes) of each program header."""
    at, count = struct.unpack_from("<Q", core, 32)[0], struct.unpack_from("<H", core, 56)[0]
    for number in range(count):
        kind, _, offset, _, address, size, *_ = struct.unpack_from(
            "<IIQQQQQQ", core, at + 56 * number
        )
        yield kind, offset, address, size


def unflattened(data):
    assert data.startswith(b"makedumpfile\0")
    out, at = bytearray(), PAGE
    while True:
        offset, size = struct.unpack_from(">qq", data, at)
        at += 16
        if offset == -1:
            assert at == len(data)
            return bytes(out)
        out.extend(bytes(max(0, offset + size - len(out))))
        out[offset : offset + size] = data[at : at + size]
        at += size


def test_an_elf_core_has_each_byte_of_memory_where_its_headers_say(start):
    running = start("-machine", "pc", "-m", "4", "-S", "-smp", "2")
    memory = running.vm.guest_memory
    memory.write(0x1234, b"low")
    memory.write(0x3FF000, b"high")
    core = dump(running)
    assert core.startswith(b"\x7fELF\x02\x01\x01")
    found = list(segments(core))
    assert [kind for kind, *_ in found] == [4] + [1] * (len(found) - 1)
    assert [(a, s) for _, _, a, s in found[1:]] == [(r.start, r.size) for r in memory.regions()]
    for _, offset, address, size in found[1:]:
        assert core[offset : offset + size] == memory.read(address, size)
    assert core.endswith(b"\0.shstrtab\0")


def test_notes_tell_of_each_cpu_twice(start):
    running = start("-machine", "pc", "-m", "4", "-S", "-smp", "3")
    core = dump(running)
    _, offset, _, size = next(segments(core))
    notes, owners = core[offset : offset + size], []
    while notes:
        name_size, size, kind = struct.unpack_from("<III", notes)
        owners.append((notes[12 : 11 + name_size], size, kind))
        notes = notes[12 + -(-name_size // 4) * 4 + size :]
    assert owners == [(b"CORE", 0x90, 1)] * 3 + [(b"QEMU", 0x1B8, 0)] * 3


def test_a_range_leaves_the_rest_out(start):
    running = start("-machine", "pc", "-m", "4", "-S")
    running.vm.guest_memory.write(0x9FFF0, b"in the range")
    core = dump(running, begin=0x9FFF0, length=0x30010)
    found = list(segments(core))[1:]
    assert [(a, s) for _, _, a, s in found] == [(0x9FFF0, 0x20010), (0xC0000, 0x10000)]
    assert core[found[0][1] :].startswith(b"in the range")
    assert running.ask("query-dump")["total"] == 0x30020 - 0x10


def test_kdump_describes_every_page(start):
    running = start("-machine", "pc", "-m", "4", "-S", profile="10.0")
    random, text = os.urandom(PAGE), b"text" * 1024
    running.vm.guest_memory.write(0x200000, random)
    running.vm.guest_memory.write(0x300000, text)
    data = unflattened(dump(running, "flat", format="kdump-zlib"))
    assert data == dump(running, "raw", format="kdump-raw-zlib")
    assert data.startswith(b"KDUMP   " + struct.pack("<I", 6))
    status, block, sub, bitmaps, limit = struct.unpack_from("<5I", data, 424)
    assert (status, block, limit) == (1, PAGE, 1 << 20)
    bitmap_at = (1 + sub) * PAGE
    size = bitmaps * PAGE // 2
    assert data[bitmap_at : bitmap_at + size] == data[bitmap_at + size : bitmap_at + 2 * size]
    bits = int.from_bytes(data[bitmap_at : bitmap_at + size], "little")
    pages = ((0x200000, random, 0), (0x300000, text, 1), (0, bytes(PAGE), 0))
    for address, expected, flag in pages:
        frame = address // PAGE
        assert bits >> frame & 1
        index = (bits & ((1 << frame) - 1)).bit_count()
        at = (1 + sub + bitmaps) * PAGE + 24 * index
        offset, stored, flags, _ = struct.unpack_from("<QIIQ", data, at)
        page = data[offset : offset + stored]
        assert flags == flag
        assert (zlib.decompress(page) if flags else page) == expected
    assert not bits >> (0xC0000000 // PAGE) & 1


def test_a_detached_dump_holds_the_guest_and_its_migration(start):
    running = start("-machine", "pc", "-m", "4")
    running.vm.lifecycle.cont()
    running.names()
    running.ask(
        "dump-guest-memory", paging=False, protocol="file:core", detach=True, format="elf"
    )
    assert running.names() == ["STOP"]
    assert running.ask("query-dump")["status"] == "active"
    busy = ("GenericError", "There is a dump in process, please wait.")
    assert running.error("cont") == busy
    assert running.error("dump-guest-memory", paging=False, protocol="file:x") == busy
    reason = "Live migration disabled: dump-guest-memory in progress"
    assert running.ask("query-migrate")["blocked-reasons"] == [reason]
    running.vm.clock.advance(1 << 23)
    assert running.names() == ["DUMP_COMPLETED", "RESUME"]
    assert "blocked-reasons" not in running.ask("query-migrate")
    result = running.ask("query-dump")
    assert result["status"] == "completed"
    assert result["completed"] == result["total"]


class FullDisk:
    seekable = True
    written = 0

    def write(self, pieces):
        for _ in pieces:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self):
        pass


def test_a_full_disk_fails_the_dump_and_lets_the_guest_run(start, monkeypatch):
    running = start("-machine", "pc", "-m", "4")
    running.vm.lifecycle.cont()
    running.events.clear()
    monkeypatch.setattr(running.vm.host, "create_output", lambda _path, _mode=0: FullDisk())
    text = "dump: failed to write elf header: No space left on device"
    assert running.error("dump-guest-memory", paging=False, protocol="file:x") == (
        "GenericError", text
    )  # fmt: skip
    assert [name for name, _ in running.events] == ["STOP", "DUMP_COMPLETED", "RESUME"]
    assert running.events[1][1]["error"] == text
    assert running.ask("query-dump")["status"] == "failed"


class DiskOf:
    """A disk that has room for so many bytes."""

    seekable = True
    written = 0

    def __init__(self, room):
        self.room = room

    def write(self, pieces):
        for piece in pieces:
            self.written += len(piece)
            if self.written > self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self):
        pass


@pytest.mark.parametrize(("pages", "word"), [(8, "set"), (63, "sync")])
def test_a_bitmap_is_written_a_page_of_both_copies_at_a_time(start, monkeypatch, pages, word):
    """RAM ends at 4 GiB, where the firmware stands: 32 pages of bitmap, twice."""
    running = start("-machine", "q35", "-m", "4", "-S")
    room = 4096 + pages * (4096 + 16)
    monkeypatch.setattr(running.vm.host, "create_output", lambda _path, _mode=0: DiskOf(room))
    assert running.error(
        "dump-guest-memory", paging=False, protocol="file:x", format="kdump-zlib"
    ) == ("GenericError", f"dump: failed to {word} dump_bitmap")


@pytest.mark.parametrize("arguments", [{"begin": 0xC0000000, "length": PAGE}, {}])
def test_nothing_to_dump(start, arguments):
    machine = ("-machine", "pc", "-m", "4") if arguments else ("-machine", "none")
    running = start(*machine, "-S")
    assert running.error(
        "dump-guest-memory", paging=False, protocol="file:x", **arguments
    ) == ("GenericError", "dump: no guest memory to dump")
    assert running.ask("query-dump") == {"status": "failed", "completed": 0, "total": 0}
