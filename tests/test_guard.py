"""Exceptions that nobody expected: in the journal, failing their owner and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.clock import VirtualClock
from fakeqemu.guard import Guard, line_of_bug
from fakeqemu.journal import Journal
from fakeqemu.qapi.errors import AbortError, NotModelledError, QapiError

INTERNAL = "internal error of fakeqemu"


class Bench:
    """A guard and what came of it."""

    def __init__(self) -> None:
        self.journal = Journal(VirtualClock())
        self.ends: list[int] = []
        self.guard = Guard(self.journal, self.ends.append)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def raising(error: BaseException) -> Any:
    def function(*_: Any) -> None:
        raise error

    return function


@pytest.mark.parametrize("kind", [KeyError, RecursionError, MemoryError, QapiError])
def test_a_bug_ends_at_the_boundary(bench: Bench, bugs: list[Any], kind: Any) -> None:
    failed: list[str] = []
    bound = bench.guard.bind(raising(kind("x")), lambda error: failed.append(error.desc))
    assert bound(1, 2) is None
    assert failed == [INTERNAL]
    (entry,) = bench.journal.of("bug", kind.__name__)
    assert "x" in entry.data["trace"]
    assert line_of_bug(entry).startswith(f"fakeqemu: internal error: {kind.__name__} at ")
    assert "\n" not in line_of_bug(entry)
    bugs.clear()


def test_what_is_not_modelled_is_no_bug_where_a_client_is_told(
    bench: Bench, bugs: list[Any]
) -> None:
    failed: list[str] = []
    raises = raising(NotModelledError("x"))
    bench.guard.call(raises, failed=lambda error: failed.append(error.desc))
    assert failed == ["fakeqemu does not model 'x'"]
    assert bench.journal.of("not-modelled", "x") and not bench.journal.of("bug")
    bench.guard.call(raises)
    assert bench.journal.of("bug", "NotModelledError")
    bugs.clear()


def test_an_owner_that_fails_at_failing_is_one_bug_more(bench: Bench, bugs: list[Any]) -> None:
    bench.guard.call(raising(KeyError("first")), failed=raising(ValueError("second")))
    assert [entry.name for entry in bench.journal.of("bug")] == ["KeyError", "ValueError"]
    bugs.clear()


def test_what_the_client_did_wrong_is_no_bug(bench: Bench) -> None:
    value, error = bench.guard.attempt(raising(QapiError("no")))
    assert (value, str(error)) == (None, "no")
    assert bench.guard.attempt(lambda: 3) == (3, None)
    assert not bench.journal.of("bug")


def test_an_abort_ends_the_process_and_is_no_bug(bench: Bench) -> None:
    bench.guard.call(raising(AbortError("assertion failed")))
    assert bench.ends == [-6]
    with pytest.raises(AbortError):
        bench.guard.attempt(raising(AbortError("assertion failed")))
    assert not bench.journal.of("bug")


def test_the_end_of_the_process_passes(bench: Bench) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench.guard.call(raising(KeyboardInterrupt()))
