"""Files that boards of other targets load; texts as real emulators of 10.0 print them."""

from __future__ import annotations

import pytest

from fakeqemu.qapi.errors import NotModelledError, StartupError
from fakeqemu.testing import FakeQemu

BOARDS = {
    "aarch64": "virt",
    "ppc64": "pseries",
    "riscv64": "virt",
    "s390x": "s390-ccw-virtio",
    "powernv": "powernv",
}
PLAIN, ELF, EMPTY = "plain", "elf", "empty"


def start(board, tmp_path, *argv):
    (tmp_path / PLAIN).write_bytes(bytes(4096))
    (tmp_path / ELF).write_bytes(b"\x7fELF\2\1\1" + bytes(11) + b"\x3e" + bytes(60))
    (tmp_path / EMPTY).write_bytes(b"")
    target = "ppc64" if board == "powernv" else board
    argv = [str(tmp_path / each) if each in (PLAIN, ELF, EMPTY) else each for each in argv]
    machine = FakeQemu.sync("-machine", BOARDS[board], "-S", *argv, profile=f"10.0/{target}")
    with machine:
        return machine.hmp("info status")


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("option", ["-kernel", "-bios"])
def test_a_small_file_is_loaded(tmp_path, board, option):
    if (board, option) == ("ppc64", "-kernel"):
        pytest.skip("takes ELF files alone")
    assert start(board, tmp_path, option, PLAIN) == "VM status: paused (prelaunch)\n"


@pytest.mark.parametrize(
    ("board", "argv", "text"),
    [
        ("aarch64", ["-bios", "/nonexistent"], "Could not find ROM image '/nonexistent'"),
        ("aarch64", ["-kernel", "/nonexistent"], "could not load kernel '/nonexistent'"),
        ("aarch64", ["-kernel", PLAIN, "-initrd", "/nonexistent"],
         "could not load initrd '/nonexistent'"),
        ("aarch64", ["-bios", PLAIN, "-kernel", "/nonexistent"], 'failed to load "/nonexistent"'),
        ("aarch64", ["-kernel", ELF], "The image is from incompatible architecture"),
        ("ppc64", ["-bios", "/nonexistent"], "Could not find LPAR firmware '/nonexistent'"),
        ("ppc64", ["-bios", EMPTY], "Could not load LPAR firmware"),
        ("ppc64", ["-kernel", "/nonexistent"], "error loading /nonexistent: Failed to load ELF"),
        ("ppc64", ["-kernel", PLAIN], "The image is not ELF"),
        ("ppc64", ["-kernel", ELF], "The image is from incompatible architecture"),
        ("ppc64", ["-m", "127"], "pSeries SLOF firmware requires >= 80ldMiB guest RMA"),
        ("powernv", ["-bios", "/nonexistent"], "Could not find OPAL firmware '/nonexistent'"),
        ("powernv", ["-dtb", "/nonexistent"], "Could not load dtb '/nonexistent'"),
        ("powernv", ["-m", "1023"], "Invalid RAM size, should be bigger than 1 GiB"),
        ("riscv64", ["-bios", "/nonexistent"], 'Unable to find the RISC-V BIOS "/nonexistent"'),
        ("riscv64", ["-bios", "/"], "could not load firmware '/'"),
        ("riscv64", ["-kernel", PLAIN, "-initrd", "/nonexistent"],
         "could not load ramdisk '/nonexistent'"),
        ("riscv64", ["-dtb", "/nonexistent"], "load_device_tree() failed"),
        ("riscv64", ["-m", "1"], "fakeqemu does not model '-m 1048576"),
        ("s390x", ["-bios", "/nonexistent"], "could not find stage1 bootloader"),
        ("s390x", ["-kernel", "/nonexistent"], "could not load kernel '/nonexistent'"),
        ("s390x", ["-kernel", EMPTY], "Could not get IPL PSW"),
        ("s390x", ["-m", "2"], "not enough RAM to load the BIOS file"),
    ],
)  # fmt: skip
def test_a_file_that_the_board_cannot_use(tmp_path, board, argv, text):
    with pytest.raises((StartupError, NotModelledError)) as failed:
        start(board, tmp_path, *argv)
    assert text in str(failed.value)


@pytest.mark.parametrize(("head", "taken"), [(b"\x7fELF", True), (bytes(4), False)])
def test_only_an_elf_file_may_be_larger_than_the_room_for_a_loader(tmp_path, head, taken):
    (tmp_path / "bios").write_bytes(head + bytes(8192))
    argv = ["-bios", str(tmp_path / "bios")]
    if taken:
        assert start("s390x", tmp_path, *argv)
    else:
        with pytest.raises(StartupError, match="could not load bootloader"):
            start("s390x", tmp_path, *argv)


@pytest.mark.parametrize("name", ["none", "default"])
def test_firmware_of_riscv_that_is_no_file(tmp_path, name):
    assert start("riscv64", tmp_path, "-bios", name) == "VM status: paused (prelaunch)\n"


def test_a_reason_stands_on_a_line_before(tmp_path):
    with pytest.raises(StartupError) as failed:
        start("riscv64", tmp_path, "-kernel", "/nonexistent")
    assert failed.value.text == "could not load kernel '/nonexistent'"


@pytest.mark.parametrize(("target", "machine"), [("aarch64", "raspi3b"), ("ppc64", "mac99")])
def test_a_board_whose_words_are_not_known_says_so(target, machine):
    text = "fakeqemu does not model '-bios /nonexistent'"
    with pytest.raises((StartupError, NotModelledError), match=text):
        FakeQemu.sync(
            "-machine", machine, "-bios", "/nonexistent", profile=f"10.0/{target}"
        ).start()
