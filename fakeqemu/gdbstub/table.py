"""Rows of a table of packets: how a packet begins, what follows, who answers.

See gdbstub/gdbstub.c: process_string_cmd().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fakeqemu.dataclass import dataclass
from fakeqemu.gdbstub.packets import Parameter, ParameterError, parse

if TYPE_CHECKING:
    from fakeqemu.gdbstub.server import GdbServer

Handler = Callable[["GdbServer", list[Parameter]], None]

#: QEMU's error numbers: what makes no sense, what cannot be reached
INVALID, FAULT = b"E22", b"E14"


@dataclass(frozen=True, slots=True)
class GdbCmdParseEntry:
    """One row: how the packet begins, what follows, who answers."""

    start: bytes
    handler: Handler
    #: as `gdbpackets.parse` takes it
    form: str = ""
    #: the packet is `start` and nothing else
    whole: bool = False
    #: the client waits for a stop from here on
    awaits_stop: bool = False
    #: it is about a CPU, so one must be attached
    needs_cpu: bool = False


def run(server: GdbServer, packet: bytes, table: Sequence[GdbCmdParseEntry]) -> bool:
    """Run the first row that fits; False if none does, or its parameters cannot be read."""
    for row in table:
        if packet != row.start if row.whole else not packet.startswith(row.start):
            continue
        try:
            parameters = parse(packet[len(row.start) :], row.form)
        except ParameterError:
            return False
        server.stop_awaited = row.awaits_stop
        if row.needs_cpu and not server.attached:
            server.send(INVALID)
        else:
            row.handler(server, parameters)
        return True
    return False


def to_hex(data: bytes) -> bytes:
    """Bytes as a packet has them."""
    return data.hex().encode()


def integers(parameters: list[Parameter]) -> list[int]:
    """The numbers among them."""
    return [each for each in parameters if isinstance(each, int)]


def text_of(parameter: Parameter) -> bytes:
    """One that is text."""
    assert isinstance(parameter, bytes)
    return parameter
