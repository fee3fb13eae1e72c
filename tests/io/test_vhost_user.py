"""-netdev vhost-user: what its back end is asked, in a real one's order, and how it fails."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError
from fakeqemu.testing import FakeQemu
from tests.support.vhost_user import (
    CALL,
    ENABLE,
    ERR,
    GET_FEATURES,
    GET_PROTOCOL,
    LOG_ALL,
    PROTOCOL,
    QUEUES,
    REQUEST_FD,
    RESET,
    SET_OWNER,
    SET_PROTOCOL,
    SLOTS,
    ScriptedBackend,
)
from tests.support.waiting import until_elsewhere

Make = Callable[..., ScriptedBackend]
NETDEV = "vhost-user,id=n,chardev=c"
NIC = ("-device", "virtio-net-pci,netdev=n")
LOST = "Migration disabled: vhost-user backend lacks VHOST_USER_PROTOCOL_F_LOG_SHMFD feature."


@pytest.fixture
def backend() -> Iterator[Make]:
    made: list[ScriptedBackend] = []
    with tempfile.TemporaryDirectory(prefix="fq-", dir="/tmp") as folder:

        def make(**options: Any) -> ScriptedBackend:
            made.append(ScriptedBackend(Path(folder), **options))
            return made[0]

        yield make
        for each in made:
            each.close()




def number(value: int) -> bytes:
    return struct.pack("=Q", value)


async def heard(there: ScriptedBackend, count: int) -> list[tuple[int, bool, bytes, int]]:
    """What was asked, once it is that much: the last messages are not answered."""
    await until_elsewhere(lambda: len(there.asked) >= count, f"{count} messages")
    return there.asked


def enabled(acked: bool) -> list[tuple[int, bool, bytes, int]]:
    return [(ENABLE, acked, struct.pack("=II", queue, 1), 0) for queue in (0, 1)]


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
async def test_what_is_asked(backend: Make, profile: str) -> None:
    there = backend()
    newest, old = profile == "11.1", profile == "7.2"
    chardev = f"socket,id=c,path={there.path}"
    argv = ("-nodefaults", "-chardev", chardev, "-netdev", NETDEV, *NIC)
    async with FakeQemu(*argv, profile=profile) as vm:
        start = [
            (GET_FEATURES, False, b"", 0),
            (GET_PROTOCOL, False, b"", 0),
            (SET_PROTOCOL, False, number(0xFDFF), 0),
            (QUEUES, False, b"", 0),
            (SLOTS, False, b"", 0),
            (REQUEST_FD, True, b"", 1),
            (SET_OWNER, False, b"", 0),
            (GET_FEATURES, False, b"", 0),
            *((request, newest, number(queue), 1) for queue in (0, 1) for request in (CALL, ERR)),
        ]
        reset = [*([] if old else [(RESET, False, b"", 0)]), *enabled(not old)]
        assert await heard(there, len(start) + len(reset)) == [*start, *reset]
        del there.asked[:]
        await vm.qmp("system_reset")
        assert await heard(there, len(reset)) == reset
        assert (await vm.qmp("query-migrate")) == {}
        assert " \\ n: index=0,type=vhost-user,vhost-user0 to c\n" in await vm.hmp("info network")
        (chardev_info,) = [c for c in await vm.qmp("query-chardev") if c["label"] == "c"]
        assert chardev_info["frontend-open"]


async def test_one_without_extensions(backend: Make) -> None:
    there = backend(features=LOG_ALL)
    chardev = f"socket,id=c,path={there.path}"
    async with FakeQemu("-nodefaults", "-chardev", chardev, "-netdev", NETDEV, *NIC) as vm:
        assert [request for request, *_ in await heard(there, 7)] == [
            GET_FEATURES, SET_OWNER, GET_FEATURES, CALL, ERR, CALL, ERR,
        ]  # fmt: skip
        assert (await vm.qmp("query-migrate"))["blocked-reasons"] == [LOST]


async def test_an_answer_shows_that_queues_are_enabled(backend: Make) -> None:
    there = backend(protocol=0)
    chardev = f"socket,id=c,path={there.path}"
    async with FakeQemu("-nodefaults", "-chardev", chardev, "-netdev", NETDEV, *NIC):
        assert [request for request, *_ in there.asked][-4:] == [
            ENABLE, GET_FEATURES, ENABLE, GET_FEATURES,
        ]  # fmt: skip


async def test_writes_that_it_cannot_log_block_migration(backend: Make) -> None:
    there = backend(features=PROTOCOL)
    chardev = f"socket,id=c,path={there.path}"
    async with FakeQemu("-nodefaults", "-chardev", chardev, "-netdev", NETDEV) as vm:
        assert (await vm.qmp("query-migrate"))["blocked-reasons"] == [
            "Migration disabled: vhost lacks VHOST_F_LOG_ALL feature."
        ]


INIT = "vhost_backend_init failed: Protocol error"
QUEUE = "failed to init vhost_net for queue 0"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hangs_up_at": GET_FEATURES}, [
            "Failed to read msg header. Read 0 instead of 12. Original request 1.", INIT, QUEUE]),
        ({"hangs_up_at": GET_PROTOCOL}, [
            "Failed to read msg header. Read 0 instead of 12. Original request 15.", INIT, QUEUE]),
        ({"flags": 4}, ["Failed to read msg header. Flags 0x4 instead of 0x5.", INIT, QUEUE]),
        ({"refuses": REQUEST_FD}, [INIT, QUEUE]),
        ({"features": PROTOCOL | 1 << 33, "protocol": 0}, [
            "IOMMU support requires reply-ack and backend-req protocol features.", QUEUE]),
    ],
)  # fmt: skip
async def test_one_that_fails(backend: Make, options: dict[str, Any], said: list[str]) -> None:
    chardev = f"socket,id=c,path={backend(**options).path}"
    with pytest.raises(StartupError) as caught:
        async with FakeQemu("-nodefaults", "-chardev", chardev, "-netdev", NETDEV):
            pass
    assert list(caught.value.lines) == [f"-netdev {NETDEV}: {line}" for line in said]


async def test_it_goes_and_comes_back(backend: Make) -> None:
    there = backend()
    chardev = f"socket,id=c,path={there.path},reconnect-ms=10"
    async with FakeQemu("-nodefaults", "-chardev", chardev, profile="10.0") as vm:
        await vm.qmp("netdev_add", type="vhost-user", id="n", chardev="c")
        came = await vm.wait_event("NETDEV_VHOST_USER_CONNECTED")
        assert came.data == {"netdev-id": "n", "chardev-id": "c"}
        there.hang_up()
        went = await vm.wait_event("NETDEV_VHOST_USER_DISCONNECTED")
        assert went.data == {"netdev-id": "n"}
        await until_elsewhere(
            lambda: len(vm.journal.of("event", "NETDEV_VHOST_USER_CONNECTED")) == 2,
            "another connection",
        )
        owners = [request for request, *_ in there.asked if request == SET_OWNER]
        assert len(owners) == 2


async def test_other_cards_are_refused(backend: Make) -> None:
    chardev = f"socket,id=c,path={backend().path}"
    device = "e1000,netdev=n"
    with pytest.raises(StartupError) as caught:
        async with FakeQemu(
            "-nodefaults", "-chardev", chardev, "-netdev", NETDEV, "-device", device
        ):
            pass
    said = "vhost-user requires frontend driver virtio-net-*"
    assert caught.value.lines == (f"-device {device}: {said}",)


async def test_one_that_is_waited_for_is_not_modelled() -> None:
    with tempfile.TemporaryDirectory(prefix="fq-", dir="/tmp") as folder:
        chardev = f"socket,id=c,path={folder}/s,server=on,wait=off"
        with pytest.raises((StartupError, QapiError)) as caught:
            async with FakeQemu("-nodefaults", "-chardev", chardev, "-netdev", NETDEV):
                pass
    assert NotModelledError("netdev vhost-user that waits for its back end").desc in str(
        caught.value
    )
