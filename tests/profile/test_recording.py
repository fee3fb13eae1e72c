"""The recorder: what it reads out of a program file and, with a real QEMU, that it repeats."""

from __future__ import annotations

import struct

import pytest

from fakeqemu.recorder import options
from fakeqemu.recorder.board import machines


def program(names, stride):
    """A minimal 64-bit ELF file with a relocated table of records that begin with a name."""
    strings, offsets = b"", []
    for name in names:
        offsets.append(len(strings))
        strings += name.encode() + b"\0"
    text_at, base, data = 0x200, 0x1000, 0x8000
    rela = b"".join(
        struct.pack("<QQq", data + i * stride, 8, base + offset)
        for i, offset in enumerate(offsets)
    )
    rela_at = text_at + len(strings)
    sections_at = rela_at + len(rela)
    header = b"\x7fELF\x02\x01" + bytes(10)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, sections_at, 0, 64, 56, 1, 64, 1, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 4, text_at, base, base, len(strings), len(strings), 1)
    section = struct.pack("<IIQQQQIIQQ", 0, 4, 0, 0, rela_at, len(rela), 0, 0, 8, 24)
    return (header + segment).ljust(text_at, b"\0") + strings + rela + section


@pytest.mark.parametrize("stride", [16, 24])
def test_option_names_from_the_program(stride):
    names = ["h", "help", "no-user-config", "qtest", "M"]
    found = options.table_names(program(names, stride), "no-user-config")
    assert sorted(found) == sorted(names)


def test_no_table_no_names():
    assert options.table_names(b"#!/bin/sh\n", "no-user-config") == []
    assert options.table_names(program(["a", "b"], 24), "no-user-config") == []


def test_migration_compat_seen_from_outside():
    data = {
        "none": {"globals": {"a": "on"}, "parameters": {"p": "x"}},
        "old": {"globals": {"a": "off"}, "parameters": {"p": "y"}},
    }
    entries = [{"name": name} for name in ("none", "old", "lost")]
    entries.append({"name": "known", "compat-props": 1})
    machines.add_migration_compat(entries, data)
    assert entries[0]["compat-props"] == []
    assert entries[1]["compat-props"] == [
        {"qom-type": "migration", "property": "a", "value": "off"},
        {"qom-type": "migration", "property": "p", "value": "y"},
    ]
    assert "compat-props" not in entries[2]
    assert entries[3]["compat-props"] == 1


def test_deprecation_moves_out_of_the_warnings():
    data = {"m": {"warnings": ["warning: Machine type 'm' is deprecated: too old", "other"]}}
    about = {"m": {}}
    machines.add_deprecations(about, data)
    assert about == {"m": {"deprecation": "too old"}}
    assert data["m"]["warnings"] == ["other"]
