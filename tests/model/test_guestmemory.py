"""Guest memory: where it is, what stays in it, what it costs."""

import pytest

from fakeqemu.model.boards.guest_memory import PAGE
from fakeqemu.model.dump.output import Zeros

GIB = 1 << 30


def test_reads_back_what_was_written_across_pages(start):
    memory = start("-machine", "q35", "-m", "64").vm.guest_memory
    data = bytes(range(256)) * 40
    memory.write(0x200FF0, data)
    assert memory.read(0x200FF0, len(data)) == data
    assert memory.read(0x200FE0, 16) == bytes(16)


def test_only_pages_that_are_not_zero_are_kept(start):
    memory = start("-machine", "pc", "-m", "4096").vm.guest_memory
    memory.write(GIB, b"\0" * 3 * PAGE)
    memory.write(GIB + 5 * PAGE + 7, b"x")
    assert len(memory.pages("pc.ram")) == 1
    memory.write(GIB + 5 * PAGE + 7, b"\0")
    assert not memory.pages("pc.ram")


@pytest.mark.parametrize(
    ("machine", "size", "below"),
    [
        ("pc", 3583, 3583 << 20),
        ("pc", 4096, 3 * GIB),
        ("q35", 2815, 2815 << 20),
        ("q35", 4096, 2 * GIB),
        ("q35,max-ram-below-4g=1G", 4096, GIB),
        ("microvm", 4096, 3 * GIB),
    ],
)
def test_memory_is_split_at_the_hole_below_4g(start, machine, size, below):
    memory = start("-machine", machine, "-m", str(size)).vm.guest_memory
    ram = [region for region in memory.regions() if region.block.endswith(".ram")]
    low = max(region.end for region in ram if region.start < 4 * GIB)
    assert low == below
    high = [region for region in ram if region.start >= 4 * GIB]
    assert sum(region.size for region in high) == (size << 20) - below
    if high:
        memory.write(4 * GIB, b"above")
        assert memory.load(high[0].block, below, 5) == b"above"


def test_what_is_no_memory_reads_as_zeros_and_takes_nothing(start):
    memory = start("-machine", "q35", "-m", "64").vm.guest_memory
    for address in (0xC0000000, 0x100000000, 0xFFFFFFF0):
        memory.write(address, b"lost")
        assert memory.read(address, 4) == b"\0\0\0\0"
    assert not memory.is_mapped(0xC0000000)
    assert memory.is_mapped(0xFFFFFFF0, 16)


def test_a_vga_adapter_covers_its_window(start):
    plain = start("-machine", "q35", "-m", "64").vm.guest_memory
    plain.write(0xB8000, b"text")
    assert plain.read(0xB8000, 4) == b"text"
    covered = start("-machine", "q35", "-m", "64", "-device", "VGA").vm.guest_memory
    covered.write(0xB8000, b"text")
    assert covered.read(0xB8000, 4) == bytes(4)
    assert covered.is_readable(0xB8000, 4)
    assert not covered.is_mapped(0xB8000, 4)
    # through the window and on, up to the end of the memory
    assert covered.readable(0x9F000, 0x30000) == 0x30000
    assert covered.readable(0xB8000, 1 << 40) == (64 << 20) - 0xB8000
    assert covered.readable(64 << 20, 1) == 0


def test_content_is_told_in_pieces(start):
    memory = start("-machine", "pc", "-m", "64").vm.guest_memory
    memory.write(0x300000, b"a" * PAGE)
    pieces = list(memory.content(0x2FF800, 2 * PAGE))
    assert pieces == [Zeros(0x800), b"a" * PAGE, Zeros(0x800)]


def test_a_machine_without_memory_has_no_regions(start):
    assert start("-machine", "none").vm.guest_memory.regions() == ()


@pytest.mark.parametrize("inside", ["mtree", "roms", "jit"])
def test_what_is_inside_the_machine_is_not_made_up(start, inside):
    text = f"fakeqemu does not model 'info {inside}'\n"
    assert start("-machine", "q35").hmp(f"info {inside}") == text


def test_a_reset_keeps_memory(start):
    running = start("-machine", "q35")
    running.vm.guest_memory.write(0x100000, b"still there")
    running.ask("system_reset")
    assert running.vm.guest_memory.read(0x100000, 11) == b"still there"


def test_the_balloon_counts_memory_modules(start):
    options = ("-m", "128,slots=2,maxmem=1G", "-device", "virtio-balloon-pci")
    running = start("-machine", "q35", *options)
    running.vm.guest.inflate(100 << 20)
    running.ask("object-add", **{"qom_type": "memory-backend-ram", "id": "m", "size": 64 << 20})
    running.ask("device_add", driver="pc-dimm", id="d", memdev="m")
    # what the guest has given up stays given up
    assert running.ask("query-balloon") == {"actual": 164 << 20}
    running.vm.guest.inflate(192 << 20)
    assert running.ask("query-balloon") == {"actual": 192 << 20}
    changes = [data for name, data in running.events if name == "BALLOON_CHANGE"]
    assert changes == [{"actual": 100 << 20}, {"actual": 192 << 20}]
