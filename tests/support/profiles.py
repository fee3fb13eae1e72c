"""A machine for commands that only read the profile."""

from __future__ import annotations

import pytest

import fakeqemu.commands  # noqa: F401
from fakeqemu.clock import VirtualClock
from fakeqemu.commands.registry import COMMANDS
from fakeqemu.configuration import Configuration
from fakeqemu.model.machine import Machine
from fakeqemu.model.null_host import NullHost
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError


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
