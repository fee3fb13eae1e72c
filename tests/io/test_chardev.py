"""Character devices over real sockets and files, with a frontend that only echoes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.clock import VirtualClock
from fakeqemu.configuration import Configuration
from fakeqemu.io.addresses import remove_file
from fakeqemu.io.host import OsHost
from fakeqemu.io.loop import Loop
from fakeqemu.model.chardev.chardev import (
    Chardev,
    ChardevOptions,
)
from fakeqemu.model.machine import Machine
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError
from tests.support.waiting import until


class Echo:
    """Greets, and sends back what comes."""

    can_hotswap = True

    def __init__(self, chardev: Chardev) -> None:
        self.chardev = chardev
        self.fds: list[int] = []
        self.log: list[str] = []
        chardev.attach(self)

    def chr_opened(self) -> None:
        self.log.append("opened")
        self.chardev.write(b"hello\n")

    def chr_received(self, data: bytes, fds: Sequence[int]) -> None:
        self.fds += fds
        self.chardev.write(data)

    def chr_closed(self) -> None:
        self.log.append("closed")


@pytest.fixture
async def vm(tmp_path: Path) -> AsyncIterator[Machine]:
    host = OsHost(Loop(asyncio.get_running_loop()))
    machine = Machine(Profile.load("10.0"), Configuration(), VirtualClock(), host)
    host.serve(machine)
    yield machine
    host.close()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    """A short path: those of pytest can be too long for a socket."""
    name = f"/tmp/fq-test-{os.getpid()}-{abs(hash(str(tmp_path))) % 10**8}"
    yield name
    with contextlib.suppress(FileNotFoundError):
        Path(name).unlink()


def unix(id: str, path: str, **options: object) -> ChardevOptions:
    address = {"type": "unix", "data": {"path": path}}
    return ChardevOptions(id, "socket", {"addr": address, **options})


def inet(id: str, port: int, **options: object) -> ChardevOptions:
    address = {"type": "inet", "data": {"host": "127.0.0.1", "port": str(port)}}
    return ChardevOptions(id, "socket", {"addr": address, **options})


async def test_one_client_at_a_time(vm: Machine, path: str) -> None:
    chardev = vm.chardevs.add(unix("c", path, server=True))
    echo = Echo(chardev)
    assert chardev.filename == f"disconnected:unix:{path},server=on"
    reader, writer = await asyncio.open_unix_connection(path)
    assert await reader.readline() == b"hello\n"
    assert chardev.filename == f"unix:{path},server=on"

    second, second_writer = await asyncio.open_unix_connection(path)
    second_writer.write(b"early\n")
    writer.write(b"ping\n")
    assert await reader.readline() == b"ping\n"
    assert not second._buffer, "the second client must not be greeted"

    writer.close()
    assert await second.readline() == b"hello\n"
    assert await second.readline() == b"early\n"
    assert echo.log == ["opened", "closed", "opened"]
    second_writer.close()
    await until(lambda: not chardev.connected)


class Exhausted:
    """A listening socket for whose next client there is no descriptor."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.refused = 0

    def fileno(self) -> int:
        return self.sock.fileno()

    def accept(self) -> tuple[socket.socket, Any]:
        if self.refused:
            return self.sock.accept()
        self.refused += 1
        raise OSError(errno.EMFILE, "")

    def close(self) -> None:
        self.sock.close()


async def test_a_client_without_a_descriptor_is_tried_later_and_not_all_the_time(
    vm: Machine, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fakeqemu.io.chardev.sockets._ACCEPT_RETRY_DELAY", 3600)
    chardev = vm.chardevs.add(unix("c", path, server=True))
    Echo(chardev)
    transport: Any = chardev.transport
    transport._listener = Exhausted(transport._listener)
    reader, writer = await asyncio.open_unix_connection(path)
    await until(lambda: transport._listener.refused)
    for _ in range(50):
        await asyncio.sleep(0)
    assert not chardev.connected
    transport._accept_again()
    assert await reader.readline() == b"hello\n"
    writer.close()
    await until(lambda: not chardev.connected)


async def test_input_waits_for_a_frontend(vm: Machine, path: str) -> None:
    chardev = vm.chardevs.add(unix("c", path))
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"early\n")
    await until(lambda: chardev.connected)
    assert chardev.filename == f"unix:{path},server=on"
    Echo(chardev)
    assert await reader.readline() == b"hello\n"
    assert await reader.readline() == b"early\n"
    writer.close()


