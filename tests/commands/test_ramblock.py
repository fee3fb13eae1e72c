"""`info ramblock`; texts are those of real ones, but for addresses in the process."""

from __future__ import annotations

Q35 = """\
              Block Name    PSize              Offset               Used              Total
                  pc.ram    4 KiB  0x0000000000000000 0x0000000004000000 0x0000000004000000
   0000:00:01.0/vga.vram    4 KiB  0x0000000004080000 0x0000000001000000 0x0000000001000000
    /rom@etc/acpi/tables    4 KiB  0x00000000050c0000 0x0000000000020000 0x0000000000200000
                 pc.bios    4 KiB  0x0000000004000000 0x0000000000040000 0x0000000000040000
                  pc.rom    4 KiB  0x0000000004040000 0x0000000000020000 0x0000000000020000
    0000:00:01.0/vga.rom    4 KiB  0x0000000005080000 0x0000000000010000 0x0000000000010000
   /rom@etc/table-loader    4 KiB  0x00000000052c0000 0x0000000000001000 0x0000000000010000
      /rom@etc/acpi/rsdp    4 KiB  0x0000000005300000 0x0000000000001000 0x0000000000001000
"""


def test_blocks_of_a_board(start):
    vm = start("-machine", "q35", "-device", "VGA", "-m", "64", "-S", profile="7.2")
    assert vm.hmp("info ramblock") == Q35
    assert vm.ask("x-query-ramblock")["human-readable-text"] == Q35


def test_where_they_are_and_whether_they_can_be_written(start):
    lines = start("-machine", "q35", "-m", "64", "-S").hmp("info ramblock").splitlines()
    assert lines[0].endswith("Total                HVA  RO")
    assert lines[1].endswith("0x0000000004000000 0x0000000000000000  rw")
    assert lines[3].endswith("0x0000000000040000 0x0000000000000000  ro")
    (bios,) = [
        line
        for line in start("-machine", "isapc", "-S").hmp("info ramblock").splitlines()
        if "pc.bios" in line
    ]
    assert bios.endswith("rw")


def test_a_backend_that_nobody_uses_has_no_name(start):
    words = ("-object", "memory-backend-ram,id=m,size=64M")
    text = start("-machine", "q35", "-m", "64", "-S", *words, profile="7.2").hmp("info ramblock")
    number = "0x0000000004000000"
    assert text.splitlines()[1:3] == [
        f"{'':24}    4 KiB  0x0000000000000000 {number} {number}",
        f"{'pc.ram':>24}    4 KiB  {number} {number} {number}",
    ]
