"""Images of other programs, with whatever stands in their headers: recognised, and no more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from fakeqemu.model.block.files import MemoryFiles
from fakeqemu.qapi.errors import QapiError
from tests.support.machines import BlockMachine

FORMATS = ["qcow", "qed", "vmdk", "vdi", "vhdx", "parallels", "bochs", "cloop", "dmg", "luks",
           "vpc", "qcow2", "raw"]  # fmt: skip
MARKS = [
    b"", b"QFI\xfb\0\0\0\1", b"QFI\xfb\0\0\0\3", b"QED\0", b"KDMV", b"COWD", b"vhdxfile",
    b"# Disk DescriptorFile", b"conectix", b"LUKS\xba\xbe\0\1", b"WithoutFreeSpace",
    b"Bochs Virtual HD Image", b"#!/bin/sh\n#V2.0 Format\n",
    b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0") + b"\x7f\x10\xda\xbe",
]  # fmt: skip


@pytest.fixture(scope="module", params=["7.2", "11.1"])
def machine(request: Any) -> BlockMachine:
    return BlockMachine(MemoryFiles(), profile=request.param)


@settings(
    max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(
    mark=st.sampled_from(MARKS),
    rest=st.binary(max_size=700),
    cut=st.integers(0, 1500),
    driver=st.sampled_from(FORMATS),
)
def test_headers_of_any_kind(
    machine: BlockMachine, mark: bytes, rest: bytes, cut: int, driver: str
) -> None:
    content = (mark + rest)[:cut]
    file = machine.vm.host.files.open("/x", writable=True, create=True)
    file.truncate(0)
    file.write(0, content)
    for options in ({"driver": driver, "read_only": True}, {"driver": driver}):
        try:
            machine.add(name="x", file={"driver": "file", "filename": "/x"}, **options)
        except QapiError as error:
            assert error.desc
        else:
            assert driver in ("raw", "qcow2")
            machine.ask("blockdev-del", node_name="x")
    printed = machine.hmp("drive_add 0 if=none,id=d,file=/x")
    assert printed
    if printed.startswith("OK"):
        machine.hmp("drive_del d")
    assert [entry.data for entry in machine.vm.journal if entry.kind == "bug"] == []
