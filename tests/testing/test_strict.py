"""Which mistakes count, and what is said of them."""

from __future__ import annotations

import asyncio

import pytest

from fakeqemu.profile import Profile
from fakeqemu.testing import FakeQemu, UnknownNameError
from fakeqemu.testing.names import suggest_fix

NONE = ("-machine", "none", "-nodefaults", "-display", "none")
SCHEMA = Profile.load("10.0").schema


@pytest.mark.parametrize(
    ("sent", "right"),
    [
        (("query_status", {}), ("query-status", {})),
        (("migrate", {"ur": "x"}), ("migrate", {"uri": "x"})),
        (
            ("migrate-set-capabilities", {"capabilities": [{"capabilty": "multifdd", "state": 1}]}),
            ("migrate-set-capabilities", {"capabilities": [{"capability": "multifd", "state": 1}]}),
        ),
        (
            ("object-add", {"qom-type": "secret", "id": "s", "dta": "x"}),
            ("object-add", {"qom-type": "secret", "id": "s", "data": "x"}),
        ),
        (("query-name", {"nonsense": 1}), ("query-name", {})),
    ],
)
def test_nearest_requests(sent: tuple[str, dict], right: tuple[str, dict]) -> None:
    assert suggest_fix(SCHEMA, *sent) == right


def test_nothing_is_near_nonsense() -> None:
    assert suggest_fix(SCHEMA, "zzzzzzzz", {}) is None


async def test_broken_protocol_counts() -> None:
    vm = await FakeQemu(*NONE, profile="10.0")
    reader, writer = await asyncio.open_unix_connection(vm.socket_path)
    await reader.readline()
    for line in (b'{"execute": "stop"}', b'{"nonsense": 1}', b"}"):
        writer.write(line + b"\n")
        assert b"error" in await reader.readline()
    writer.close()
    report = vm.complaints()
    assert report is not None and "3 mistakes" in report
    assert "Expecting capabilities negotiation" in report
    assert "member 'nonsense' is unexpected" in report
    vm.verifier.allow.append("protocol")
    assert vm.complaints() is None
    await vm.stop()


async def test_what_the_model_refuses_is_an_answer() -> None:
    async with FakeQemu(*NONE, profile="10.0", strict=True) as vm:
        with pytest.raises(Exception, match="not found"):
            await vm.client.execute("object-del", {"id": "nothing"})


async def test_expectations() -> None:
    async with FakeQemu(*NONE, profile="10.0") as vm:
        vm.expect("migrate-set-parameters", {"multifd-channels": 4})
        vm.expect("stop", times=2)
        with pytest.raises(UnknownNameError, match="did you mean 'stop'"):
            vm.expect("stopp")
        await vm.client.execute("migrate-set-parameters", {"multifd-channels": 3})
        await vm.client.execute("stop")
        report = vm.complaints()
        assert report is not None
        assert "expected 2 times, came 1 times" in report
        assert 'came 0 times; it came with {"multifd-channels": 3}' in report
        await vm.client.execute("migrate-set-parameters", {"multifd-channels": 4})
        await vm.client.execute("stop")
        assert vm.complaints() is None


async def test_the_seed_is_told() -> None:
    async with FakeQemu(*NONE, profile="10.0", seed=42, name="db1") as vm:
        vm.expect("cont")
        assert str(vm.complaints()).startswith("db1: 1 mistake ")
        assert str(vm.complaints()).endswith("seed: 42")
