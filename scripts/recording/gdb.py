"""What the gdb server says of the registers: the descriptions that gdb asks for."""

from __future__ import annotations

import re
import socket

from recording.qemu import TIMEOUT, Qemu

_TARGET = "target.xml"
_PIECE = 0x400


def record_gdb_features(binary: str) -> dict[str, str]:
    """File name -> content: `target.xml` and what it includes."""
    with Qemu(binary, "-nodefaults", "-accel", "tcg", "-S") as qemu:
        qemu.hmp("gdbserver tcp:127.0.0.1:0")
        names = {each["label"]: each["filename"] for each in qemu.value("query-chardev")}
        port = re.search(r"tcp:127\.0\.0\.1:(\d+)", names["gdb"])
        if port is None:
            raise RuntimeError(f"no port in {names['gdb']!r}")
        with socket.create_connection(("127.0.0.1", int(port[1])), TIMEOUT) as client:
            found = {_TARGET: _read(client, _TARGET)}
            for name in re.findall(r'include href="([^"]+)"', found[_TARGET]):
                found[name] = _read(client, name)
    return found


def _read(client: socket.socket, name: str) -> str:
    """One file, asked for piece by piece."""
    content = b""
    while True:
        asked = f"qXfer:features:read:{name}:{len(content):x},{_PIECE:x}".encode()
        client.sendall(b"+$%b#%02x" % (asked, sum(asked) & 0xFF))
        answer = b""
        while not re.search(rb"#[0-9a-f]{2}$", answer):
            data = client.recv(65536)
            if not data:
                raise RuntimeError(f"the server closed the connection over {name}")
            answer += data
        data = answer[answer.index(b"$") + 1 : -3]
        content += re.sub(rb"}(.)", lambda hit: bytes([hit[1][0] ^ 0x20]), data[1:])
        if data[:1] != b"m":
            return content.decode("latin-1")