async def test_a_hangup_is_seen_without_a_frontend(vm: Machine, path: str) -> None:
    chardev = vm.chardevs.add(unix("c", path))
    _, writer = await asyncio.open_unix_connection(path)
    await until(lambda: chardev.connected)
    writer.close()
    await until(lambda: not chardev.connected)
    assert chardev.filename == f"disconnected:unix:{path},server=on"


async def test_pausing_stops_input_and_loses_none(vm: Machine, path: str) -> None:
    chardev = vm.chardevs.add(unix("c", path))
    Echo(chardev)
    reader, writer = await asyncio.open_unix_connection(path)
    await reader.readline()
    chardev.pause(True)
    writer.write(b"later\n")
    await writer.drain()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not reader._buffer
    chardev.pause(False)
    assert await reader.readline() == b"later\n"
    writer.close()


async def test_commands_before_a_hangup_are_heard(vm: Machine, path: str) -> None:
    chardev = vm.chardevs.add(unix("c", path))
    echo = Echo(chardev)
    seen: list[bytes] = []
    chardev.log = seen.append
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    client.sendall(b"last words\n")
    client.close()
    await until(lambda: echo.log == ["opened", "closed"])
    assert seen == [b"hello\n", b"last words\n"]


async def test_descriptors_come_with_their_bytes(vm: Machine, path: str) -> None:
    echo = Echo(vm.chardevs.add(unix("c", path)))
    read_end, write_end = os.pipe()
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    socket.send_fds(client, [b"x"], [write_end])
    await until(lambda: echo.fds)
    os.write(echo.fds[0], b"through")
    assert os.read(read_end, 100) == b"through"
    for fd in (read_end, write_end, *echo.fds):
        os.close(fd)
    client.close()


async def test_much_output_waits_for_a_slow_reader(vm: Machine, path: str) -> None:
    chardev = vm.chardevs.add(unix("c", path))
    Echo(chardev)
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    await until(lambda: chardev.connected)
    big = bytes(range(256)) * 8192
    chardev.write(big)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    got = b""
    async with asyncio.timeout(5):
        while len(got) < len(big) + 6:
            got += await loop.sock_recv(client, 1 << 20)
    assert got == b"hello\n" + big
    client.close()


async def test_removing_frees_the_path_and_refuses_while_busy(vm: Machine, path: str) -> None:
    chardev = vm.chardevs.add(unix("c", path))
    echo = Echo(chardev)
    with pytest.raises(QapiError, match="Chardev 'c' is busy"):
        vm.chardevs.remove("c")
    with pytest.raises(QapiError, match="chardev 'c' is already in use"):
        chardev.attach(echo)
    chardev.detach()
    vm.chardevs.remove("c")
    assert not Path(path).exists()
    assert vm.chardevs == {}


async def test_a_listening_socket_takes_the_path_of_another(vm: Machine, path: str) -> None:
    vm.chardevs.add(unix("old", path))
    Echo(vm.chardevs.add(unix("new", path)))
    reader, writer = await asyncio.open_unix_connection(path)
    assert await reader.readline() == b"hello\n"
    writer.close()


