"""A source and a destination, on one clock: what every migration test begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.clock import VirtualClock
from fakeqemu.testing.clock.group_clock import GroupClock

if TYPE_CHECKING:
    from fakeqemu.testing.machine.fake import FakeQemu


async def pair(
    make: Any,
    *options: str,
    guest: dict[str, Any] | None = None,
    runner: str = "loop",
    clock: Any = None,
    listen: bool = True,
    **settings: Any,
) -> tuple[FakeQemu, FakeQemu]:
    """Two machines with the same `options`; the second waits for the first.

    `make` makes a handle. Both are on one virtual clock wherever they run, unless `clock` says
    otherwise ("real"). With `listen` the destination listens at its `migration_uri`.
    """
    if any(str(each).lstrip("-") == "incoming" for each in options):
        raise ValueError("a pair's destination has its own -incoming: leave it out (listen=False)")
    memory = ["-m", f"{_mebibytes(guest['memory'])}M"] if guest and "memory" in guest else []
    everything = (*(options or ("-machine", "q35")), *memory)
    if clock in (None, "virtual"):
        clock = VirtualClock() if runner == "loop" else GroupClock()
    common = {"guest": guest, "runner": runner, "clock": clock, **settings}
    source = make(*everything, **{"name": "source", **common})
    target = make(*everything, "-incoming", "defer", **{"name": "destination", **common})
    try:
        await source.start()
        await target.start()
        for one, other in ((source, target), (target, source)):
            one.journal.aliases[str(other.directory)] = f"${{{other.name}}}"
        if listen:
            await target.qmp("migrate-incoming", uri=target.migration_uri)
    except BaseException:
        source.stop_now()
        target.stop_now()
        raise
    return source, target


def _mebibytes(memory: int | str) -> int:
    from fakeqemu.testing.machine.guest import amount

    return max(1, amount(memory) >> 20)
