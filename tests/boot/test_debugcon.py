"""-debugcon: a device like any other, with an id of its own; texts are those of real ones."""

from __future__ import annotations

import pytest

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu


async def test_it_is_a_device() -> None:
    words = ("-debugcon", "null", "-global", "isa-debugcon.iobase=0x402")
    async with FakeQemu("-machine", "pc", "-nodefaults", *words) as machine:
        where = {"path": "/machine/peripheral/debugcon", "property": "chardev"}
        assert await machine.qmp("qom-get", where) == "debugcon"
        assert await machine.qmp("qom-get", {**where, "property": "iobase"}) == 0x402


@pytest.mark.parametrize(
    ("type", "words", "said"),
    [
        ("none", ("-debugcon", "null"), "No 'ISA' bus found for device 'isa-debugcon'"),
        ("pc", ("-device", "edu,id=debugcon", "-debugcon", "null"),
         "already have a debugcon device"),
        ("pc", ("-chardev", "null,id=x", "-debugcon", "chardev:x"),
         "Property 'isa-debugcon.chardev' can't find value 'debugcon'"),
    ],
)  # fmt: skip
async def test_refusals(type: str, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(StartupError) as caught:
        async with FakeQemu("-machine", type, "-nodefaults", *words):
            pass
    assert caught.value.message == f"{' '.join(words[-2:])}: {said}"
