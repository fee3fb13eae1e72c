"""The time model of a transfer: fixed examples, and what holds for every guest."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from fakeqemu.clock import SECOND
from fakeqemu.migration.transfer.model import PAGE, Limits, Transfer
from fakeqemu.model.guest.workload import Workload

GIB = 1 << 30


def to_convergence(transfer: Transfer, passes: int = 1000) -> int:
    """Advance from change to change; the number of them."""
    for count in range(1, passes + 1):
        change = transfer.next_change()
        assert change is not None
        transfer.advance(change)
        if transfer.converged:
            return count
    return passes


def finish(transfer: Transfer) -> None:
    transfer.stop(transfer.now)
    change = transfer.next_change()
    assert change is not None
    transfer.advance(change)
    assert transfer.phase == "done"
    assert transfer.next_change() is None


def test_idle_guest_is_through_in_one_pass() -> None:
    transfer = Transfer(Workload(), Limits(), 0)
    assert to_convergence(transfer) == 1
    assert transfer.now < SECOND // 10
    finish(transfer)
    figures = transfer.figures()
    assert figures.dirty_sync_count == 2
    assert figures.remaining == 0
    assert figures.duplicate + figures.normal >= 32768
    assert figures.transferred == figures.precopy_bytes + figures.downtime_bytes


def test_no_memory_takes_no_time() -> None:
    transfer = Transfer(Workload(ram=0, working_set=0), Limits(), 7, running=False)
    to_convergence(transfer)
    assert transfer.now - 7 <= 2_000_000
    finish(transfer)
    assert transfer.figures().transferred == Workload().device_bytes


def test_members_and_their_order() -> None:
    members = list(Transfer(Workload(), Limits(), 0).figures().ram(skipped=True))
    assert members == [
        "transferred", "remaining", "total", "duplicate", "skipped", "normal", "normal-bytes",
        "dirty-pages-rate", "mbps", "dirty-sync-count", "postcopy-requests", "page-size",
        "multifd-bytes", "pages-per-second", "precopy-bytes", "downtime-bytes", "postcopy-bytes",
        "dirty-sync-missed-zero-copy",
    ]
    assert "skipped" not in Transfer(Workload(), Limits(), 0).figures().ram()


def test_more_bandwidth_at_once() -> None:
    transfer = Transfer(Workload(ram=2 * GIB), Limits(max_bandwidth=1000), 0)
    transfer.advance(5 * SECOND)
    assert transfer.figures().transferred == 5000
    slow = transfer.next_change()
    assert slow is not None and slow > 3600 * SECOND
    transfer.set_limits(transfer.now, replace(transfer.limits, max_bandwidth=0))
    quick = transfer.next_change()
    assert quick is not None and quick < 7 * SECOND
    to_convergence(transfer)
    finish(transfer)


def busy(**members: int) -> Workload:
    return Workload(**{"ram": 4 * GIB, "zero_permille": 0, "dirty_rate": 200 << 20,
                       "working_set": 2 * GIB, **members})


def test_a_guest_faster_than_its_link_never_converges() -> None:
    transfer = Transfer(busy(), Limits(), 0)
    assert to_convergence(transfer, 50) == 50
    assert transfer.expected_downtime > 300
    assert transfer.figures().dirty_pages_rate > 0


def test_what_is_sent_while_the_guest_stands_still_is_downtime() -> None:
    transfer = Transfer(Workload(content=50 * 4096), Limits(), 0, running=False)
    to_convergence(transfer)
    figures = transfer.figures()
    assert (figures.normal, figures.precopy_bytes) == (50, 0)
    assert figures.downtime_bytes == figures.transferred > 50 * 4096


def test_a_longer_downtime_lets_it_through_at_once() -> None:
    transfer = Transfer(busy(), Limits(), 0)
    to_convergence(transfer, 5)
    assert not transfer.converged
    transfer.set_limits(transfer.now, replace(transfer.limits, downtime_limit=60_000))
    assert to_convergence(transfer, 5) == 1


def test_auto_converge_slows_the_guest_until_it_fits() -> None:
    transfer = Transfer(busy(), Limits(auto_converge=True), 0)
    seen = []
    while not transfer.converged:
        change = transfer.next_change()
        assert change is not None
        transfer.advance(change)
        if not seen or seen[-1] != transfer.throttle.percentage:
            seen.append(transfer.throttle.percentage)
    assert seen[:4] == [0, 20, 30, 40]
    assert seen[-1] <= 99
    finish(transfer)
    assert transfer.throttle.percentage == 0


def test_throttle_has_a_limit_and_small_steps() -> None:
    limits = Limits(auto_converge=True, max_cpu_throttle=35, cpu_throttle_increment=50)
    transfer = Transfer(busy(dirty_rate=2 * GIB), limits, 0)
    to_convergence(transfer, 60)
    assert transfer.throttle.percentage == 35
    slow = replace(limits, cpu_throttle_tailslow=True, max_cpu_throttle=99)
    gentle = Transfer(busy(dirty_rate=300 << 20), slow, 0)
    to_convergence(gentle, 8)
    assert 20 <= gentle.throttle.percentage < 99


def test_dirty_limit() -> None:
    transfer = Transfer(busy(), Limits(dirty_limit=True, vcpu_dirty_limit=10), 0)
    to_convergence(transfer, 60)
    assert transfer.throttle.dirty_limited
    assert transfer.dirty_rate == 10 << 20
    assert transfer.converged


def test_paused_guest_writes_nothing() -> None:
    transfer = Transfer(busy(), Limits(), 0)
    transfer.set_running(SECOND, False)
    to_convergence(transfer, 10)
    dirty = transfer.dirty_pages
    transfer.advance(transfer.now + 10 * SECOND)
    assert transfer.dirty_pages == dirty or transfer.dirty_pages == 0


def test_postcopy_sends_the_rest_and_no_more() -> None:
    transfer = Transfer(busy(), Limits(max_bandwidth=1000), 0)
    transfer.advance(SECOND)
    transfer.start_postcopy(transfer.now)
    left = transfer.remaining
    change = transfer.next_change()
    assert change is not None
    transfer.advance(change)
    figures = transfer.figures()
    assert transfer.phase == "done"
    assert figures.postcopy_bytes == left // PAGE * (PAGE + 8)
    assert figures.postcopy_requests == left // PAGE * 20 // 1000


def test_halted_transfer_waits() -> None:
    transfer = Transfer(busy(), Limits(), 0)
    transfer.start_postcopy(SECOND)
    transfer.set_halted(2 * SECOND, True)
    assert transfer.next_change() is None
    before = transfer.figures().transferred
    transfer.advance(100 * SECOND)
    assert transfer.figures().transferred == before
    transfer.set_halted(100 * SECOND, False)
    assert transfer.next_change() is not None


def test_multifd_bytes() -> None:
    transfer = Transfer(Workload(), Limits(multifd=True), 0)
    to_convergence(transfer)
    figures = transfer.figures()
    assert figures.multifd_bytes > 0
    assert figures.precopy_bytes == 0


def test_a_huge_guest_costs_no_more_than_a_small_one() -> None:
    guest = Workload(ram=4 << 40, zero_permille=100, dirty_rate=90 << 20, working_set=1 << 40)
    tracemalloc.start()
    transfer = Transfer(guest, Limits(downtime_limit=10), 0)
    passes = to_convergence(transfer, 30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert passes == 30
    assert peak < 1 << 20


def test_a_month_of_not_converging_is_jumped_over() -> None:
    transfer = Transfer(busy(), Limits(auto_converge=True, max_cpu_throttle=20), 0)
    transfer.advance(30 * 86400 * SECOND)
    assert transfer.now == 30 * 86400 * SECOND
    assert transfer.dirty_sync_count > 1000
    sent = transfer.figures().transferred
    assert sent == pytest.approx(30 * 86400 * (128 << 20), rel=0.01)


@pytest.mark.parametrize("bad", [{"ram": -1}, {"zero_permille": 1001}, {"scan": 0}])
def test_impossible_guests(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"0|negative|least"):
        Workload(**bad)


GUESTS = st.builds(
    Workload,
    ram=st.integers(0, 1 << 34),
    zero_permille=st.integers(0, 1000),
    dirty_rate=st.integers(0, 1 << 32),
    working_set=st.none() | st.integers(0, 1 << 34),
    link=st.integers(1, 1 << 36),
    scan=st.integers(1, 1 << 24),
)
LIMITS = st.builds(
    Limits,
    max_bandwidth=st.integers(0, 1 << 34),
    max_postcopy_bandwidth=st.integers(0, 1 << 34),
    downtime_limit=st.integers(0, 2_000_000),
    auto_converge=st.booleans(),
    dirty_limit=st.booleans(),
    cpu_throttle_tailslow=st.booleans(),
    multifd=st.booleans(),
)
TIMES = st.lists(st.integers(0, 20 * SECOND), min_size=1, max_size=6)


def check(transfer: Transfer) -> None:
    figures = transfer.figures()
    assert 0 <= figures.remaining <= transfer.workload.pages * PAGE
    assert figures.total == transfer.workload.ram
    parts = figures.precopy_bytes + figures.multifd_bytes
    assert figures.transferred == parts + figures.downtime_bytes + figures.postcopy_bytes
    assert 0 <= transfer.throttle.percentage <= max(transfer.limits.max_cpu_throttle, 0)
    assert min(figures.ram(skipped=True).values()) >= 0
    change = transfer.next_change()
    assert change is None or change >= transfer.now


@settings(max_examples=150)
@given(GUESTS, LIMITS, TIMES, st.booleans())
def test_amounts_only_grow_and_add_up(
    guest: Workload, limits: Limits, times: list[int], running: bool
) -> None:
    transfer = Transfer(guest, limits, 0, running)
    before = transfer.figures()
    for time in times:
        transfer.advance(transfer.now + time)
        check(transfer)
        after = transfer.figures()
        for name in ("transferred", "duplicate", "normal", "dirty_sync_count", "multifd_bytes"):
            assert getattr(after, name) >= getattr(before, name), name
        before = after
    transfer.stop(transfer.now)
    while (change := transfer.next_change()) is not None:
        transfer.advance(change)
        check(transfer)
    assert transfer.phase == "done"
    assert transfer.remaining == 0


@settings(max_examples=150)
@given(GUESTS, LIMITS, TIMES)
def test_looking_often_changes_nothing(guest: Workload, limits: Limits, times: list[int]) -> None:
    # no jumps: they count passes that are alike by the dozen
    guest = replace(guest, sync_time=SECOND // 10)
    once, often = Transfer(guest, limits, 0), Transfer(guest, limits, 0)
    for time in times:
        often.advance(often.now + time)
        often.figures()
    once.advance(often.now)
    left, right = once.figures(), often.figures()
    for name in ("transferred", "remaining", "duplicate", "normal", "dirty_sync_count"):
        assert getattr(left, name) == getattr(right, name), name
    assert once.throttle.percentage == often.throttle.percentage
    assert once.next_change() == often.next_change()


@settings(max_examples=100)
@given(GUESTS, LIMITS, st.integers(0, 30 * SECOND))
def test_postcopy_always_ends(guest: Workload, limits: Limits, when: int) -> None:
    transfer = Transfer(guest, limits, 0)
    transfer.advance(when)
    transfer.start_postcopy(when)
    change = transfer.next_change()
    assert change is not None
    transfer.advance(change)
    assert transfer.phase == "done"
    check(transfer)
