"""Record a conversation, serve it again, and ask other profiles the same."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.testing import FakeQemu
from fakeqemu.testing.recording.diff import compare, differences
from fakeqemu.testing.recording.format import Conversation, RecordError, load, parse
from fakeqemu.testing.recording.proxy import Recorder, parse_address
from fakeqemu.testing.recording.replay import Replay

NONE = ("-machine", "none", "-nodefaults", "-display", "none")
REQUESTS = [
    {"execute": "qmp_capabilities"},
    {"execute": "query-status", "id": 1},
    {"execute": "stop", "id": 2},
    {"execute": "query-nothing", "id": 3},
]


async def talk(path: Any, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Greeting, then what comes up to the reply of each request; times aside."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 22)
    heard = [json.loads(await reader.readline())]
    async with asyncio.timeout(20):
        for request in requests:
            writer.write(json.dumps(request).encode())
            while True:
                heard.append(json.loads(await reader.readline()))
                heard[-1].pop("timestamp", None)
                if "event" not in heard[-1]:
                    break
        writer.write_eof()
        assert not await reader.read(), "only the end follows"
    writer.close()
    return heard


async def recorded(directory: Path, profile: str = "10.0") -> tuple[str, list[dict[str, Any]]]:
    out = io.StringIO()
    async with (
        FakeQemu(*NONE, profile=profile, client=False) as machine,
        Recorder(f"unix:{directory}/p", f"unix:{machine.socket_path}", out),
    ):
        heard = await talk(directory / "p", REQUESTS)
    return out.getvalue(), heard


def test_addresses() -> None:
    assert parse_address("unix:/a/b") == ("unix", "/a/b")
    assert parse_address("/a/b") == ("unix", "/a/b")
    assert parse_address("tcp:h:1") == ("tcp", ("h", 1))
    assert parse_address(":44") == ("tcp", ("127.0.0.1", 44))
    with pytest.raises(ValueError, match="unix:PATH"):
        parse_address("tcp:h:x")


async def test_a_recording_can_be_read_and_served(tmp_path: Path) -> None:
    text, heard = await recorded(tmp_path)
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[0]["opened"] and lines[-1]["closed"]
    assert [line["message"] for line in lines if line.get("from") == "client"] == REQUESTS
    (conversation,) = parse(text.splitlines())
    assert [each.command for each in conversation.exchanges][1:] == [
        "query-status", "stop", "query-nothing",
    ]  # fmt: skip
    assert [event["event"] for event in conversation.exchanges[2].before] == ["STOP"]
    async with Replay([conversation], f"unix:{tmp_path}/r") as replay:
        assert await talk(tmp_path / "r", REQUESTS) == heard
    assert not replay.complaints


async def test_order_and_content(tmp_path: Path) -> None:
    text, _ = await recorded(tmp_path)
    other = [REQUESTS[0], {**REQUESTS[2], "id": "x"}, REQUESTS[1], REQUESTS[1]]
    async with Replay(parse(text.splitlines()), f"unix:{tmp_path}/r") as replay:
        heard = await talk(tmp_path / "r", other)
    assert "expected query-status, got" in heard[2]["error"]["desc"]
    assert len(replay.complaints) == 2, "the request that came too early, and one too many"
    async with Replay(parse(text.splitlines()), f"unix:{tmp_path}/s", "content") as replay:
        heard = await talk(tmp_path / "s", other)
    assert heard[3] == {"return": {}, "id": "x"}
    assert heard[4] == heard[5] and heard[4]["id"] == 1
    assert not replay.complaints


async def test_the_same_profile_does_not_differ(tmp_path: Path) -> None:
    text, _ = await recorded(tmp_path)
    assert await compare(parse(text.splitlines()), "10.0", NONE) == []


async def test_another_profile_differs(tmp_path: Path) -> None:
    text, _ = await recorded(tmp_path)
    found = await compare(parse(text.splitlines()), "7.2", NONE)
    assert {(each.kind, each.command, each.path) for each in found} >= {
        ("shape", "query-status", "return.singlestep"),
        ("value", "greeting", "QMP.version.qemu.major"),
    }
    assert "1.2 query-status: return.singlestep: recorded null, got false" in str(
        next(each for each in found if each.path == "return.singlestep")
    )


def test_differences() -> None:
    def of(old: Any, new: Any) -> list[tuple[str, str]]:
        return [(each.kind, each.path) for each in differences(old, new, 1, 1, "x")]

    assert of({"return": {"a": 1}, "id": 1}, {"return": {"a": 2}, "id": 9}) == [
        ("value", "return.a")
    ]
    assert of({"return": {"a": 1}}, {"return": {"a": "1"}}) == [("shape", "return.a")]
    assert of({"return": {}}, {"error": {}}) == [("shape", "return"), ("shape", "error")]
    assert of({"return": [1]}, {"return": [1, 2]}) == [("value", "return (length)")]


def test_replies_find_their_requests_by_id() -> None:
    conversation = Conversation()
    for number in (1, 2):
        conversation.add("client", {"execute": "x", "id": number})
    for number in (2, 1):
        conversation.add("server", {"return": number, "id": number})
    assert [each.reply for each in conversation.exchanges] == [
        {"return": 1, "id": 1}, {"return": 2, "id": 2},
    ]  # fmt: skip


def test_no_recording(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text('{"connection": 1}\nnonsense\n')
    with pytest.raises(RecordError, match=r"x:2: not a line of a recording"):
        load(file)
