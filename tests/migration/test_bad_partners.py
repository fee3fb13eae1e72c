"""Partners that lie, stall or go away at any byte: a state of QEMU's and a text, nothing else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings, strategies as st

from fakeqemu.clock import SECOND, VirtualClock
from fakeqemu.formats.migration_stream.channels import return_path as returnpath
from fakeqemu.model.block.graph import dirty_bitmaps as bitmaps
from fakeqemu.model.block.graph.open import open_node
from tests.support.migration import FakeHost, Vm

VERSIONS = ("7.2", "10.0", "11.1")
NAMES = {
    "plain": (),
    "return-path": ("return-path",),
    "multifd": ("multifd",),
    "postcopy": ("postcopy-ram",),
    "bitmaps": ("dirty-bitmaps",),
    "preempt": ("postcopy-ram", "postcopy-preempt"),
}
#: kinds that need memory and switch to postcopy
POSTCOPY = ("postcopy", "preempt")


class Pair:
    """A source and a destination, whose connection breaks where it is told to.

    They have no memory, except for postcopy, which is only entered with some of it left.
    """

    def __init__(self, version: str, kind: str, **cuts: list) -> None:
        self.clock = VirtualClock()
        world: dict = {}
        ram = 16 << 20 if kind in POSTCOPY else 0
        self.dst = Vm(version, FakeHost(self.clock, world), inmigrate=True, ram=ram)
        self.src = Vm(version, FakeHost(self.clock, world, **cuts), ram=ram)
        self._kind = kind
        for vm in (self.src, self.dst):
            if NAMES[kind]:
                vm.switch(*NAMES[kind])
        if kind == "bitmaps":
            self._add_bitmap()
        self.dst.command("migrate-incoming", uri="unix:/m", **self._exit(version))
        self.src.machine.lifecycle.cont()

    @staticmethod
    def _exit(version: str) -> dict:
        return {} if version == "7.2" else {"exit_on_error": False}

    def _add_bitmap(self) -> None:
        for vm in (self.src, self.dst):
            options = {"driver": "null-co", "node-name": "n0", "size": 1 << 30, "read-zeroes": True}
            open_node(vm.machine.block.graph, options)
        bitmap = bitmaps.add(self.src.machine.block.graph, "n0", "b0", granularity=1 << 20)
        bitmap.add(1 << 29, 1)

    def migrate(self) -> None:
        if self._kind in POSTCOPY:
            self.src.set(max_bandwidth=1000)
        self.src.command("migrate", uri="unix:/m")
        if self._kind in POSTCOPY:
            self.clock.advance(SECOND)
            self.src.command("migrate-start-postcopy")
        self.clock.run_until_idle(10_000)

    def check(self) -> None:
        """Both are in a state that makes sense, with words where something failed."""
        source, destination = self.src.command("query-migrate"), self.dst.command("query-migrate")
        assert source["status"] in ("completed", "failed", "postcopy-paused")
        runstate = self.src.machine.runstate.current
        expected = {"completed": "postmigrate", "failed": "running"}
        assert runstate == expected.get(source["status"], "finish-migrate")
        if source["status"] == "failed" and self.src.profile.traits.error_shown_always:
            assert source["error-desc"]
        status = destination.get("status")
        assert status in (None, "setup", "completed", "failed", "postcopy-paused")
        if status == "failed":
            assert self.dst.machine.runstate.current == "inmigrate"
            traits, sent = self.dst.profile.traits, self.src.host.streams[0].written
            if traits.incoming_first_bytes_checked and len(sent) < 4:
                # what never showed to be a channel leaves nothing behind but a line
                assert self.dst.host.warnings == ["Failed to peek at channel"]
                return
            assert self.dst.migration.incoming.error.startswith("load of migration failed: ")
            if self.dst.profile.traits.error_shown_always:
                assert destination["error-desc"].startswith("load of migration failed: ")


def lengths(version: str, kind: str) -> list[int]:
    """Bytes on each connection of a whole migration; those of the return path last."""
    both = Pair(version, kind)
    both.migrate()
    assert (both.src.status, both.dst.status) == ("completed", "completed")
    assert (kind in POSTCOPY) == (both.src.command("query-migrate")["ram"]["postcopy-bytes"] > 0)
    streams = both.src.host.streams
    return [*(len(stream.written) for stream in streams), len(streams[0].peer.written)]


def main_channel(version: str, kind: str) -> tuple[int, int]:
    """Bytes of a whole stream up to the description that may follow it, and with it."""
    both = Pair(version, kind)
    both.migrate()
    written = both.src.host.streams[0].written
    end = written.rfind(b"\0\6")
    return (end + 6 if end > 0 else len(written)), len(written)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["plain", "return-path", "postcopy", "bitmaps"])
def test_a_connection_that_breaks_at_any_byte(version, kind):
    end, whole = main_channel(version, kind)
    for at in range(whole):
        both = Pair(version, kind, cuts=[at])
        both.migrate()
        both.check()
        assert both.dst.status != "completed" or at >= end - 6


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["return-path", "postcopy"])
def test_a_way_back_that_breaks_at_any_byte(version, kind):
    for at in range(lengths(version, kind)[-1]):
        both = Pair(version, kind, answer_cuts=[at])
        both.migrate()
        both.check()
        assert both.src.status != "completed"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("kind", "step"), [("multifd", 7), ("preempt", 1)])
def test_a_further_channel_that_breaks(version, kind, step):
    *channels, _ = lengths(version, kind)
    assert len(channels) > 1
    for number in range(1, len(channels)):
        for at in range(0, channels[number], step):
            cuts: list = [None] * len(channels)
            cuts[number] = at
            both = Pair(version, kind, cuts=cuts)
            both.migrate()
            both.check()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_partner_that_stalls_is_waited_for_as_long_as_one_likes(version):
    both = Pair(version, "return-path")
    both.src.command("migrate", uri="unix:/m")
    both.clock.jump()
    both.src.host.streams[0].peer.on_data = None
    both.clock.advance(3600 * SECOND)
    assert both.src.status in ("active", "device")
    both.src.command("migrate_cancel")
    both.clock.run_until_idle(1000)
    assert both.src.status == "cancelled"
    assert both.src.machine.runstate.running


@settings(max_examples=60)
@given(
    version=st.sampled_from(VERSIONS),
    kind=st.sampled_from(sorted(NAMES)),
    seed=st.integers(0, 1 << 30),
)
def test_flipped_bytes_never_do_more_than_fail(version, kind, seed):
    chance = random.Random(seed)
    both = Pair(version, kind)
    both.src.command("migrate", uri="unix:/m")
    both.clock.jump()
    streams = both.src.host.streams
    for stream in [*streams, *(each.peer for each in streams)]:
        deliver = None if stream is None else stream.on_data
        if deliver is None:
            continue

        def flip(data, deliver=deliver):
            spoilt = bytearray(data)
            spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
            deliver(bytes(spoilt))

        stream.on_data = flip
    both.clock.run_until_idle(10_000)
    for vm in (both.src, both.dst):
        vm.command("query-migrate")
        vm.command("query-status")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"\0\x63\0\0", "Received invalid message 0x0063 length 0x0000"),
        (b"\0\2\0\1\0",
         "Received 'PONG' message (0x0002) withincorrect length 1 expecting 4"),
        (returnpath.shut(7), "Sibling indicated error 7"),
    ],
)  # fmt: skip
def test_a_destination_that_answers_nonsense(make, clock, version, answer, text):
    vm = make(version, machine_type="q35")
    vm.switch("return-path")
    vm.machine.lifecycle.cont()
    vm.set(max_bandwidth=1000)
    vm.command("migrate", uri="unix:/m")
    clock.advance(SECOND)
    vm.host.streams[0].on_data(answer)
    vm.set(max_bandwidth=0)
    clock.run_until_idle()
    assert vm.machine.runstate.running
    info = vm.command("query-migrate")
    assert info["status"] == "failed"
    if version == "7.2":
        assert vm.host.warnings[0] == f"RP: {text}"
    else:
        assert info["error-desc"] == text


@pytest.mark.parametrize("version", VERSIONS)
def test_garbage_on_a_multifd_channel(make, clock, version):
    dst = make(version, inmigrate=True)
    dst.switch("multifd")
    dst.command("migrate-incoming", uri="unix:/m")
    accept = dst.host.world["/m"]
    from tests.support.migration import FakeStream

    channel = FakeStream(clock)
    accept(channel)
    channel.on_data(b"\x11\x22\x33\x44" + b"\xff" * 60)
    assert dst.machine.process.exit_code in (None, 1)