async def test_tcp_names_both_ends(vm: Machine) -> None:
    chardev = vm.chardevs.add(inet("t", 0, server=True))
    port = chardev.address["port"]
    assert chardev.filename == f"disconnected:tcp:127.0.0.1:{port},server=on"
    Echo(chardev)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    await reader.readline()
    mine = writer.get_extra_info("sockname")[1]
    assert chardev.filename == f"tcp:127.0.0.1:{port},server=on <-> 127.0.0.1:{mine}"
    with pytest.raises(
        QapiError, match=r"^Failed to find an available port: Address already in use$"
    ):
        vm.chardevs.add(inet("u", int(port)))
    writer.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            unix("c", "/nowhere/at/all", server=True),
            "Failed to bind socket to /nowhere/at/all: No such file or directory",
        ),
        (
            unix("c", "/nowhere/at/all", server=False),
            "Failed to connect to '/nowhere/at/all': No such file or directory",
        ),
        (unix("c", "/tmp/" + "x" * 120), f"UNIX socket path '/tmp/{'x' * 120}' is too long"),
        (inet("c", 1, server=False), "Failed to connect to '127.0.0.1:1': Connection refused"),
        (
            unix("c", "/x", server=False, wait=True),
            "'wait' option is incompatible with socket in client connect mode",
        ),
        (
            unix("c", "/x", server=True, reconnect=1),
            "'reconnect' option is incompatible with socket in server listen mode",
        ),
        (
            ChardevOptions("c", "file", {"out": "/nowhere/at/all"}),
            "Could not open '/nowhere/at/all': No such file or directory",
        ),
        (ChardevOptions("c", "mux", {"chardev": "zz"}), "mux: base chardev zz not found"),
        (
            ChardevOptions("c", "ringbuf", {"size": 1000}),
            "size of ringbuf chardev must be power of two",
        ),
    ],
)
async def test_refusals(vm: Machine, options: ChardevOptions, text: str) -> None:
    with pytest.raises(QapiError) as caught:
        vm.chardevs.add(options)
    assert caught.value.desc == text
    assert vm.chardevs == {}


