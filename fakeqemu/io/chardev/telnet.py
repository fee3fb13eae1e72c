"""The little of the telnet protocol that a `telnet=on` socket speaks.

See chardev/char-socket.c: tcp_chr_telnet_init() and tcp_chr_process_IAC_bytes().
"""

from __future__ import annotations

_IAC, _BREAK, _EOR = 0xFF, 0xF3, 0xEF

#: asks for a binary connection, character by character, echo on our side
GREETING = bytes([_IAC, 0xFB, 1, _IAC, 0xFB, 3, _IAC, 0xFB, 0, _IAC, 0xFD, 0])


class TelnetFilter:
    """Takes telnet's own commands out of the input."""

    def __init__(self) -> None:
        self._command: list[int] | None = None

    def feed(self, data: bytes) -> bytes:
        """`data` without commands; a doubled 0xFF is one."""
        plain = bytearray()
        for byte in data:
            if self._command is None:
                if byte == _IAC:
                    self._command = []
                else:
                    plain.append(byte)
                continue
            if not self._command and byte == _IAC:
                plain.append(byte)
                self._command = None
                continue
            self._command.append(byte)
            if len(self._command) == 2 or byte in (_BREAK, _EOR):
                self._command = None
        return bytes(plain)
