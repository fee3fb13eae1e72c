"""Registers of a guest that a real QEMU has sent: they are in a section that is not read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakeqemu.formats.migration_stream.source import DeviceSection
from fakeqemu.formats.migration_stream.vmstate import vmstate_fields as layout
from fakeqemu.migration import vmstate

NAME = "registers of a migrated guest"
NOT_MODELLED = f"fakeqemu does not model '{NAME}'\n"


@pytest.mark.fakeqemu(allow=[NAME])
@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize("section", ["cpu", "timer"])
async def test_registers_that_came_are_refused_until_a_reset(
    fakeqemu: Any, monkeypatch: pytest.MonkeyPatch, profile: str, section: str
) -> None:
    usual = vmstate.source
    fields = (layout.VmStateField("halted", "uint8", 1),)
    sent = DeviceSection(layout.VmState(section, 1, fields), b"\0")
    monkeypatch.setattr(
        vmstate, "source", lambda *given: replace(usual(*given), devices=(sent,))
    )
    src, dst = await fakeqemu.pair(profile=profile)
    shown = {line: await dst.hmp(line) for line in ("info registers", "print $pc", "info mem")}
    assert NOT_MODELLED not in shown.values()
    await src.qmp("migrate", uri=dst.migration_uri)
    await src.run_until_idle()
    assert (await dst.qmp("query-migrate"))["status"] == "completed"
    for line, text in shown.items():
        assert await dst.hmp(line) == (NOT_MODELLED if section == "cpu" else text)
    await dst.hmp("system_reset")
    await dst.run_until_idle()
    assert {line: await dst.hmp(line) for line in shown} == shown
