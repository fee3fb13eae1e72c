"""Terminals in raw mode: bytes come as they are typed, unedited and unechoed.

See chardev/char-stdio.c: qemu_chr_set_echo_stdio().
"""

from __future__ import annotations

import os
from typing import Any


def make_raw(fd: int, *, signals: bool) -> list[Any] | None:
    """Put a terminal into raw mode; what it was before, None if it is no terminal."""
    if not os.isatty(fd):
        return None
    import termios

    before = termios.tcgetattr(fd)
    now = termios.tcgetattr(fd)
    now[0] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
        | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )
    now[1] |= termios.OPOST
    now[2] = now[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    now[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
    if not signals:
        now[3] &= ~termios.ISIG
    now[6][termios.VMIN], now[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSANOW, now)
    return before
