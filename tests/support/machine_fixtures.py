"""Booted machines for tests of the model and of commands."""

from __future__ import annotations

import pytest

from tests.support.machines import Booted


@pytest.fixture
def start() -> type[Booted]:
    """Starts machines: `start("-machine", "q35", profile="10.0")`."""
    return Booted


@pytest.fixture
def q35() -> Booted:
    """A q35 with two root ports, not running."""
    ports = [a for n in (1, 2) for a in ("-device", f"pcie-root-port,id=rp{n},chassis={n}")]
    return Booted("-machine", "q35", "-S", *ports)
