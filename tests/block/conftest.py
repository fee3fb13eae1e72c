"""A machine with images in memory, and one with real ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fakeqemu.model.block.files import MemoryFiles
from tests.support.machines import BlockMachine


@pytest.fixture
def files() -> MemoryFiles:
    return MemoryFiles()


@pytest.fixture
def start(files: MemoryFiles) -> Callable[..., BlockMachine]:
    def make(*argv: str, profile: str = "10.0") -> BlockMachine:
        return BlockMachine(files, *argv, profile=profile)

    return make


@pytest.fixture
def machine(start: Callable[..., BlockMachine]) -> BlockMachine:
    return start()
