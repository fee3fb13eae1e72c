"""Memory that the host cannot give: refused as QEMU refuses it, for every kind of backend."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import VirtualClock
from fakeqemu.io import host_memory as hostmemory
from fakeqemu.model.null_host import NullHost, NullMemory
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.testing import FakeQemu

GB = 1 << 30
NO_MEMORY = "Cannot allocate memory"


async def refusal(vm: FakeQemu, type: str, size: int, **options: Any) -> str:
    """What object-add answers; empty for success."""
    try:
        await vm.qmp("object-add", **{"qom-type": type, "id": "m", "size": size, **options})
    except Exception as error:
        return str(error)
    await vm.qmp("object-del", id="m")
    return ""


@pytest.fixture
def host_of_8_gibibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that lets 8 GiB be reserved, and mapped what an address space has room for."""

    def map_error(_: object, size: int, *, reserve: bool = True, page: int = 0) -> int:
        most = 8 * GB if reserve else 1 << 47
        return errno.ENOMEM if page or size > most else 0

    monkeypatch.setattr(hostmemory.PretendedMemory, "map_error", map_error)


@pytest.mark.usefixtures("host_of_8_gibibytes")
@pytest.mark.parametrize(
    ("type", "size", "options", "text"),
    [
        ("ram", 8 * GB, {}, ""),
        ("ram", 9 * GB, {}, f"cannot set up guest memory 'm': {NO_MEMORY}"),
        ("ram", 9 * GB, {"prealloc": True}, f"cannot set up guest memory 'm': {NO_MEMORY}"),
        ("ram", 9 * GB, {"reserve": False}, ""),
        ("ram", 9 * GB, {"share": True}, ""),
        ("ram", 1 << 48, {"reserve": False}, f"cannot set up guest memory 'm': {NO_MEMORY}"),
        ("ram", (1 << 64) - 1, {}, f"cannot set up guest memory 'm': {NO_MEMORY}"),
        ("memfd", 9 * GB, {}, ""),
        (
            "memfd", 9 * GB, {"share": False},
            f"unable to map backing store for guest RAM: {NO_MEMORY}",
        ),
        (
            "memfd", 4 << 20, {"hugetlb": True},
            f"unable to map backing store for guest RAM: {NO_MEMORY}",
        ),
        ("memfd", 1 << 63, {}, f"failed to resize memfd to {1 << 63}: Invalid argument"),
        (
            "memfd", 4097, {},
            "m backing store size 0x1001 is too small for 'size' option 0x2000 plus 'offset'"
            " option 0x0",
        ),
        ("shm", 1 << 63, {}, f"failed to resize POSIX shared memory to {1 << 63}:"),
    ],
)  # fmt: skip
async def test_what_the_host_does_not_have(
    type: str, size: int, options: dict[str, Any], text: str
) -> None:
    async with FakeQemu("-machine", "none", profile="10.0", strict=False) as vm:
        said = await refusal(vm, f"memory-backend-{type}", size, **options)
    assert text in said if text else said == ""


@pytest.mark.usefixtures("host_of_8_gibibytes")
async def test_files_that_cannot_be_mapped(tmp_path: Path) -> None:
    kind = "memory-backend-file"
    short = tmp_path / "short"
    short.write_bytes(bytes(8192))
    async with FakeQemu("-machine", "none", profile="10.0", strict=False) as vm:
        path = {"mem-path": str(tmp_path / "new")}
        assert NO_MEMORY in await refusal(vm, kind, 9 * GB, **path)
        assert await refusal(vm, kind, 9 * GB, share=True, **path) == ""
        assert "multiple of 4 KiB" in await refusal(vm, kind, 4097, **path)
        said = await refusal(vm, kind, 1 << 20, **{"mem-path": str(short)})
    assert "m backing store size 0x2000 is too small for 'size' option 0x100000" in said
    assert short.stat().st_size == 8192


def boot(*argv: str, memory: int) -> None:
    profile = Profile.load("10.0")
    host = NullHost()
    host.memory = NullMemory(memory)
    started = Boot.of(parse_command_line(list(argv), profile), profile, VirtualClock(), host)
    for _request in started.run():
        pass


def test_the_boards_own_memory() -> None:
    boot("-machine", "q35", "-nodefaults", "-m", "4G", memory=4 * GB)
    with pytest.raises(StartupError, match=r"cannot set up guest memory 'pc\.ram': Cannot all"):
        boot("-machine", "q35", "-nodefaults", "-m", "4G", memory=4 * GB - 1)
    # room for modules takes no memory until there are some
    boot("-machine", "q35", "-nodefaults", "-m", "1G,maxmem=64G,slots=2", memory=GB)
    with pytest.raises((StartupError, QapiError), match="cannot set up guest memory 'x'"):
        boot("-machine", "q35", "-object", "memory-backend-ram,id=x,size=2G", memory=GB)


def test_what_this_host_says() -> None:
    kernel = hostmemory.KernelMemory()
    assert kernel.map_error(1 << 20, reserve=True) == 0
    assert kernel.map_error(1 << 62, reserve=False) == errno.ENOMEM
    assert kernel.map_error(1 << 64, reserve=True) == errno.ENOMEM
    assert kernel.shared_error(1 << 40) == 0
    assert kernel.shared_error(1 << 63) == errno.EINVAL


def test_a_tests_guest_has_the_memory_that_the_test_says() -> None:
    pretended = hostmemory.PretendedMemory()
    assert pretended.map_error(1 << 46) == 0
    assert pretended.map_error(1 << 62) == errno.ENOMEM
    assert pretended.shared_error(1 << 63) == errno.EINVAL


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (256, "Invalid parameter type for 'host-nodes', expected: array"),
        ([256], "Invalid host-nodes value: 256"),
        (["a"], "Parameter 'host-nodes[0]' expects uint64"),
    ],
)
async def test_host_nodes_of_a_finished_backend_are_numbers(value: Any, text: str) -> None:
    options = ("-machine", "none", "-object", "memory-backend-ram,id=m,size=4M")
    async with FakeQemu(*options, profile="11.1") as vm:
        where = {"path": "/objects/m", "property": "host-nodes"}
        with pytest.raises(Exception, match=re.escape(text)):
            await vm.qmp("qom-set", **where, value=value)
        await vm.qmp("qom-set", **where, value=[0])
        assert await vm.qmp("qom-get", **where) == [0]
