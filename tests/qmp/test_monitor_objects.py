"""Objects monitor-qmp and monitor-hmp: what their properties do, as in a real 11.1."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fakeqemu.testing import FakeQemu
from tests.support.waiting import until


async def _names(vm: FakeQemu) -> tuple[set[str], set[str]]:
    objects = await vm.qmp("qom-list", path="/objects")
    chardevs = await vm.qmp("query-chardev")
    return {each["name"] for each in objects}, {each["label"] for each in chardevs}


@pytest.mark.parametrize(("action", "stays"), [("delete", False), ("none", True)])
async def test_what_a_monitor_does_when_its_client_goes(
    tmp_path: Path, action: str, stays: bool
) -> None:
    path = tmp_path / "c"
    argv = (
        "-chardev", f"socket,id=c,path={path},server=on,wait=off",
        "-object", "monitor-qmp,id=o,chardev=c,close-action=delete",
    )  # fmt: skip
    async with FakeQemu(*argv, profile="11.1") as vm:
        await vm.qmp("qom-set", path="/objects/o", property="close-action", value=action)
        reader, writer = await asyncio.open_unix_connection(path)
        assert b'"QMP"' in await reader.readline()
        writer.close()
        chardevs = vm.vm.chardevs
        await until(lambda: "c" not in chardevs or not chardevs["c"].connected)
        objects, labels = await _names(vm)
        assert ("o" in objects, "c" in labels) == (stays, stays)
        assert path.exists() == stays


async def test_without_readline_no_key_is_a_command(tmp_path: Path) -> None:
    path = tmp_path / "c"
    argv = (
        "-chardev", f"socket,id=c,path={path},server=on,wait=off",
        "-object", "monitor-hmp,id=o,chardev=c,readline=off",
    )  # fmt: skip
    async with FakeQemu(*argv, profile="11.1"):
        reader, writer = await asyncio.open_unix_connection(path)
        assert (await reader.readline()).startswith(b"QEMU 11.1")
        writer.write(b"a\0\n")
        assert await reader.readexactly(38) == b"corrupted command\r\n" * 2
        writer.close()
