"""record, replay and diff as commands: processes that say when they are ready."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import QMPClient

from fakeqemu.testing import FakeQemu
from fakeqemu.testing.recording.diff import differences

NONE = ("-machine", "none", "-nodefaults", "-display", "none")


@contextlib.asynccontextmanager
async def command(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A `fakeqemu` command that is ready; it is asked to leave at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fakeqemu", *words, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            assert b"listening at" in await process.stderr.readline()
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await process.communicate()


def run(*words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "fakeqemu", *words],
        # asyncio's debug mode, if it is on, would speak on standard error
        env={**os.environ, "PYTHONASYNCIODEBUG": ""},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


async def talk(path: Path) -> list[Any]:
    """What a client is told; a client as it comes from the package, ids and all."""
    client = QMPClient("talk")
    await client.connect(str(path))
    heard: list[Any] = []
    for name, arguments in (
        ("query-status", {}),
        ("query-commands", {}),
        ("stop", {}),
        ("query-status", {}),
        ("device_del", {"id": "nothing"}),
        ("object-add", {"qom-type": "secret", "id": "s", "data": "x"}),
        ("query-nothing", {}),
    ):
        try:
            heard.append(await client.execute(name, arguments))
        except Exception as error:
            heard.append(str(error))
    await client.disconnect()
    return heard


@pytest.fixture
async def recorded(tmp_path: Path) -> tuple[Path, list[Any]]:
    file = tmp_path / "talk.jsonl"
    async with FakeQemu(*NONE, profile="10.0", client=False) as machine:
        addresses = f"unix:{tmp_path}/front", f"unix:{machine.socket_path}"
        async with command("record", "--output", str(file), "--", *addresses):
            heard = await talk(tmp_path / "front")
    assert not (tmp_path / "front").exists()
    return file, heard


async def test_record_and_replay(recorded: tuple[Path, list[Any]], tmp_path: Path) -> None:
    file, heard = recorded
    for match in ("order", "content"):
        path = tmp_path / match
        words = ("replay", str(file), "--socket", f"unix:{path}", "--match", match)
        async with command(*words) as process:
            assert await talk(path) == heard
        assert process.returncode == 0
        assert not path.exists()


async def test_a_replay_that_was_not_followed(
    recorded: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    file, _ = recorded
    async with command("replay", str(file), "--socket", f"unix:{tmp_path}/r") as process:
        client = QMPClient("other")
        await client.connect(str(tmp_path / "r"))
        with pytest.raises(Exception, match="expected query-status, got"):
            await client.execute("query-name")
        await client.disconnect()
    assert process.returncode == 1


async def test_diff(recorded: tuple[Path, list[Any]]) -> None:
    file, _ = recorded
    assert run("diff", str(file), "--profile", "10.0") == (
        0, "0 differences of shape, 0 of value\n",
    )  # fmt: skip
    status, said = run("diff", str(file), "--profile", "7.2", "--shape", "--", *NONE)
    assert status == 1
    assert "query-status: return.singlestep: recorded null, got false" in said
    assert "value:" not in said
    assert run("diff", str(file), "--profile", "9.9")[0] == 2


def test_named_things_are_compared_by_name() -> None:
    old = {"return": [{"name": "a", "x": 1}, {"name": "b"}]}
    new = {"return": [{"name": "b"}, {"name": "c"}, {"name": "a", "x": 2}]}
    found = [(each.kind, each.path) for each in differences(old, new, 1, 1, "q")]
    assert found == [("value", "return.a.x"), ("shape", "return.c")]


async def test_a_full_disk_costs_the_recording_and_not_the_conversation(tmp_path: Path) -> None:
    client, real = tmp_path / "client", tmp_path / "real"
    async with FakeQemu(
        "-machine", "none", "-qmp", f"unix:{real},server=on,wait=off",
        profile="10.0", socket=False, client=False,
    ):  # fmt: skip
        recording = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fakeqemu", "record", "--output", "/dev/full",
            f"unix:{client}", f"unix:{real}",
            stderr=subprocess.PIPE, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert recording.stderr is not None
        async with asyncio.timeout(30):
            await recording.stderr.readline()
            reader, writer = await asyncio.open_unix_connection(client)
            assert b"QMP" in await reader.readline()
            writer.write(b'{"execute": "qmp_capabilities"}')
            assert b"return" in await reader.readline()
            writer.close()
            recording.terminate()
            _, said = await recording.communicate()
        assert said == b"fakeqemu: the recording ends: /dev/full: No space left on device\n"
        assert recording.returncode == 1
