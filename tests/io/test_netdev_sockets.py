"""Network backends over real sockets: two machines joined, frames on the wire, forwarded ports."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import MILLISECOND, SECOND, VirtualClock
from fakeqemu.commands.hmp.registry import HmpMonitor, run_hmp
from fakeqemu.io.host import OsHost
from fakeqemu.io.loop import Loop
from fakeqemu.model.events import Event
from fakeqemu.model.net.announce import rarp_frame
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qmp.dispatch import dispatcher_of
from tests.support.waiting import until

MAC = "52:54:00:00:00:01"
FRAME = rarp_frame(MAC)
#: a NIC without a driver, on netdev `st0`
NIC = ("-machine", "pc", "-m", "64", "-device", f"virtio-net-pci,netdev=st0,id=nic,mac={MAC}")


class Joined:
    """One machine on real sockets; its time stands still until it is moved."""

    def __init__(self, loop: Loop, *argv: str, profile: str = "11.1") -> None:
        self.loop = loop
        self.profile = Profile.load(profile)
        configuration = parse_command_line(
            ["-nodefaults", "-display", "none", "-accel", "tcg", *argv], self.profile
        )
        self.clock = VirtualClock()
        self.host = OsHost(loop)
        self.boot = Boot.of(configuration, self.profile, self.clock, self.host)
        self.vm = self.boot.vm
        self.host.serve(self.vm)
        self.events: list[tuple[str, Any]] = []
        self.vm.events.listen(self._note)
        for _request in self.boot.run():
            pass
        self.boot.finish()

    def _note(self, event: Event) -> None:
        if event.name.startswith("NETDEV"):
            self.events.append((event.name, event.data))

    def ask(self, command: str, **arguments: Any) -> Any:
        members = {name.replace("__", "-"): value for name, value in arguments.items()}
        return dispatcher_of(self.vm).execute(command, members)

    def info(self, what: str = "network") -> str:
        return run_hmp(self.vm, HmpMonitor(), f"info {what}")

    async def expect(self, text: str) -> None:
        """Turn the loop until `info network` is `text`."""
        try:
            await until(lambda: self.info() == text)
        except TimeoutError:
            raise AssertionError(f"{self.info()!r} is not {text!r}") from None

    async def expect_event(self, name: str) -> Any:
        """The data of the first event of that name that has not been looked at."""

        def found() -> int | None:
            return next((i for i, event in enumerate(self.events) if event[0] == name), None)

        await until(lambda: found() is not None)
        index = found()
        assert index is not None
        return self.events.pop(index)[1]

    def close(self) -> None:
        self.host.close()


@pytest.fixture
async def start(loop: Loop) -> AsyncIterator[Any]:
    running: list[Joined] = []

    def start(*argv: str, profile: str = "11.1") -> Joined:
        argv = argv if "-machine" in argv else ("-machine", "none", *argv)
        running.append(Joined(loop, *argv, profile=profile))
        return running[-1]

    yield start
    for machine in running:
        machine.close()


def free_port(family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(family, kind) as sock:
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def received(sock: socket.socket, size: int = 4096) -> bytes:
    """What comes on `sock`."""
    sock.setblocking(False)
    async with asyncio.timeout(10):
        return await asyncio.get_running_loop().sock_recv(sock, size)


async def settle() -> None:
    """Let everything that is under way on the host arrive."""
    for _ in range(20):
        await asyncio.sleep(0)


# -- the cases of QEMU's tests/qtest/netdev-socket.c ---------------------------------------------


@pytest.mark.parametrize(("host", "flags"), [("127.0.0.1", "ipv4=on,addr.ipv6=off"),
                                             ("::1", "ipv4=off,addr.ipv6=on")])
async def test_stream_inet(start: Any, host: str, flags: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        port = free_port(family)
    except OSError:
        pytest.skip(f"this host has no {host}")
    address = f"addr.type=inet,addr.{flags},addr.host={host},addr.port={port}"
    server = start("-netdev", f"stream,id=st0,server=true,{address}")
    await server.expect("st0: index=0,type=stream,listening\n")
    client = start("-netdev", f"stream,server=false,id=st0,{address}")
    await client.expect(f"st0: index=0,type=stream,tcp:{host}:{port}\n")
    data = await server.expect_event("NETDEV_STREAM_CONNECTED")
    kind = "ipv6" if ":" in host else "ipv4"
    peer = data["addr"]["port"]
    assert data == {
        "netdev-id": "st0",
        "addr": {"type": "inet", "host": host, "port": peer, kind: True},
    }
    await server.expect(f"st0: index=0,type=stream,tcp:{host}:{peer}\n")


@pytest.mark.parametrize("abstract", ["", ",addr.abstract=on"])
async def test_stream_unix(start: Any, tmp_path: Path, abstract: str) -> None:
    address = f"addr.type=unix,addr.path={tmp_path}/s{abstract}"
    server = start("-netdev", f"stream,id=st0,server=true,{address}")
    await server.expect("st0: index=0,type=stream,listening\n")
    client = start("-netdev", f"stream,id=st0,server=false,{address}")
    for machine in (client, server):
        await machine.expect(f"st0: index=0,type=stream,unix:{tmp_path}/s\n")


async def test_stream_unix_reconnect(start: Any, tmp_path: Path) -> None:
    path = tmp_path / "s"
    listening = ("-netdev", f"stream,id=st0,server=true,addr.type=unix,addr.path={path}")
    first = start(*listening)
    client = start(
        "-netdev",
        f"stream,server=false,id=st0,addr.type=unix,addr.path={path},reconnect-ms=1000",
    )
    shown = {"type": "unix", "path": str(path)}
    assert (await first.expect_event("NETDEV_STREAM_CONNECTED"))["addr"] == shown
    assert (await client.expect_event("NETDEV_STREAM_CONNECTED"))["addr"] == shown
    first.close()
    assert not path.exists()
    assert await client.expect_event("NETDEV_STREAM_DISCONNECTED") == {"netdev-id": "st0"}
    await client.expect("st0: index=0,type=stream,connecting\n")
    client.clock.advance(SECOND)
    await settle()
    await client.expect("st0: index=0,type=stream,connecting\n")
    second = start(*listening)
    client.clock.advance(999 * MILLISECOND)
    await settle()
    assert client.events == []
    client.clock.advance(MILLISECOND)
    for machine in (second, client):
        assert (await machine.expect_event("NETDEV_STREAM_CONNECTED"))["addr"] == shown


async def test_stream_fd(start: Any) -> None:
    ends = [end.detach() for end in socket.socketpair()]
    machines = [
        start("-netdev", f"stream,id=st0,addr.type=fd,addr.str={end}") for end in ends
    ]
    for machine in machines:
        await machine.expect("st0: index=0,type=stream,unix:\n")


async def test_dgram_inet(start: Any) -> None:
    ports = [free_port(kind=socket.SOCK_DGRAM) for _ in range(2)]
    for here, there in (ports, ports[::-1]):
        machine = start(
            "-netdev",
            f"dgram,id=st0,local.type=inet,local.host=127.0.0.1,local.port={here},"
            f"remote.type=inet,remote.host=127.0.0.1,remote.port={there}",
        )
        await machine.expect(
            f"st0: index=0,type=dgram,udp=127.0.0.1:{here}/127.0.0.1:{there}\n"
        )


async def test_dgram_mcast(start: Any) -> None:
    group = "remote.type=inet,remote.host=230.0.0.1,remote.port=1234"
    try:
        machine = start("-netdev", f"dgram,id=st0,{group}")
    except QapiError as error:
        pytest.skip(f"this host has no multicast: {error}")
    await machine.expect("st0: index=0,type=dgram,mcast=230.0.0.1:1234\n")


async def test_dgram_unix(start: Any, tmp_path: Path) -> None:
    paths = [tmp_path / "0", tmp_path / "1"]
    for here, there in (paths, paths[::-1]):
        machine = start(
            "-netdev",
            f"dgram,id=st0,local.type=unix,local.path={here},"
            f"remote.type=unix,remote.path={there}",
        )
        await machine.expect(f"st0: index=0,type=dgram,udp={here}:{there}\n")
        machine.close()
        assert here.is_socket()


async def test_dgram_fd(start: Any) -> None:
    ends = [end.detach() for end in socket.socketpair(type=socket.SOCK_DGRAM)]
    for end in ends:
        machine = start("-netdev", f"dgram,id=st0,local.type=fd,local.str={end}")
        await machine.expect(f"st0: index=0,type=dgram,fd={end} unix\n")


# -- connections ---------------------------------------------------------------------------------


async def test_second_client_waits_for_the_first_to_go(
    start: Any, tmp_path: Path
) -> None:
    path = str(tmp_path / "s")
    machine = start("-netdev", f"stream,id=st0,server=on,addr.type=unix,addr.path={path}")
    clients = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for client in clients:
        client.connect(path)
    await machine.expect_event("NETDEV_STREAM_CONNECTED")
    await settle()
    assert machine.events == []
    clients[0].close()
    await machine.expect_event("NETDEV_STREAM_DISCONNECTED")
    await machine.expect_event("NETDEV_STREAM_CONNECTED")
    machine.ask("netdev_del", id="st0")
    assert await received(clients[1]) == b""
    clients[1].close()
    assert not Path(path).exists()
    assert machine.events == []


async def test_failure_is_shown_where_the_version_shows_it(start: Any, tmp_path: Path) -> None:
    nowhere = {"type": "unix", "path": f"{tmp_path}/no"}
    new, old = start(), start(profile="7.2")
    for machine in (new, old):
        machine.ask("netdev_add", type="stream", id="st0", addr=nowhere)
    await new.expect(
        f"st0: index=0,type=stream,error: Failed to connect to '{tmp_path}/no':"
        " No such file or directory\n"
    )
    await old.expect("st0: index=0,type=stream,connection error\n")


async def test_oversized_frame_ends_the_connection(start: Any, tmp_path: Path, capfd: Any) -> None:
    path = str(tmp_path / "s")
    machine = start("-netdev", f"stream,id=st0,server=on,addr.type=unix,addr.path={path}")
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    client.settimeout(10)
    client.send(b"\0\0\0\4good\0\2\0\0" + bytes(70_000))
    await machine.expect_event("NETDEV_STREAM_DISCONNECTED")
    assert "serious error: oversized packet received" in capfd.readouterr().err
    client.close()


async def test_socket_backends_meet(start: Any) -> None:
    port = free_port()
    server = start("-netdev", f"socket,id=st0,listen=127.0.0.1:{port}")
    await server.expect("st0: index=0,type=socket,\n")
    client = start("-netdev", f"socket,id=st0,connect=127.0.0.1:{port}")
    await client.expect(f"st0: index=0,type=socket,socket: connect to 127.0.0.1:{port}\n")
    await until(lambda: "socket: connection from 127.0.0.1:" in server.info())
    client.close()
    await server.expect("st0: index=0,type=socket,\n")
    with pytest.raises(QapiError, match=r"can.t bind ip=127\.0\.0\.1 to socket: Address already"):
        server.ask("netdev_add", type="socket", id="other", listen=f"127.0.0.1:{port}")


async def test_a_connection_that_the_kernel_refuses_at_once(start: Any) -> None:
    machine = start()
    # TCP has no broadcasts: no packet leaves for it
    with pytest.raises(QapiError, match=r"^can't connect socket: Network is unreachable$"):
        machine.ask("netdev_add", type="socket", id="s", connect="255.255.255.255:9")
    # one that another machine refuses is seen later
    machine.ask("netdev_add", type="socket", id="s", connect=f"127.0.0.1:{free_port()}")
    await machine.expect("s: index=0,type=socket,\n")


async def test_kind_of_a_descriptor_is_looked_at(start: Any, tmp_path: Path) -> None:
    file = os.open(tmp_path / "f", os.O_CREAT | os.O_RDWR)
    new, old = start(), start(profile="7.2")
    for machine in (new, old):
        with pytest.raises(QapiError, match="can't get socket option SO_TYPE"):
            machine.ask("netdev_add", type="socket", id="s", fd=str(file))
    os.close(file)
    with pytest.raises(QapiError, match="can't get socket option SO_TYPE"):
        new.ask("netdev_add", type="socket", id="s", fd=str(file))
    with pytest.raises(QapiError, match=f"s: Can't use file descriptor {file}: Bad file"):
        old.ask("netdev_add", type="socket", id="s", fd=str(file))
    ours, theirs = socket.socketpair(type=socket.SOCK_DGRAM)
    fd = ours.detach()
    new.ask("netdev_add", type="socket", id="s", fd=str(fd))
    await new.expect(f"s: index=0,type=socket,socket: fd={fd} unix\n")
    theirs.close()


# -- frames --------------------------------------------------------------------------------------


async def test_announcement_travels_to_the_other_side(start: Any) -> None:
    ours, theirs = socket.socketpair()
    machine = start("-netdev", f"stream,id=st0,addr.type=fd,addr.str={ours.detach()}", *NIC)
    await machine.expect_event("NETDEV_STREAM_CONNECTED")
    machine.ask("announce-self", initial=50, max=100, rounds=2, step=10)
    assert await received(theirs) == b"\0\0\0\x3c" + FRAME
    machine.clock.advance(49 * MILLISECOND)
    await settle()
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    machine.clock.advance(MILLISECOND)
    assert await received(theirs) == b"\0\0\0\x3c" + FRAME
    theirs.close()


async def test_two_machines_hear_each_other(start: Any, tmp_path: Path) -> None:
    ends = [end.detach() for end in socket.socketpair(type=socket.SOCK_DGRAM)]
    speaker, hearer = (
        start("-netdev", f"dgram,id=st0,local.type=fd,local.str={end}", *NIC) for end in ends
    )
    path = tmp_path / "heard.pcap"
    hearer.ask("object-add", qom__type="filter-dump", id="f", netdev="st0", file=str(path))
    assert path.stat().st_size == 24
    speaker.ask("announce-self", initial=50, max=100, rounds=1, step=10)
    await until(lambda: path.stat().st_size > 24)
    assert path.read_bytes()[40:] == FRAME


async def test_nic_without_a_driver_holds_the_other_side_up(start: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    machine = start(
        "-netdev", f"stream,id=st0,server=on,addr.type=unix,addr.path={path}", *NIC
    )
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    await machine.expect_event("NETDEV_STREAM_CONNECTED")
    client.send(b"\0\0\0\4abcd")
    await settle()
    client.close()
    await settle()
    # the frame waits, so nobody looks whether the client is still there
    assert machine.events == []
    machine.ask("stop")
    await machine.expect_event("NETDEV_STREAM_DISCONNECTED")


# -- forwarded ports -----------------------------------------------------------------------------


async def test_forwarded_port_is_taken_and_free_again(start: Any) -> None:
    port = free_port()
    rule = f"tcp:127.0.0.1:{port}-:22"
    machine = start("-netdev", f"user,id=u,hostfwd={rule}")
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    await until(lambda: "SYN_SENT" in machine.info("usernet"))
    shown = machine.info("usernet").splitlines()
    assert shown[0] == "Hub -1 (u):"
    assert shown[2].split()[0] == "TCP[SYN_SENT]"
    assert shown[3].split()[0] == "TCP[HOST_FORWARD]"
    assert [line.split()[2:] for line in shown[2:]] == [
        ["127.0.0.1", str(port), "10.0.2.15", "22", "0", "0"]
    ] * 2
    other = start()
    text = f"Could not set up host forwarding rule '{rule}'"
    with pytest.raises(QapiError, match=text):
        other.ask("netdev_add", type="user", id="v", hostfwd=[{"str": rule}])
    assert "v:" not in other.info()
    # nobody answers in the guest: the client is dropped when that is certain
    machine.clock.advance(75 * SECOND)
    assert await received(client) == b""
    assert "SYN_SENT" not in machine.info("usernet")
    client.close()
    machine.ask("netdev_del", id="u")
    other.ask("netdev_add", type="user", id="v", hostfwd=[{"str": rule}])


async def test_forwarded_udp_port_is_taken(start: Any) -> None:
    machine = start("-netdev", "user,id=u,hostfwd=udp:127.0.0.1:0-10.0.2.20:53")
    line = machine.info("usernet").splitlines()[2].split()
    assert line[0] == "UDP[HOST_FORWARD]"
    assert line[2:] == ["127.0.0.1", line[3], "10.0.2.20", "53", "0", "0"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(OSError, match="in use"):
            sock.bind(("127.0.0.1", int(line[3])))
        machine.close()
        sock.bind(("127.0.0.1", int(line[3])))
