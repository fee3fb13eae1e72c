"""Options about translated code and what watches it, of which nothing runs here.

See system/vl.c: qemu_init(); util/log.c: qemu_set_dfilter_ranges(); util/guest-random.c:
qemu_guest_random_seed_main(); tcg/perf.c: perf_enable_perfmap() and perf_enable_jitdump().
"""

from __future__ import annotations

import struct

from fakeqemu.boot.cmdline.commandline import CommandLine, ToConfiguration, option, options
from fakeqemu.qapi.readers.scalars import MalformedError, OutOfRangeError, parse_uint64, strtou64

#: how the ends of a range are joined, in the order in which they are looked for
_JOINTS = ("-", "+", "..")
_MASK = (1 << 64) - 1
#: tcg/perf.c: struct jitheader
_JIT_HEADER = struct.Struct("<6I2Q")
_JIT_MAGIC = 0x4A695444
_EM_X86_64 = 62


@option("seed", judged=True)
def _seed(line: CommandLine, text: str) -> None:
    try:
        if text.lstrip().startswith("-"):
            raise MalformedError(text)
        parse_uint64(text)
    except (MalformedError, OutOfRangeError):
        line.fail(f"Invalid seed number: {text}")


@option("dfilter", judged=True)
def _dfilter(line: CommandLine, text: str) -> None:
    for item in text.split(",") if text else ():
        _check_range(line, item)


def _check_range(line: CommandLine, item: str) -> None:
    """One range of guest addresses. Raises StartupError."""
    joint = next((each for each in _JOINTS if each in item), None)
    if joint is None:
        line.fail("Bad range specifier")
    left, _, right = item.partition(joint)
    first = _number(line, left, f"left of {joint}")
    second = _number(line, right, f"right of {joint}")
    lower, upper = {
        "+": (first, first + second - 1 & _MASK),
        "-": (first - (second - 1) & _MASK, first),
        "..": (first, second),
    }[joint]
    if lower > upper:
        line.fail("Invalid range")


def _number(line: CommandLine, text: str, side: str) -> int:
    try:
        value, used = strtou64(text)
    except (MalformedError, OutOfRangeError):
        used = -1
    if used != len(text):
        line.fail(f"Invalid number to the {side}")
    return value


@option("perfmap")
def _perfmap(line: CommandLine, _text: str) -> None:
    _make(line, f"/tmp/perf-{line.files.process_id()}.map", b"", "perfmap")


@option("jitdump")
def _jitdump(line: CommandLine, _text: str) -> None:
    process = line.files.process_id()
    size = _JIT_HEADER.size
    header = _JIT_HEADER.pack(
        _JIT_MAGIC, 1, size, _EM_X86_64, 0, process, line.files.monotonic_ns(), 0
    )
    _make(line, f"jit-{process}.dump", header, "jitdump")


def _make(line: CommandLine, path: str, data: bytes, what: str) -> None:
    """A file for code that is never translated: it has its header and no entries."""
    try:
        line.files.write_private(path, data)
    except OSError as error:
        text = f"Could not open {path}: {error.strerror}, proceeding without {what}"
        line.messages.warn(text, line.location)


options(
    {
        "singlestep": ToConfiguration("single_step", True),
        "enable-sync-profile": ToConfiguration("sync_profile", True),
    }
)
