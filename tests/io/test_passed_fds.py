"""Descriptors by number: what a process was passed, and what is its own."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import ExecuteError, QMPClient

from fakeqemu.io.host import OsHost
from fakeqemu.io.loop import Loop
from tests.support.waiting import listens, until_elsewhere

RUN = (sys.executable, "-m", "fakeqemu", "run", "--check-replies", "--profile")
FAKEQEMU = (*RUN, "10.0", "--")
NONE = ("-machine", "none", "-nodefaults", "-display", "none")

#: one of those that the event loop opens first
LOOP = 4

#: option -> what it says of a descriptor that is not open
OPTIONS = {
    "-netdev socket,id=n,fd={fd}": "can't get socket option SO_TYPE",
    "-netdev tap,id=n,fd={fd}": "n: Can't use file descriptor {fd}: Bad file descriptor",
    "-netdev dgram,id=n,local.type=fd,local.str={fd}": (
        "n: Can't use file descriptor {fd}: Bad file descriptor"
    ),
    "-netdev vhost-vdpa,id=n,vhostfd={fd}": (
        "Fail to query features from vhost-vDPA device: Bad file descriptor"
    ),
    "-chardev socket,id=c,fd={fd}": "File descriptor '{fd}' is not a socket",
    "-blockdev nbd,node-name=b,server.type=fd,server.str={fd}": (
        "File descriptor '{fd}' is not a socket"
    ),
}


class Started:
    """A process with a monitor at the socket `path`."""

    def __init__(self, path: Path, *options: str, profile: str = "10.0") -> None:
        self.path = path
        self.process = subprocess.Popen(
            [*RUN, profile, "--", *NONE, *options, "-qmp", f"unix:{path},server=on,wait=off"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.client = QMPClient("test")

    async def __aenter__(self) -> Started:
        await until_elsewhere(lambda: listens(self.path), f"a listener at {self.path}")
        await self.client.connect(str(self.path))
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.client.disconnect()
        finally:
            self.process.kill()
            self.process.communicate()

    async def reconnect(self) -> None:
        """Hang up, and come again."""
        await self.client.disconnect()
        await self.client.connect(str(self.path))

    async def sets(self) -> dict[int, int]:
        """Number of each fdset -> how many descriptors it has."""
        found = await self.client.execute("query-fdsets")
        return {each["fdset-id"]: len(each["fds"]) for each in found}

    async def add_fd(self, file: Any, number: int) -> None:
        self.client.send_fd_scm(file.fileno())
        await self.client.execute("add-fd", {"fdset-id": number})

    @property
    def own(self) -> list[int]:
        """Numbers of the descriptors that it has opened itself."""
        folder = Path(f"/proc/{self.process.pid}/fd")
        return sorted(number for each in folder.iterdir() if (number := int(each.name)) > 2)

    async def refused(self, command: str, **arguments: Any) -> str:
        with pytest.raises(ExecuteError) as caught:
            await self.client.execute(command, arguments)
        return str(caught.value)


@pytest.mark.parametrize("option", OPTIONS)
def test_its_own_are_as_those_that_are_not_open(option: str) -> None:
    """The lowest ones are the event loop's: an option that took one would end the process."""
    name, value = option.format(fd=LOOP).split(" ")
    done = subprocess.run(
        [*FAKEQEMU, *NONE, name, value],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    text = OPTIONS[option].format(fd=LOOP)
    assert done.stderr == f"qemu-system-x86_64: {name} {value}: {text}\n"
    assert done.returncode == 1


async def test_its_own_cannot_be_named_later_either(tmp_path: Path) -> None:
    async with Started(tmp_path / "q", "-incoming", "defer") as vm:
        for fd in vm.own:
            address = {"type": "fd", "str": str(fd)}
            add = {"id": "n", "fd": str(fd)}
            node = {"driver": "nbd", "node-name": "b", "server": address}
            assert await vm.refused("netdev_add", type="tap", **add) == (
                f"n: Can't use file descriptor {fd}: Bad file descriptor"
            )
            assert "SO_TYPE" in await vm.refused("netdev_add", type="socket", **add)
            assert await vm.refused("blockdev-add", **node) == (
                f"File descriptor '{fd}' is not a socket"
            )
            # it connects later, and tries again
            await vm.client.execute(
                "netdev_add", {"type": "stream", "id": f"s{fd}", "addr": address}
            )
        await vm.client.execute("migrate-incoming", {"uri": f"fd:{LOOP}"})
        assert (await vm.client.execute("query-status"))["status"] == "inmigrate"


async def test_the_number_of_one_in_an_fdset_can_be_named(tmp_path: Path) -> None:
    here, there = socket.socketpair()
    with here, there:
        async with Started(tmp_path / "q") as vm:
            vm.client.send_fd_scm(there.fileno())
            number = (await vm.client.execute("add-fd"))["fd"]
            await vm.client.execute(
                "netdev_add", {"type": "socket", "id": "n", "fd": str(number)}
            )
            line = {"command-line": "info network"}
            shown = await vm.client.execute("human-monitor-command", line)
            assert f"n: index=0,type=socket,socket: fd={number}" in shown


@pytest.mark.parametrize(
    ("profile", "left", "stopped"), [("7.2", {}, {4: 1}), ("10.0", {3: 1}, {3: 1, 4: 1})]
)
async def test_sets_when_the_last_client_has_gone(
    tmp_path: Path, profile: str, left: dict[int, int], stopped: dict[int, int]
) -> None:
    """7.2 empties them, unless the guest is stopped."""
    with (tmp_path / "file").open("w+b") as file:
        async with Started(tmp_path / "q", profile=profile) as vm:
            await vm.add_fd(file, 3)
            await vm.reconnect()
            assert await vm.sets() == left
            await vm.client.execute("stop")
            await vm.add_fd(file, 4)
            await vm.reconnect()
            assert await vm.sets() == stopped


@pytest.mark.parametrize("profile", ["7.2", "10.0"])
async def test_a_set_stays_while_a_node_uses_it(tmp_path: Path, profile: str) -> None:
    with (tmp_path / "file").open("w+b") as file:
        file.truncate(1 << 20)
        async with Started(tmp_path / "q", profile=profile) as vm:
            await vm.add_fd(file, 3)
            node = {"driver": "file", "filename": "/dev/fdset/3", "locking": "off"}
            await vm.client.execute("blockdev-add", {**node, "node-name": "n"})
            await vm.client.execute("remove-fd", {"fdset-id": 3})
            assert await vm.sets() == {3: 0}
            await vm.refused("blockdev-add", **node, **{"node-name": "m"})
            await vm.client.execute("remove-fd", {"fdset-id": 3})
            await vm.client.execute("blockdev-del", {"node-name": "n"})
            assert await vm.sets() == {}


@pytest.mark.parametrize("profile", ["7.2", "10.0"])
async def test_a_set_stays_while_a_character_device_uses_it(tmp_path: Path, profile: str) -> None:
    with (tmp_path / "file").open("ab") as file:
        async with Started(tmp_path / "q", profile=profile) as vm:
            await vm.add_fd(file, 3)
            data = {"out": "/dev/fdset/3", "append": True}
            backend = {"type": "file", "data": data}
            await vm.client.execute("chardev-add", {"id": "c", "backend": backend})
            await vm.client.execute("remove-fd", {"fdset-id": 3})
            assert await vm.sets() == {3: 0}
            await vm.client.execute("chardev-remove", {"id": "c"})
            assert await vm.sets() == {}


@pytest.mark.parametrize(("profile", "kept"), [("7.2", True), ("10.0", False)])
async def test_what_is_removed_while_the_guest_is_stopped(
    tmp_path: Path, profile: str, kept: bool
) -> None:
    """7.2 closes it with the next one that goes while the guest runs."""
    with (tmp_path / "file").open("w+b") as file:
        async with Started(tmp_path / "q", "-S", profile=profile) as vm:
            await vm.add_fd(file, 3)
            await vm.client.execute("remove-fd", {"fdset-id": 3})
            assert await vm.sets() == ({3: 1} if kept else {})
            await vm.client.execute("cont")
            await vm.add_fd(file, 3)
            assert await vm.sets() == {3: 2 if kept else 1}
            await vm.client.execute("remove-fd", {"fdset-id": 3})
            assert await vm.sets() == {}


async def test_what_a_process_was_passed() -> None:
    host = OsHost(Loop(asyncio.get_running_loop()))
    host.own_process = True
    fd = os.open(os.devnull, os.O_RDONLY)
    assert host.passed_fd(fd) == -1
    os.set_inheritable(fd, True)
    assert host.passed_fd(fd) == fd
    os.close(fd)
    assert host.passed_fd(fd) == -1
    host.close()
