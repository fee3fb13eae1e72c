"""How qemu-io prints sizes, times, statistics of a request, and data.

See qemu-io-cmds.c: cvtstr(), timestr(), print_report() and dump_buffer().
"""

from __future__ import annotations

from fakeqemu.clock import SECOND

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_ROW = 16


def size_text(value: float) -> str:
    """A number of bytes in the largest unit that fits: `64 KiB`, `1.500 MiB`, `512 bytes`."""
    text, unit = f"{value:f}", "bytes"
    for power, name in enumerate(_UNITS, 1):
        if value >= 1024**power:
            text, unit = f"{value / 1024**power:.3f}", name
    whole, dot, _ = text.partition(".000")
    return f"{whole} {unit}" if dot else f"{text} {unit}"


def time_text(nanoseconds: int, *, verbose: bool) -> str:
    """`00.01 sec`; `0:00:01.25` for more than a second, or if `verbose`."""
    whole, rest = divmod(nanoseconds, SECOND)
    if not verbose and not whole:
        return f"{rest / SECOND:05.2f} sec"
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60 + rest / SECOND:05.2f}"


def statistics(
    operation: str, offset: int, count: int, total: int, nanoseconds: int, *, parsable: bool
) -> str:
    """What is printed of a request that is done; `parsable`: with option -C."""
    # no request takes no time at all, whatever a clock says that stands still
    seconds = max(nanoseconds, 1) / SECOND
    when = time_text(nanoseconds, verbose=parsable)
    if parsable:
        return f"{total},1,{when},{total / seconds:.3f},{1 / seconds:.3f}"
    return (
        f"{operation} {total}/{count} bytes at offset {offset}\n"
        f"{size_text(total)}, 1 ops; {when} ({size_text(total / seconds)}/sec"
        f" and {1 / seconds:.4f} ops/sec)"
    )


#: a byte -> how it is shown beside its digits
_LETTERS = bytes(b if b < 128 and chr(b).isalnum() else ord(".") for b in range(256))


def dump(data: bytes, offset: int) -> str:
    """Data in hexadecimal digits and letters, 16 bytes a line."""
    rows = []
    for at in range(0, len(data), _ROW):
        row = data[at : at + _ROW]
        letters = row.translate(_LETTERS).decode("ascii")
        rows.append(f"{offset + at:08x}:  {row.hex(' ')}  {letters}")
    return "\n".join(rows)
