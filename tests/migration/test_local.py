"""Local migration of TAPs: who has the host's interface before, during and after it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.qapi.errors import QapiError
from fakeqemu.testing import FakeQemu, QmpError

TAP = {"type": "tap", "id": "n0", "ifname": "tap0", "script": "no", "downscript": "no"}
BUSY = "could not configure /dev/net/tun (tap0): Device or resource busy"
UNIX_ONLY = "local migration requires a UNIX domain socket channel"


def machine(*options: str, **settings: Any) -> FakeQemu:
    return FakeQemu("-machine", "none", *options, client=False, socket=False, **settings)


async def refused(vm: FakeQemu, command: str, **arguments: Any) -> str:
    with pytest.raises(QmpError) as caught:
        await vm.qmp(command, arguments)
    return caught.value.desc


async def both_local(source: bool = True, target: bool = True, **settings: Any) -> Any:
    """A source with a TAP, and a target that has set `local` before its own was added."""
    src, dst = await FakeQemu.pair("-machine", "none", client=False, listen=False, **settings)
    await src.qmp("netdev_add", TAP)
    await src.qmp("migrate-set-parameters", local=source)
    await dst.qmp("migrate-set-parameters", local=target)
    return src, dst


async def migrate(src: FakeQemu, dst: FakeQemu) -> tuple[str, str]:
    await dst.qmp("migrate-incoming", {"uri": dst.migration_uri, "exit-on-error": False})
    await src.qmp("migrate", uri=dst.migration_uri)
    await src.run_until_idle()
    return tuple([(await each.qmp("query-migrate"))["status"] for each in (src, dst)])


async def stop(*machines: FakeQemu) -> None:
    for each in machines:
        await each.stop()


# -- the interface -------------------------------------------------------------------------------


async def test_item_46_the_interface_is_the_targets_after_a_local_migration():
    src, dst = await both_local()
    try:
        await dst.qmp("netdev_add", TAP)
        assert [tap.holds for tap in dst.vm.taps] == [False]
        assert await migrate(src, dst) == ("completed", "completed")
        assert [tap.holds for tap in dst.vm.taps] == [True]
        assert await refused(dst, "netdev_add", **{**TAP, "id": "n1"}) == BUSY
        assert dst.journal.of("tap-received", "n0")
        assert src.journal.of("tap-sent", "n0")
    finally:
        await stop(src, dst)


async def test_item_47_a_source_without_local_leaves_the_target_without_its_device():
    src, dst = await both_local(source=False)
    try:
        await dst.qmp("netdev_add", TAP)
        assert (await migrate(src, dst))[1] == "failed"
        assert (await dst.qmp("query-migrate"))["error-desc"] == (
            "load of migration failed: Invalid argument:"
            " netdev 'n0' waits for its device, which the source has not sent"
        )
    finally:
        await stop(src, dst)


async def test_item_47_a_target_without_local_has_no_place_for_the_device():
    src, dst = await both_local(target=False)
    try:
        await dst.qmp("netdev_add", {**TAP, "ifname": "tap1"})
        assert (await migrate(src, dst))[1] == "failed"
        assert "Unknown section or instance 'tap/n0' 0." in (
            (await dst.qmp("query-migrate"))["error-desc"]
        )
    finally:
        await stop(src, dst)


@pytest.mark.parametrize(
    ("kind", "supported"),
    [("pc-q35-11.2", True), ("pc-i440fx-11.1", False), ("none", True), ("microvm", True)],
)
async def test_item_53_support_is_by_machine_type(kind, supported):
    tap = "tap,id=n0,ifname=tap0,script=no"
    async with FakeQemu(
        *("-machine", kind, "-nodefaults", "-S", "-netdev", tap), client=False, socket=False
    ) as vm:
        assert [each.supports_local for each in vm.vm.taps] == [supported]


async def test_item_53_a_tap_says_so_itself_against_its_machine_type():
    async with FakeQemu(
        *("-machine", "pc-q35-11.1", "-nodefaults", "-S"), client=False, socket=False
    ) as vm:
        await vm.qmp("netdev_add", {**TAP, "local-migration-supported": True})
        await vm.qmp("netdev_add", {**TAP, "id": "n1", "ifname": "tap1"})
        assert [each.supports_local for each in vm.vm.taps] == [True, False]


async def test_missed_14_both_members_are_unstable():
    async with machine() as vm:
        schema = {entry["name"]: entry for entry in await vm.qmp("query-qmp-schema")}

    def features(type: str, member: str) -> list[str]:
        members = {each["name"]: each for each in schema[type]["members"]}
        return members[member]["features"]

    for command, side in (
        ("migrate-set-parameters", "arg-type"), ("query-migrate-parameters", "ret-type"),
    ):  # fmt: skip
        assert features(schema[command][side], "local") == ["unstable"]
    variants = schema[schema["netdev_add"]["arg-type"]]["variants"]
    tap = next(each["type"] for each in variants if each["case"] == "tap")
    assert features(tap, "local-migration-supported") == ["unstable"]


# -- the channel ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unix", "tcp", "pipe"])
def test_item_46_a_descriptor_passes_if_it_is_a_unix_socket(make, kind):
    class Monitor:
        """Whoever gave the descriptor its name."""

    monitor = Monitor()
    for command, options in (("migrate", {}), ("migrate-incoming", {"inmigrate": True})):
        vm = make("next", **options)
        vm.set(local=True)
        vm.host.kinds[7] = "socket" if kind == "unix" else kind
        vm.machine.named_fds.of(monitor).add("f", 7)
        if kind == "unix":
            vm.command(command, monitor, uri="fd:f")
            continue
        with pytest.raises(QapiError) as caught:
            vm.command(command, monitor, uri="fd:f")
        assert caught.value.desc == UNIX_ONLY
    vm = make("next")
    vm.set(local=True)
    assert vm.refused("migrate", uri="tcp:127.0.0.1:1") == UNIX_ONLY


async def test_item_46_the_host_knows_a_unix_socket_from_another():
    async with machine() as vm:
        host, (one, other) = vm.vm.host, socket.socketpair()
        with one, other, socket.socket() as tcp:
            assert host.is_unix_socket(one.fileno())
            assert not host.is_unix_socket(tcp.fileno())
        assert not host.is_unix_socket(99999)


# -- machines on one host ------------------------------------------------------------------------


async def test_item_51_a_second_process_finds_the_interface_busy(tmp_path: Path):
    async with machine(tap_directory=tmp_path, runner="process", clock="real") as running:
        await running.qmp("netdev_add", TAP)
        async with machine(tap_directory=tmp_path) as target:
            assert await refused(target, "netdev_add", **TAP) == BUSY
            assert await refused(target, "netdev_add", **TAP, queues=2) == (
                "could not configure /dev/net/tun (tap0): Invalid argument"
            )
            await target.qmp("netdev_add", {**TAP, "ifname": "tap1"})
            await target.qmp("netdev_del", id="n0")
            await running.qmp("netdev_del", id="n0")
            await target.qmp("netdev_add", TAP)


async def test_item_51_machines_without_a_directory_do_not_see_each_other():
    async with machine() as running, machine() as target:
        await running.qmp("netdev_add", TAP)
        await target.qmp("netdev_add", TAP)


async def test_item_51_one_with_several_queues_breaks_the_other_and_nobody_says_so(tmp_path: Path):
    async with machine(tap_directory=tmp_path) as running:
        await running.qmp("netdev_add", {**TAP, "queues": 2})
        async with machine(tap_directory=tmp_path) as single:
            assert await refused(single, "netdev_add", **TAP) == (
                "could not configure /dev/net/tun (tap0): Invalid argument"
            )
        target = machine(tap_directory=tmp_path, strict=True)
        await target.start()
        await target.qmp("netdev_add", {**TAP, "queues": 2})
        (entry,) = target.journal.of("tap-shared", "n0")
        assert entry.data["ifname"] == "tap0"
        assert not running.journal.of("tap-shared")
        with pytest.raises(AssertionError, match=r"shared-tap.*tap0.*others have open"):
            await target.stop()


async def test_item_51_what_was_open_is_free_when_its_process_is_gone(tmp_path: Path):
    first = machine(tap_directory=tmp_path)
    await first.start()
    await first.qmp("netdev_add", TAP)
    await first.stop()
    async with machine(tap_directory=tmp_path) as second:
        await second.qmp("netdev_add", TAP)


@pytest.mark.parametrize("runner", ["loop", "process"])
async def test_item_46_the_interface_goes_along_to_another_process(tmp_path: Path, runner):
    src, dst = await both_local(runner=runner, tap_directory=tmp_path)
    try:
        await dst.qmp("netdev_add", TAP)
        assert await migrate(src, dst) == ("completed", "completed")
        await src.stop()
        async with machine(tap_directory=tmp_path) as third:
            assert await refused(third, "netdev_add", **TAP) == BUSY
            await dst.qmp("netdev_del", id="n0")
            await third.qmp("netdev_add", TAP)
    finally:
        await stop(src, dst)


async def test_item_51_a_source_that_goes_on_after_all_breaks_the_target():
    src, dst = await both_local()
    try:
        await dst.qmp("netdev_add", TAP)
        assert await migrate(src, dst) == ("completed", "completed")
        assert not src.journal.of("tap-shared")
        await src.qmp("cont")
        assert len(src.journal.of("tap-shared", "n0")) == 1
    finally:
        await stop(src, dst)


async def test_a_failed_local_migration_leaves_the_device_with_the_source(tmp_path: Path):
    src, dst = await both_local(target=False, tap_directory=tmp_path)
    try:
        await migrate(src, dst)
        await dst.stop()
        assert [tap.holds for tap in src.vm.taps] == [True]
        async with machine(tap_directory=tmp_path) as third:
            assert await refused(third, "netdev_add", **TAP) == BUSY
    finally:
        await stop(src, dst)


async def test_descriptors_that_nobody_asked_for_are_closed():
    async with machine("-incoming", "defer") as dst:
        await dst.qmp("migrate-incoming", uri=dst.migration_uri)
        reader, writer = socket.socketpair()
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, dst.migration_uri.removeprefix("unix:"))
        socket.send_fds(client, [b"QEVM"], [writer.fileno()])
        writer.close()
        reader.setblocking(False)
        # the end of file says that no copy is open any more
        assert await asyncio.wait_for(loop.sock_recv(reader, 1), 10) == b""
        client.close()
        reader.close()
