"""PCI configuration space behind a PC's I/O ports, read and tried over a qtest server."""

from __future__ import annotations

from socket import socket

_SIZE = 256
_ONES = 0xFFFFFFFF


class Ports:
    """The I/O ports of a stopped machine, over the socket of its qtest server."""

    def __init__(self, server: socket) -> None:
        self._socket = server
        self._lines = server.makefile("r", encoding="utf-8")

    def ask(self, lines: list[str]) -> list[str]:
        """Answers to `lines`. Raises EOFError when the machine is gone."""
        try:
            self._socket.sendall("".join(f"{line}\n" for line in lines).encode())
            answers = [self._lines.readline().strip() for _ in lines]
        except OSError:
            raise EOFError from None
        if not all(answers):
            raise EOFError
        return answers

    def functions(self) -> list[int]:
        """Device-functions that answer on the first bus."""
        asked: list[str] = []
        for number in range(256):
            asked += [f"outl 0xcf8 {0x80000000 | number << 8:#x}", "inl 0xcfc"]
        answers = self.ask(asked)[1::2]
        return [n for n, answer in enumerate(answers) if answer != "OK 0xffffffff"]

    def function(self, number: int) -> list[str]:
        """Contents and writable bits of the 64 registers of device-function `number`.

        Each register has what was in it again before the next one is tried.
        """
        first = 0x80000000 | number << 8
        selects = [f"outl 0xcf8 {first | register:#x}" for register in range(0, _SIZE, 4)]
        found = self._values([line for select in selects for line in (select, "inl 0xcfc")])
        asked = []
        for select, before in zip(selects, found, strict=True):
            asked.append(select)
            for value in (_ONES, 0):
                asked += [f"outl 0xcfc {value:#x}", "inl 0xcfc", f"outl 0xcfc {before:#x}"]
        tried = self._values(asked)
        writable = [one & ~zero for one, zero in zip(tried[::2], tried[1::2], strict=True)]
        return [_text(found), _text(writable)]

    def _values(self, lines: list[str]) -> list[int]:
        """What the reads among `lines` give."""
        answers = zip(lines, self.ask(lines), strict=True)
        return [int(answer.split()[1], 16) for line, answer in answers if line.startswith("inl")]


def _text(registers: list[int]) -> str:
    return b"".join(value.to_bytes(4, "little") for value in registers).hex()
