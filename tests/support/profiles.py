"""A machine for commands that only read the profile."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import fakeqemu.commands  # noqa: F401
from fakeqemu.clock import VirtualClock
from fakeqemu.commands.registry import COMMANDS
from fakeqemu.configuration import Configuration
from fakeqemu.model.machine import Machine
from fakeqemu.model.null_host import NullHost
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ask():
    """`ask(profile name, command, **arguments)`: the value, or (class, text) of the error."""

    def ask(name, command, **arguments):
        vm = Machine(Profile.load(name), Configuration(), VirtualClock(), NullHost())
        try:
            return COMMANDS[command].function(vm, **arguments)
        except QapiError as error:
            return error.error_class, error.desc

    return ask


@pytest.fixture(scope="session")
def recording():
    """The package of scripts that asks a running QEMU."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from recording import hmp, machines, options, parts, qemu
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    return {
        "hmp": hmp,
        "machines": machines,
        "options": options,
        "parts": parts,
        "qemu": qemu,
    }
