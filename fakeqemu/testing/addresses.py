"""Addresses of fakeqemu's own sockets: `unix:PATH`, `tcp:HOST:PORT`, or the path alone."""

from __future__ import annotations

Address = tuple[str, str | tuple[str, int]]


def parse_address(text: str) -> Address:
    """("unix", path) or ("tcp", (host, port)). Raises ValueError.

    Without a host it is the loopback.
    """
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return "unix", rest
    if kind not in ("unix", "tcp") and text and ("/" in text or ":" not in text):
        return "unix", text
    host, _, port = (rest if kind == "tcp" else text).rpartition(":")
    if not (port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 1 << 16):
        raise ValueError(f"an address is unix:PATH or tcp:HOST:PORT, not {text!r}")
    return "tcp", (host.strip("[]") or "127.0.0.1", int(port))


def is_loopback(host: str) -> bool:
    """Whether only this host can reach it: 127.0.0.1, ::1 and their like, localhost."""
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
