"""Which mistakes count, and what is said of them."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import ANY

import pytest

from fakeqemu.profile import Profile
from fakeqemu.testing import FakeQemu, UnknownNameError
from fakeqemu.testing.match import Check, Glob, Has, InRange, OneOf, Regex
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


class TestExpectedOrder:
    async def report(self, *steps: Any, sent: tuple[Any, ...] = ("stop", "cont", "stop")) -> str:
        async with FakeQemu("-machine", "none", profile="10.0") as vm:
            vm.expect_in_order(*steps)
            for command in sent:
                name, arguments = (command, {}) if isinstance(command, str) else command
                await vm.qmp(name, arguments)
            return vm.complaints() or ""

    async def test_commands_come_one_after_the_other(self) -> None:
        assert not await self.report("stop", "cont", "stop")
        assert not await self.report("cont", "stop")
        report = await self.report("cont", "stop", "cont")
        assert "expected cont after stop; these came: stop, cont, stop" in report
        assert "expected query-name; these came: none" in await self.report("query-name")

    async def test_arguments_may_be_matchers(self) -> None:
        name = "migrate-set-parameters"
        sent = [(name, {"multifd-channels": 4, "tls-hostname": "host-1"}), "stop"]
        for fits in (
            {"multifd-channels": InRange(2, 8)},
            {"multifd-channels": OneOf(3, 4)},
            {"tls-hostname": Glob("host-*")},
            {"tls-hostname": Regex(r"-\d$"), "multifd-channels": Check(lambda value: value > 3)},
            {"tls-hostname": ANY},
        ):
            assert not await self.report((name, fits), "stop", sent=tuple(sent))
        for other in (
            {"multifd-channels": InRange(5, 8)},
            {"multifd-channels": Glob("4")},
            {"multifd-channels": OneOf("4", 5)},
            {"tls-hostname": Glob("HOST-*")},
            {"tls-authz": ANY},
        ):
            report = await self.report("stop", (name, other), sent=tuple(reversed(sent)))
            assert f"expected {name} with" in report
            assert repr(next(iter(other.values()))) in report

    async def test_matchers_inside_arguments(self) -> None:
        async with FakeQemu("-machine", "none", profile="10.0") as vm:
            node = {"driver": "raw", "file": {"driver": "null-co", "size": 4096}}
            vm.expect("blockdev-add", {"file": Has({"driver": Glob("null-*")})})
            await vm.qmp("blockdev-add", {**node, "node-name": "n"})
            assert vm.complaints() is None
            vm.expect("blockdev-add", {"file": Has({"driver": "file"})}, times=1)
            assert "expected 1 times with" in (vm.complaints() or "")

    async def test_names_are_checked(self) -> None:
        with pytest.raises(UnknownNameError, match="did you mean 'stop'"):
            await self.report("stopp")
        with pytest.raises(ValueError, match="nothing is expected"):
            await self.report()

    def test_without_await(self) -> None:
        with FakeQemu.sync("-machine", "none", profile="10.0") as vm:
            vm.expect_in_order("stop", ("cont", {}))
            assert "expected stop" in (vm.complaints() or "")
            vm.qmp("stop")
            vm.qmp("cont")
            assert vm.complaints() is None


async def test_what_a_debugger_shows() -> None:
    async with FakeQemu("-machine", "none", profile="10.0", clock="virtual") as vm:
        vm.faults.add("delay", command="stop", seconds=1)
        await vm.qmp("query-status")
        assert repr(vm.faults) == "<Faults: delay>"
        assert repr(vm.journal).startswith(f"<Journal of {vm.journal.total} entries, the last: ")
        assert repr(vm.vm.clock) == "<VirtualClock at 0 s, timers: 0>"
        assert repr(vm.stubs) == "<Stubs added: 0>"
        assert "machine 10.0 loop, running" in repr(vm)
    assert repr(FakeQemu("-S").faults) == "<Faults of a machine that does not run>"
