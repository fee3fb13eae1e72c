"""Two machines on one clock: the same every time, and written down the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.clock import VirtualClock
from fakeqemu.journal import Journal
from fakeqemu.testing import FakeQemu, UnknownNameError
from fakeqemu.testing.clock.timekeeper import ClockError
from fakeqemu.testing.machine.guest import amount, workload_members
from fakeqemu.testing.report.journal_html import page, remaining

GUEST = {"memory": "8G", "dirty-rate": "64M/s"}


async def migrate(**settings: Any) -> tuple[FakeQemu, FakeQemu]:
    """Both machines after a migration that completed."""
    src, dst = await FakeQemu.pair(profile="10.0", guest=GUEST, **settings)
    await src.qmp("migrate", uri=dst.migration_uri)
    for _ in range(200):
        status = await src.qmp("query-migrate")
        if status["status"] in ("completed", "failed"):
            break
        if not await src.jump():
            break
    await dst.run_until_idle()
    return src, dst


async def test_a_migration_on_one_clock() -> None:
    src, dst = await migrate()
    assert (await src.qmp("query-migrate"))["status"] == "completed"
    assert (await dst.qmp("query-status"))["status"] == "running"
    assert src.now() == dst.now()
    await src.stop()
    await dst.stop()


async def test_the_same_every_time() -> None:
    async def run() -> list[str]:
        machines = await migrate(seed=7)
        for machine in machines:
            await machine.stop()
        return [machine.journal.to_lines() for machine in machines]

    first, second = await run(), await run()
    assert first == second
    assert "${destination}/migration" in first[0], "paths of one run are not written down"


async def test_a_guest_is_what_a_migration_carries() -> None:
    src, dst = await migrate()
    assert src.vm.guest_workload.ram == 8 << 30
    assert (await src.qmp("query-migrate"))["ram"]["total"] >= 8 << 30
    await src.stop()
    await dst.stop()


def test_words_for_guests() -> None:
    assert workload_members({"memory": "1G", "dirty-rate": "2 MiB/s"}) == {
        "ram": 1 << 30,
        "dirty_rate": 2 << 20,
        "working_set": 1 << 30,
    }
    assert (amount("1.5K"), amount(7)) == (1536, 7)
    with pytest.raises(UnknownNameError, match="did you mean 'dirty-rate'"):
        workload_members({"dirty-rte": 1})
    with pytest.raises(ValueError, match="no amount: 'much'"):
        amount("much")


async def test_a_page_to_look_at(tmp_path: Path) -> None:
    src, dst = await migrate()
    journals = {"source": src.journal, "destination": dst.journal}
    text = page(journals, title="<a migration>")
    assert "&lt;a migration&gt;" in text and "<script" not in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), "nothing beside it"
    assert "class='arrow'" in text, "what one side did because of the other"
    assert len(list(remaining(src.journal))) > 1 and "bytes left to send" in text
    seen = Page.of(text)
    assert seen.tags["html"] == seen.tags["body"] == seen.tags["h1"] == 1
    assert seen.tags["h2"] == 1, "one plot: the source's"
    assert seen.tags["polyline"] + seen.tags["path"] > 2
    assert {"source", "destination"} <= set(seen.texts)
    assert not {"script", "link", "img", "iframe"} & set(seen.tags)
    shown = [each for each in src.journal if each.kind not in ("boot", "phase", "early-read")]
    shown += [each for each in dst.journal if each.kind not in ("boot", "phase", "early-read")]
    assert seen.tags["circle"] >= len(shown), "everything in both journals"
    await src.stop()
    await dst.stop()

    src.journal.save(tmp_path / "journal")
    loaded = Journal.load(tmp_path / "journal")
    assert loaded.to_lines() == src.journal.to_lines()
    assert [each.name for each in loaded.commands()][:1] == ["migrate"]
    assert "command      migrate" in loaded.timeline()
    assert len(loaded.timeline(last=3).splitlines()) == 3


class Page(HTMLParser):
    """Refuses what is not closed, or closed in the wrong order."""

    VOID = frozenset({"meta", "br", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.texts: list[str] = []
        self._open: list[str] = []

    @classmethod
    def of(cls, text: str) -> Page:
        page = cls()
        page.feed(text)
        page.close()
        assert page._open == []
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        assert all(value is not None for _, value in attrs), tag
        assert not any(name in ("src", "href") for name, _ in attrs)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_plot_needs_nobody_to_ask() -> None:
    clock = VirtualClock()
    journal = Journal(clock)
    for number, left in ((1, 900), (2, 400), (3, 100)):
        journal.note("migration-pass", str(number), remaining=left)
        clock.advance(1000)
    journal.note("migration", "completed", side="outgoing", old="device")
    assert list(remaining(journal)) == [(0, 900), (1000, 400), (2000, 100), (3000, 0)]
    Page.of(page({"<&'\">": journal}))


async def test_a_runaway_is_stopped() -> None:
    clock = VirtualClock()
    async with FakeQemu("-machine", "none", profile="10.0", clock=clock) as vm:

        def again() -> None:
            clock.call_later(1, again)

        again()
        with pytest.raises(TimeoutError, match="not idle after 50 timers"):
            await vm.run_until_idle(limit=50)


async def test_real_time_if_asked_for() -> None:
    src, dst = await FakeQemu.pair(profile="10.0", runner="fork", clock="real")
    await src.qmp("migrate", uri=dst.migration_uri)
    await src.wait_for("migration", "completed")
    await dst.wait_event("RESUME")
    with pytest.raises(ClockError, match="virtual clock"):
        await src.advance(1)
    await asyncio.gather(src.stop(), dst.stop())
