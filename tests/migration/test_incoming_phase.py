"""What the phase of a destination waits for, in which order, and what ends it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fakeqemu.migration.incoming.load_phase import load
from fakeqemu.migration.incoming.phase import (
    Closed,
    FurtherConnected,
    LoadFailedError,
    MainChannel,
    PostcopyBrokenError,
    Received,
)


class Owner:
    """Notes what the phase calls; loading ends with a byte of b"!"."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.further = SimpleNamespace(complete=True)
        self.over = self.silent_hangup = False
        self.file: Any = None

    def use_main(self, channel: str, *, reads: bool = True) -> None:
        self.calls.append(f"use {channel}{'' if reads else ', not read'}")

    def begin_load(self) -> Owner:
        self.calls.append("begin")
        return self

    def pause_postcopy(self) -> None:
        self.calls.append("pause")

    def begin_recovery(self) -> None:
        self.calls.append("recovery")

    # what it loads with
    def feed(self, data: bytes) -> None:
        self.calls.append(f"feed {data.decode()}")
        self.over = data.endswith(b"!")

    def feed_eof(self) -> None:
        if "feed postcopy" not in self.calls:
            raise LoadFailedError("too short")
        raise PostcopyBrokenError("")

    def recover(self) -> None:
        self.calls.append("recover")


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def phase(owner: Owner) -> Any:
    phase = load(owner)  # type: ignore[arg-type]
    next(phase)
    return phase


def test_loading_waits_until_all_channels_are_there(owner: Owner, phase: Any) -> None:
    owner.further.complete = False
    phase.send(MainChannel("main", b"QEVM", True))  # type: ignore[arg-type]
    phase.send(FurtherConnected())
    assert owner.calls == ["use main, not read"]
    owner.further.complete = True
    phase.send(FurtherConnected())
    assert owner.calls[1:] == ["use main", "begin", "feed QEVM"]
    with pytest.raises(StopIteration):
        phase.send(Received(b"the end!"))


def test_a_broken_postcopy_goes_on_with_the_next_channel(owner: Owner, phase: Any) -> None:
    phase.send(MainChannel("main", b"", False))  # type: ignore[arg-type]
    phase.send(Received(b"postcopy"))
    phase.send(Closed())
    assert owner.calls == ["use main", "begin", "feed postcopy", "pause"]
    phase.send(FurtherConnected())
    phase.send(MainChannel("second", b"more", False))  # type: ignore[arg-type]
    assert owner.calls[4:] == ["recovery", "recover", "use second", "feed more"]


def test_a_pipe_that_closes_without_a_byte_wakes_nobody(owner: Owner, phase: Any) -> None:
    owner.silent_hangup = True
    phase.send(MainChannel("pipe", b"", False))  # type: ignore[arg-type]
    phase.send(Closed())
    assert owner.calls == ["use pipe"]


def test_the_end_of_a_stream_that_is_too_short_is_an_error(owner: Owner, phase: Any) -> None:
    phase.send(MainChannel("main", b"QEVM", True))  # type: ignore[arg-type]
    with pytest.raises(LoadFailedError, match="too short"):
        phase.send(Closed())
