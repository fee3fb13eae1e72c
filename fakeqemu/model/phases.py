"""The phases of a start, as QEMU counts them: what may be asked for depends on them.

See hw/core/qdev.c: phase_advance() and phase_check().
"""

from __future__ import annotations

from fakeqemu.journal import Journal

#: each reached once and in this order
PHASES = (
    "no-machine",
    "machine-created",
    "accel-created",
    "late-backends-created",
    "machine-initialized",
    "machine-ready",
)


class Phases:
    """How far a start has come."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._current = PHASES[0]

    @property
    def current(self) -> str:
        """The phase last reached, one of PHASES."""
        return self._current

    def enter(self, phase: str) -> None:
        """The boot has come to `phase`."""
        if PHASES.index(phase) < PHASES.index(self._current):
            raise RuntimeError(f"phase {phase} after {self._current}")
        self._current = phase
        self._journal.note("phase", phase)

    def reached(self, phase: str) -> bool:
        """Whether the boot has come to `phase` or past it."""
        return PHASES.index(self._current) >= PHASES.index(phase)

    @property
    def ready(self) -> bool:
        """Whether machine initialization has completed."""
        return self.reached("machine-ready")
