"""URIs to addresses, and what each version makes of odd ones."""

from __future__ import annotations

import pytest

from fakeqemu.migration.channels.address import looks_like_uri, parse_uri, socket_uri
from fakeqemu.qapi.errors import QapiError
from fakeqemu.traits import TRAITS


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("exec:cat x", {"transport": "exec", "args": ["/bin/sh", "-c", "cat x"]}),
        ("unix:/a,b=c", {"transport": "socket", "type": "unix", "path": "/a,b=c"}),
        ("fd:5", {"transport": "socket", "type": "fd", "str": "5"}),
        ("vsock:3:4", {"transport": "socket", "type": "vsock", "cid": "3", "port": "4"}),
        ("tcp:h:1", {"transport": "socket", "type": "inet", "host": "h", "port": "1"}),
        ("tcp::1", {"transport": "socket", "type": "inet", "host": "", "port": "1"}),
        ("tcp:[::1]:1,ipv6,to=9",
         {"transport": "socket", "type": "inet", "host": "::1", "port": "1", "to": 9,
          "ipv6": True}),
        ("file:/x,offset=4k", {"transport": "file", "filename": "/x", "offset": 4096}),
        ("rdma:h:1", {"transport": "rdma", "host": "h", "port": "1"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", ["10.0", "11.1"])
def test_uris(version, uri, address):
    assert parse_uri(uri, TRAITS[version]) == address


@pytest.mark.parametrize(
    ("version", "uri", "fault"),
    [
        ("11.1", "tcp:", "error parsing address ''"),
        ("11.1", "tcp:[::1", "error parsing IPv6 address '[::1'"),
        ("10.0", "tcp::", "error parsing port in address ':'"),
        ("10.0", "tcp:h:1,to=5x", "error parsing to= argument"),
        ("11.1", "tcp:h:1,to=5x", "Parameter 'to' expects a number"),
        ("10.0", "tcp:h:1,ipv4=maybe", "error parsing 'ipv4' flag '=maybe'"),
        ("11.1", "tcp:h:1,ipv4=maybe", "Parameter 'ipv4' expects 'on' or 'off'"),
        ("10.0", "tcp:h:1,ipv4x=on", "error parsing 'ipv4' flag 'x=on'"),
        ("11.1", "tcp:h:1,bogus", "Invalid parameter 'bogus'"),
        ("11.1", "unix:", "invalid Unix socket address"),
        ("11.1", "fd:", "invalid file descriptor address"),
        ("11.1", "vsock:3:4,x", "trailing characters in address '3:4,x'"),
        ("11.1", "file:/x,offset=zz", "file URI has bad offset zz: Invalid argument"),
        ("7.2", "rdma:", "RDMA ERROR: bad RDMA migration address ''"),
        ("10.0", "rdma:", "error parsing address ''"),
        ("7.2", "file:/x", "unknown migration protocol: file:/x"),
    ],
)
def test_faults(version, uri, fault):
    with pytest.raises(QapiError) as caught:
        parse_uri(uri, TRAITS[version])
    assert caught.value.desc == fault


def test_older_versions_overlook_unknown_options():
    address = parse_uri("tcp:h:1,bogus=1", TRAITS["10.0"])
    assert address == {"transport": "socket", "type": "inet", "host": "h", "port": "1"}


@pytest.mark.parametrize(("text", "is_uri"), [("a:b", True), (":", True), ("1a:b", False),
                                              ("x-y:z", False), ("defer", False)])  # fmt: skip
def test_what_looks_like_a_uri(text, is_uri):
    assert looks_like_uri(text) is is_uri


def test_short_forms():
    assert socket_uri({"type": "inet", "host": "h", "port": "1"}) == "tcp:h:1"
    assert socket_uri({"type": "unix", "path": "/x"}) == "unix:/x"
