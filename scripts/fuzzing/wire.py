"""Bytes on a QMP socket and on gdb's: broken JSON, odd ids, cuts, hang-ups, packets."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fuzzing.campaign import Campaign, Step
from fuzzing.configs import CONFIGS
from fuzzing.findings import GROWTH, HOLD, Finding, lost, stderr_text
from fuzzing.machine import BARE, Client, Gone, Late, Machine

_GOOD = [
    b'{"execute":"query-status"}', b'{"execute":"query-version","id":1}',
    b'{"exec-oob":"query-status","id":"a"}', b'{"execute":"qom-list","arguments":{"path":"/"}}',
    b'{"execute":"stop","id":{"a":[1,2,{"b":null}]}}', b"{'execute':'query-name'}",
    b'{"execute":"query-qmp-schema"}',
]  # fmt: skip
_PIECES = [
    b"{", b"}", b"[", b"]", b'"', b"'", b",", b":", b"\\", b"\\u", b"\\ud83d", b"\xff", b"\xc0\x80",
    b"\x00", b"%d", b"%s", b"%p", b"null", b"1e999", b"-", b"0123", b"\xef\xbb\xbf",
    b"\xed\xa0\x80", b"[" * 1030, b'{"a":' * 300, b"9" * 5000, b"1," * 3000,
]  # fmt: skip
_IDS: list[Any] = [
    None, True, 0, -1, 1.5, 1e308, "", "x" * 5000, [], {}, [[[]]], {"a": {"b": []}}, 1 << 63,
    -(1 << 63), (1 << 64) - 1, "\u0000", "\ud800",
]  # fmt: skip
_CONNECTIONS = 60
#: digits of a piece that may be much work
_LARGE = 1 << 14
_PATIENCE = 0.02
#: seconds in which a machine is to see that the last client has gone
_SETTLING = 10.0


class _Bytes(Campaign):
    """Each step is a connection: what is sent, in pieces, and how it ends."""

    config: Sequence[str] = CONFIGS["none"]
    socket_name = "q1.sock"
    #: what the machine says when a client has ended it, as it may
    last_words = ""

    def play(self, steps: Sequence[Step]) -> Finding | None:
        """All connections, another client asking after each whether the machine answers."""
        with Machine(self.profile, self.config, forked=True) as machine:
            try:
                control = machine.client()
                machine.connect(self.socket_name).close()
                control.ask("query-status")
            except (Gone, Late) as error:
                return lost(machine, error, "start")
            memory, descriptors = machine.memory(), machine.descriptors()
            for self.reached, step in enumerate(steps):
                found = self._one(machine, control, step)
                if self.last_words and self.last_words in machine.stderr:
                    return stderr_text(machine)
                if found is not None:
                    return found
            if (count := _still_open(machine, descriptors)) > 0:
                return Finding("left-behind", f"{count} descriptors")
            if machine.memory() - memory > GROWTH:
                return Finding("growth", f"{(machine.memory() - memory) >> 20} MiB")
            control.close()
            return stderr_text(machine)

    def _one(self, machine: Machine, control: Client, step: Step) -> Finding | None:
        seen, taken = len(machine.stderr), 0.0
        out = b""

        def waited() -> None:
            """What somebody sends may be much work, if others have their turns in between."""
            nonlocal taken
            busy = machine.cpu()
            control.ask("query-status")
            taken = max(taken, machine.cpu() - busy)

        try:
            with machine.connect(self.socket_name) as client:
                out = talk(client, step, waited)
            waited()
            # once more, so that the hang-up has been seen
            control.ask("query-status")
        except (Gone, Late) as error:
            return lost(machine, error, "bytes")
        if taken > HOLD:
            return Finding("hold", "bytes", f"{taken:.1f} s of processor time")
        if b"internal error" in out or b"Traceback" in out:
            return Finding("python-text", "bytes", out[-1000:].decode("latin-1"))
        return stderr_text(machine, seen)

    def simpler(self, step: Step) -> Iterator[Step]:
        """The same connection with fewer and shorter pieces."""
        pieces, end = step
        for index in range(len(pieces)):
            yield [pieces[:index] + pieces[index + 1 :], end]
        for index, piece in enumerate(pieces):
            for less in (piece[: len(piece) // 4 * 2], piece[len(piece) // 4 * 2 :]):
                if less and less != piece:
                    yield [[*pieces[:index], less, *pieces[index + 1 :]], end]


def _still_open(machine: Machine, before: int) -> int:
    """How many descriptors more than before stay open, once hang-ups have been seen."""
    end = time.monotonic() + _SETTLING
    while machine.descriptors() > before and time.monotonic() < end:
        time.sleep(0.01)
    return machine.descriptors() - before


def talk(
    client: socket.socket, step: Step, waited: Callable[[], None] = lambda: None
) -> bytes:
    """What comes back for pieces of bytes and a way to end; `waited` after each large piece."""
    pieces, end = step
    reader = Client(client)
    out = b""
    try:
        for piece in pieces:
            reader.send(bytes.fromhex(piece))
            if len(piece) > _LARGE:
                waited()
        if end == "half":
            client.shutdown(socket.SHUT_WR)
    except (Gone, OSError):
        # a server may hang up on rubbish
        return out
    return reader.drain(_PATIENCE) if end != "vanish" else out


class Protocol(_Bytes):
    """QMP."""

    name = "protocol"

    def session(self, rng: random.Random) -> list[Step]:
        """Connections."""
        return [
            [[piece.hex() for piece in byte_pieces(rng)], rng.choice(["", "", "half", "vanish"])]
            for _ in range(_CONNECTIONS)
        ]


def byte_pieces(rng: random.Random) -> Iterator[bytes]:
    """What a bad client of QMP sends."""
    if rng.random() < 0.8:
        enable = b',"arguments":{"enable":["oob"]}' if rng.random() < 0.3 else b""
        yield b'{"execute":"qmp_capabilities"%b}\n' % enable
    kind = rng.randrange(4)
    for _ in range(rng.randrange(1, 25)):
        if kind == 0:
            yield rng.randbytes(rng.randrange(1, 60))
        elif kind == 1:
            yield _mutated(rng, rng.choice(_GOOD)) + rng.choice([b"\n", b"", b"\xff", b"\r\n"])
        elif kind == 2:
            yield _odd(rng)
        else:
            good = b"\n".join(rng.choice(_GOOD) for _ in range(3))
            at = rng.randrange(len(good))
            yield good[:at]
            yield good[at:]


def _odd(rng: random.Random) -> bytes:
    request: dict[str, Any] = {
        rng.choice(["execute", "exec-oob"]): rng.choice(["query-status", "no", "qom-list", "", 1]),
        "id": rng.choice(_IDS),
    }
    if rng.random() < 0.5:
        request["arguments"] = rng.choice([{}, [], None, 1, {"path": "/"}, {"x": 1}])
    return json.dumps(request).encode()


def _mutated(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(out):
            out[at] = rng.randrange(256)
        elif kind == 1:
            out[at:at] = rng.randbytes(rng.randrange(5))
        elif kind == 2:
            del out[at : at + rng.randrange(6)]
        elif kind == 3:
            out[at:at] = rng.choice(_PIECES)
        else:
            out += rng.choice(_GOOD)
    return bytes(out)


_PACKETS = [
    "?", "g", "G00", "p10", "P0=11", "m0,10", "M0,4:deadbeef", "qSupported:multiprocess+", "qC",
    "qfThreadInfo", "qsThreadInfo", "qThreadExtraInfo,1", "Hg1", "Hcp1.-1", "T1", "Z0,1000,1",
    "z0,1000,1", "Z2,1000,4", "Z0,fffffff0,1", "vCont?", "vCont;c", "vCont;s:1", "c", "s", "C05",
    "D", "D;1", "vAttach;1", "qXfer:features:read:target.xml:0,fff", "qqemu.sstepbits",
    "Qqemu.PhyMemMode:1", "P1b=110000e0", "P1d=ffffffff", "P20=00010000", "b", "F0", "!", "X0,0:",
    "qRcmd,696e666f20737461747573", "mffffffffffffffff,10", "m0,fffffff", "M0,ffffffff:00",
]  # fmt: skip


class Packets(_Bytes):
    """gdb's remote protocol."""

    name = "gdb"
    config = (
        "-machine", "q35", "-smp", "2", "-m", "64", *BARE,
        "-gdb", "unix:gdb.sock,server=on,wait=off",
    )  # fmt: skip
    socket_name = "gdb.sock"
    last_words = "Terminated via GDBstub"

    def session(self, rng: random.Random) -> list[Step]:
        """Connections."""
        return [
            [[piece.hex() for piece in _packets(rng)], rng.choice(["", "half", "vanish"])]
            for _ in range(_CONNECTIONS)
        ]


def _packets(rng: random.Random) -> Iterator[bytes]:
    for _ in range(rng.randrange(1, 25)):
        data = rng.choice(_PACKETS).encode()
        if rng.random() < 0.3:
            data = _mutated(rng, data)
        packet = b"$%b#%02x" % (data, sum(data) & 0xFF)
        if rng.random() < 0.1:
            packet = _mutated(rng, packet)
        yield rng.choice([b"+", b"", b"-", b"\x03"]) + packet
