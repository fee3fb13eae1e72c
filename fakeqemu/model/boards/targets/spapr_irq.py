"""Which interrupt controllers a pseries machine has: `ic-mode`.

See hw/ppc/spapr_irq.c: spapr_irq_check(), spapr_irq_init() and spapr_irq_cpu_intc_create();
hw/ppc/spapr.c: spapr_set_ic_mode().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.model.qom.tree import QomObject

XIVE, ICS = "spapr-xive", "ics"
#: families of CPUs that have both kinds
_WITH_XIVE = ("power9", "power10", "power11")


def mode_of(asked: str, cpu: str) -> str:
    """The mode that a machine with such a CPU type is in when `asked` was asked for."""
    return "xics" if asked == "dual" and not cpu.startswith(_WITH_XIVE) else asked


def without_presenters(thread: QomObject, mode: str) -> None:
    """Leave out of a recorded CPU what presents interrupts of controllers that are not made."""
    unused = {XIVE: "xive-tctx", ICS: "icp"}.get(left_out(mode) or "")
    if unused is not None:
        thread.forget_child(unused)


def left_out(mode: str) -> str | None:
    """The controller that is not made in that mode: a QOM type, or the name of a child."""
    return {"xics": XIVE, "xive": ICS}.get(mode)
