"""-smbios, beyond the form of its values; texts are those of real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu

#: a structure of type 1, as a file
SYSTEM = bytes((1, 27)) + bytes(27)


def machine(*words: str, type: str = "q35", profile: str = "10.0") -> FakeQemu:
    return FakeQemu("-machine", type, "-nodefaults", *words, profile=profile)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("file=FILE", "type=1,product=x"),
         "type=1,product=x: can't add fields, binary file already loaded!"),
        (("type=1,product=x", "file=FILE"),
         "file=FILE: can't load type 1 struct, fields already specified!"),
        (("type=200",), "type=200: out of range!"),
        (("file=FILE,type=1",), "file=FILE,type=1: Invalid parameter 'type'"),
        (("foo=1,file=",), "foo=1,file=: Invalid parameter 'foo'"),
        (("type=41,kind=foo",), "type=41,kind=foo: invalid parameter value: foo"),
    ],
)  # fmt: skip
async def test_refusals(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    path = tmp_path / "structure"
    path.write_bytes(SYSTEM)
    named = [word.replace("FILE", str(path)) for word in words]
    with pytest.raises(StartupError) as caught:
        async with machine(*(each for word in named for each in ("-smbios", word))):
            pass
    assert f"{caught.value.location}: {caught.value.message}".endswith(
        said.replace("FILE", str(path))
    )


async def test_two_of_a_kind_from_files(tmp_path: Path) -> None:
    path = tmp_path / "structure"
    path.write_bytes(SYSTEM)
    async with machine("-smbios", f"file={path}", "-smbios", f"file={path}") as running:
        assert (await running.qmp("query-status"))["status"] == "running"


@pytest.mark.parametrize(
    ("profile", "type", "more", "said"),
    [
        ("7.2", "q35", (), "No PCI device x for SMBIOS type 41 entry (null)"),
        ("7.2", "pc", ("-device", "isa-serial,id=x"),
         "No PCI device x for SMBIOS type 41 entry (null)"),
        ("7.2", "q35", ("-device", "edu,id=x"), ""),
        ("7.2", "isapc", (), ""),
        ("10.0", "q35", (), ""),
        ("10.0", "isapc", (),
         "can't process fields for smbios types > 1 on machine versions < 2.1!"),
    ],
)  # fmt: skip
async def test_devices_that_are_soldered_on(
    profile: str, type: str, more: tuple[str, ...], said: str
) -> None:
    running = machine("-smbios", "type=41,pcidev=x", *more, type=type, profile=profile)
    if not said:
        async with running:
            return
    with pytest.raises(StartupError) as caught:
        async with running:
            pass
    assert caught.value.message == said
