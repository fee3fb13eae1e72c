"""Jobs of one transaction: they complete together, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.model.block.jobs.base import Job


class Transaction:
    """Jobs that complete together, or not at all."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.aborting = False