async def test_a_client_connects_at_once(vm: Machine, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        chardev = vm.chardevs.add(unix("c", path, server=False))
        assert chardev.connected
        assert chardev.filename == f"unix:{path}"
        Echo(chardev)
        peer, _ = listener.accept()
        assert peer.recv(100) == b"hello\n"
        peer.close()
        await until(lambda: not chardev.connected)
        assert chardev.filename == f"disconnected:unix:{path}"


async def test_a_client_that_reconnects(vm: Machine, path: str) -> None:
    chardev = vm.chardevs.add(unix("c", path, server=False, **{"reconnect-ms": 1}))
    echo = Echo(chardev)
    assert not chardev.connected
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    for _ in range(2):
        peer, _ = await asyncio.wait_for(loop.sock_accept(listener), 5)
        assert await loop.sock_recv(peer, 100) == b"hello\n"
        peer.close()
        await until(lambda: not chardev.connected)
    assert echo.log[:4] == ["opened", "closed", "opened", "closed"]
    listener.close()


@pytest.mark.parametrize("listening", [True, False])
async def test_a_descriptor_handed_over(vm: Machine, path: str, listening: bool) -> None:
    ours, theirs = socket.socketpair()
    if listening:
        theirs.close()
        theirs = socket.socket(socket.AF_UNIX)
        theirs.bind(path)
    fd = theirs.detach()
    address = {"type": "fd", "data": {"str": str(fd)}}
    chardev = vm.chardevs.add(
        ChardevOptions("c", "socket", {"addr": address, "server": listening})
    )
    Echo(chardev)
    if listening:
        assert chardev.filename == f"disconnected:unix:{path},server=on"
        ours.close()
        ours = socket.socket(socket.AF_UNIX)
        ours.connect(path)
        await until(lambda: chardev.connected)
    else:
        assert chardev.filename == "unix:"
    assert ours.recv(100) == b"hello\n"
    ours.close()


async def test_a_bad_descriptor(vm: Machine, tmp_path: Path) -> None:
    def options(text: str) -> ChardevOptions:
        address = {"type": "fd", "data": {"str": text}}
        return ChardevOptions("c", "socket", {"addr": address, "server": True})

    with (tmp_path / "file").open("w") as file, pytest.raises(QapiError, match="is not a socket"):
        vm.chardevs.add(options(str(file.fileno())))
    with pytest.raises(QapiError, match=r"Unable to parse FD number x$"):
        vm.chardevs.add(options("x"))


async def test_files_and_logs(vm: Machine, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    chardev = vm.chardevs.add(
        ChardevOptions("f", "file", {"out": str(out), "logfile": str(log)})
    )
    assert chardev.filename == "file"
    chardev.write(b"text")
    assert out.read_bytes() == log.read_bytes() == b"text"


async def test_each_line_of_a_log_has_its_time(vm: Machine, tmp_path: Path) -> None:
    log = tmp_path / "log"
    chardev = vm.chardevs.add(
        ChardevOptions("n", "null", {"logfile": str(log), "logtimestamp": True})
    )
    chardev.write(b"one\r\ntw")
    chardev.write(b"o\n\n")
    stamp = "2023-11-14T22:13:20.000000Z "  # where a virtual clock begins
    assert log.read_bytes().decode() == f"{stamp}one\r\n{stamp}two\n{stamp}\n"


async def test_addresses_have_the_kernel_look_after_connections(vm: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        inet = {"host": "127.0.0.1", "port": port, "keep-alive": True, "keep-alive-idle": 77}
        address = {"type": "inet", "data": inet}
        vm.chardevs.add(ChardevOptions("c", "socket", {"addr": address, "server": False}))
        theirs, _ = server.accept()
        # a row: slot, local and remote address, state, queues, timer and when it fires (1/100 s)
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()]
        remote = f":{int(port):04X}"
        (timer,) = [row[5] for row in rows if row[2].endswith(remote) and row[3] == "01"]
        assert timer.startswith("02:")
        assert 7000 < int(timer[3:], 16) <= 7700
        theirs.close()
    inet.update({"port": "0", "keep-alive-idle": 99999})
    text = "Unable to set TCP keep-alive idle option on socket: Invalid argument"
    with pytest.raises(QapiError, match=text):
        vm.chardevs.add(ChardevOptions("d", "socket", {"addr": address, "server": True}))


async def test_numeric_addresses_are_not_looked_up(vm: Machine) -> None:
    inet = {"host": "localhost", "port": "0", "numeric": True}
    address = {"type": "inet", "data": inet}
    with pytest.raises(QapiError, match="for localhost:0: Name or service not known"):
        vm.chardevs.add(ChardevOptions("c", "socket", {"addr": address, "server": True}))
    inet["host"] = "127.0.0.1"
    vm.chardevs.add(ChardevOptions("c", "socket", {"addr": address, "server": True}))


async def test_a_removed_device_leaves_no_descriptor(vm: Machine, tmp_path: Path) -> None:
    log = {"logfile": str(tmp_path / "log")}
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        vm.chardevs.add(ChardevOptions("n", "null", log))
        vm.chardevs.remove("n")
        with pytest.raises(QapiError):
            vm.chardevs.add(ChardevOptions("n", "file", {"out": str(tmp_path), **log}))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_a_log_in_a_set_of_descriptors(vm: Machine, tmp_path: Path) -> None:
    """How libvirt passes the file of its <log>: virtlogd opens it, the emulator gets it."""
    log = tmp_path / "log"
    log.write_bytes(b"before ")
    vm.fdsets.add(os.open(log, os.O_WRONLY | os.O_APPEND), 7, None)
    options = {"logfile": "/dev/fdset/7", "logappend": True, "out": str(tmp_path / "out")}
    chardev = vm.chardevs.add(ChardevOptions("c", "file", options))
    chardev.write(b"said")
    assert log.read_bytes() == b"before said"


@pytest.mark.parametrize(
    ("logfile", "text"),
    [
        ("/nowhere/log", "Could not create '/nowhere/log': No such file or directory"),
        ("/dev/fdset/9", "Failed to find fdset /dev/fdset/9"),
        ("/dev/fdset/7", "Failed to find file descriptor with matching flags=0x241"),
        ("/dev/fdset/x", "Could not parse fdset /dev/fdset/x"),
    ],
)
async def test_a_log_that_cannot_be_opened(vm: Machine, logfile: str, text: str) -> None:
    vm.fdsets.add(os.open("/dev/null", os.O_RDONLY), 7, None)
    with pytest.raises(QapiError) as caught:
        vm.chardevs.add(ChardevOptions("c", "null", {"logfile": logfile}))
    assert caught.value.desc == text


@pytest.mark.parametrize("kind", ["mux", "hub"])
async def test_what_sits_on_others_has_a_log_of_its_own(
    vm: Machine, tmp_path: Path, kind: str
) -> None:
    out, log, other = tmp_path / "out", tmp_path / "log", tmp_path / "other"
    below = {"chardev": "f"} if kind == "mux" else {"chardevs": ["f"]}
    missing = {"chardev": "x"} if kind == "mux" else {"chardevs": ["x"]}
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(QapiError, match="chardev"):
        vm.chardevs.add(ChardevOptions("m", kind, {**missing, "logfile": str(other)}))
    assert other.exists()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(QapiError, match="Could not create ''"):
        vm.chardevs.add(ChardevOptions("m", kind, {**missing, "logfile": ""}))
    chardev_below = vm.chardevs.add(ChardevOptions("f", "file", {"out": str(out)}))
    chardev = vm.chardevs.add(ChardevOptions("m", kind, {**below, "logfile": str(log)}))
    chardev.write(b"text")
    assert out.read_bytes() == log.read_bytes() == b"text"
    vm.chardevs.remove("m")
    vm.chardevs.drop(chardev_below)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_a_pseudo_terminal(vm: Machine) -> None:
    chardev = vm.chardevs.add(ChardevOptions("p", "pty", {}))
    assert chardev.filename.startswith("pty:/dev/pts/")
    assert not chardev.connected


async def test_a_named_pipe(vm: Machine, tmp_path: Path) -> None:
    for name in ("p.in", "p.out"):
        os.mkfifo(tmp_path / name)
    chardev = vm.chardevs.add(ChardevOptions("p", "pipe", {"device": str(tmp_path / "p")}))
    echo = Echo(chardev)
    with (tmp_path / "p.out").open("rb") as reader, (tmp_path / "p.in").open("wb") as writer:
        assert reader.readline() == b"hello\n"
        writer.write(b"x\n")
        writer.flush()
        await asyncio.wait_for(asyncio.to_thread(reader.readline), 5)
    assert echo.log == ["opened"]


async def test_a_pipe_of_files_is_read_in_slices_and_written_past_its_end(
    vm: Machine, tmp_path: Path
) -> None:
    """Files cannot be polled; the end of input is the client's going, and ends no output."""
    sent = b"x" * 10_000
    (tmp_path / "p.in").write_bytes(sent)
    (tmp_path / "p.out").touch()
    options = {"device": str(tmp_path / "p")}
    chardev = vm.chardevs.add(ChardevOptions("c", "pipe", options))
    echo = Echo(chardev)
    await until(lambda: "closed" in echo.log)
    assert echo.log == ["opened", "closed"]
    assert (tmp_path / "p.out").read_bytes() == b"hello\n" + sent
    chardev.write(b"late")
    assert (tmp_path / "p.out").read_bytes().endswith(b"late")


async def test_a_device_that_is_always_at_its_end(vm: Machine) -> None:
    chardev = vm.chardevs.add(ChardevOptions("c", "serial", {"device": "/dev/null"}))
    echo = Echo(chardev)
    await until(lambda: "closed" in echo.log)
    assert vm.process.exit_code is None


async def test_a_file_as_the_input_of_a_file(vm: Machine, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"input")
    options = {"out": str(tmp_path / "out"), "in": str(tmp_path / "in")}
    echo = Echo(vm.chardevs.add(ChardevOptions("c", "file", options)))
    await until(lambda: "closed" in echo.log)
    assert (tmp_path / "out").read_bytes() == b"hello\ninput"


async def test_datagrams(vm: Machine) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        remote = {"type": "inet", "data": {"host": "127.0.0.1", "port": str(peer.getsockname()[1])}}
        chardev = vm.chardevs.add(ChardevOptions("u", "udp", {"remote": remote}))
        assert chardev.filename == "udp"
        chardev.write(b"packet")
        assert peer.recv(100) == b"packet"


async def test_telnet_negotiates_and_hides_its_own_bytes(vm: Machine) -> None:
    chardev = vm.chardevs.add(inet("t", 0, telnet=True))
    Echo(chardev)
    assert chardev.filename.startswith("disconnected:telnet:127.0.0.1:")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(chardev.address["port"]))
    assert await reader.readexactly(12) == bytes.fromhex("fffb01fffb03fffb00fffd00")
    assert await reader.readline() == b"hello\n"
    writer.write(b"a\xff\xfd\x01b\xff\xffc\n")
    assert await reader.readline() == b"ab\xffc\n"
    writer.close()


async def test_changing_the_backend_under_a_frontend(vm: Machine, path: str) -> None:
    chardev = vm.chardevs.add(ChardevOptions("c", "null", {}))
    echo = Echo(chardev)
    changed = vm.chardevs.change("c", lambda: unix("c", path))
    assert vm.chardevs["c"] is changed
    assert changed.frontend is echo
    echo.can_hotswap = False
    with pytest.raises(QapiError, match="Chardev user does not support chardev hotswap"):
        vm.chardevs.change("c", lambda: ChardevOptions("c", "null", {}))


async def test_a_failed_change_of_an_unused_device_destroys_it(vm: Machine) -> None:
    vm.chardevs.add(ChardevOptions("c", "null", {}))
    with pytest.raises(QapiError, match=r"^Failed to add chardev 'c': Failed to bind socket"):
        vm.chardevs.change("c", lambda: unix("c", "/nowhere/at/all"))
    assert vm.chardevs == {}


async def test_closing_says_what_is_queued_and_leaves_no_file(vm: Machine, path: str) -> None:
    chardev = vm.chardevs.add(unix("c", path))
    Echo(chardev)
    reader, writer = await asyncio.open_unix_connection(path)
    await reader.readline()
    chardev.write(b"bye\n")
    vm.host.close()  # type: ignore[attr-defined]
    assert await reader.read() == b"bye\n"
    assert not Path(path).exists()
    writer.close()


async def test_a_host_without_terminals_is_named_in_qemus_words(vm, monkeypatch):
    # 7.2 and 10.0, where /dev/pts is not mounted
    def none() -> tuple[int, int]:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(os, "openpty", none)
    with pytest.raises(QapiError, match=r"^Failed to create PTY: No such device$"):
        vm.chardevs.add(ChardevOptions("p", "pty", {}))
    assert "p" not in vm.chardevs


async def test_a_terminal_has_a_link_that_goes_with_it(vm, tmp_path):
    link = tmp_path / "link"
    chardev = vm.chardevs.add(ChardevOptions("p", "pty", {"path": str(link)}))
    assert chardev.filename == f"pty:{link.readlink()}"
    with pytest.raises(QapiError, match=r"^Failed to create PTY symlink: File exists$"):
        vm.chardevs.add(ChardevOptions("q", "pty", {"path": str(link)}))
    assert "q" not in vm.chardevs
    vm.chardevs.remove("p")
    assert not link.is_symlink()


@pytest.mark.parametrize(
    ("local", "text"),
    [
        ({"host": "..", "port": "1"}, "address resolution failed for ..:1: "),
        ({"host": "127.0.0.1", "port": "x"}, "address resolution failed for 127.0.0.1:x: "),
        ({"host": "192.0.2.1", "port": "0"}, "Failed to bind socket: "),
    ],
)
async def test_where_datagrams_cannot_come_from(vm, local, text):
    there = {"type": "inet", "data": {"host": "127.0.0.1", "port": "9"}}
    options = {"remote": there, "local": {"type": "inet", "data": local}}
    with pytest.raises(QapiError, match=text):
        vm.chardevs.add(ChardevOptions("u", "udp", options))


async def test_backends_that_were_not_built_in(vm):
    with pytest.raises(QapiError, match=r"^'spicevmc' is not a valid char driver name$"):
        vm.chardevs.add(ChardevOptions("s", "spicevmc", {"type": "vdagent"}))
    vm.chardevs.add(ChardevOptions("s", "null"))
    address = {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}
    options = {"addr": address, "server": True, "tls-creds": "t"}
    vm.chardevs.check_tls_credentials = lambda *_: None
    with pytest.raises(QapiError, match=r"does not model 'chardev socket with tls-creds'$"):
        vm.chardevs.change("s", lambda: ChardevOptions("s", "socket", options))


def test_devices_of_the_host_are_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    removed: list[str] = []
    monkeypatch.setattr("os.unlink", removed.append)
    remove_file(str(file))
    remove_file("/dev/null")
    remove_file(str(tmp_path / "none"))
    # what is not there is left to the host, which says why it cannot be removed
    assert removed == [str(file), str(tmp_path / "none")]
