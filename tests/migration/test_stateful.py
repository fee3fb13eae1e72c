"""Random commands to a pair of machines: nothing hangs, escapes, or leaves the tables."""

from __future__ import annotations

from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fakeqemu.clock import SECOND, VirtualClock
from fakeqemu.migration.state import RUNNING
from fakeqemu.qapi.errors import NotModelledError, QapiError
from tests.support.migration import FakeHost, Vm

CAPABILITIES = (
    "postcopy-ram", "return-path", "multifd", "pause-before-switchover", "auto-converge",
    "xbzrle", "background-snapshot", "postcopy-preempt", "x-ignore-shared", "release-ram",
    "switchover-ack", "validate-uuid", "zero-copy-send", "late-block-activate",
)  # fmt: skip
SIDES = st.sampled_from(["src", "dst"])


class Pair(RuleBasedStateMachine):
    """A source and a destination of one version; every reply is checked against the schema."""

    @initialize(version=st.sampled_from(["7.2", "10.0", "11.1"]), ram=st.sampled_from([0, 64]))
    def start(self, version: str, ram: int) -> None:
        self.clock = VirtualClock()
        world: dict[str, Any] = {}
        size = ram << 20
        self.src = Vm(version, FakeHost(self.clock, world), ram=size)
        self.dst = Vm(version, FakeHost(self.clock, world), ram=size, inmigrate=True)
        for vm in (self.src, self.dst):
            vm.switch("events")
        self.src.machine.lifecycle.cont()
        self.addresses = 0
        self.listening = ""

    def ask(self, side: str, command: str, **arguments: Any) -> bool:
        """Run a command; whether it was taken."""
        try:
            getattr(self, side).command(command, **arguments)
        except NotModelledError as error:
            raise AssertionError(f"not modelled: {error}") from error
        except QapiError as error:
            assert error.desc
            return False
        return True

    # -- commands ----------------------------------------------------------------------------

    @rule(side=SIDES, name=st.sampled_from(CAPABILITIES), state=st.booleans())
    def set_capability(self, side: str, name: str, state: bool) -> None:
        vm = getattr(self, side)
        if name in vm.migration.capabilities.names:
            wanted = [{"capability": name, "state": state}]
            self.ask(side, "migrate-set-capabilities", capabilities=wanted)

    @rule(
        side=SIDES,
        name=st.sampled_from(["max_bandwidth", "max_postcopy_bandwidth", "downtime_limit"]),
        value=st.sampled_from([0, 1, 1000, 100_000, 1_000_000]),
    )
    def set_parameter(self, side: str, name: str, value: int) -> None:
        self.ask(side, "migrate-set-parameters", **{name: value})

    @rule()
    def listen(self) -> None:
        self.addresses += 1
        uri = f"unix:/m{self.addresses}"
        command = "migrate-incoming"
        if self.dst.migration.incoming.status == "postcopy-paused":
            command = "migrate-recover"
        if self.ask("dst", command, uri=uri):
            self.listening = uri

    @rule(resume=st.booleans())
    def migrate(self, resume: bool) -> None:
        if self.listening:
            self.ask("src", "migrate", uri=self.listening, resume=resume)

    @rule()
    def migrate_to_nobody(self) -> None:
        self.src.host.connect_error = "Failed to connect to '/no': Connection refused"
        self.ask("src", "migrate", uri="unix:/no")
        self.clock.advance(0)
        self.src.host.connect_error = ""

    @rule(
        side=SIDES,
        command=st.sampled_from(
            ["migrate_cancel", "migrate-start-postcopy", "migrate-pause", "query-migrate",
             "query-migrationthreads"]
        ),
    )  # fmt: skip
    def plain_command(self, side: str, command: str) -> None:
        if command in getattr(self, side).profile.schema.commands:
            self.ask(side, command)

    @rule(state=st.sampled_from(["pre-switchover", "active", "device"]))
    def go_on(self, state: str) -> None:
        self.ask("src", "migrate-continue", state=state)

    @rule(side=SIDES)
    def yank(self, side: str) -> None:
        self.ask(side, "yank", instances=[{"type": "migration"}])

    @rule(side=SIDES, stop=st.booleans())
    def stop_or_cont(self, side: str, stop: bool) -> None:
        lifecycle = getattr(self, side).machine.lifecycle
        try:
            (lifecycle.stop if stop else lifecycle.cont)()
        except QapiError as error:
            assert error.desc

    # -- the world ---------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.02, 1.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(round(seconds * SECOND))

    @rule(which=st.integers(0, 3))
    def cut(self, which: int) -> None:
        streams = self.src.host.streams
        if streams:
            streams[max(0, len(streams) - 1 - which)].break_off()
            self.clock.advance(0)

    @precondition(lambda self: self.dst.machine.process.exit_code is not None)
    @rule()
    def restart(self) -> None:
        """A destination that gave up is replaced."""
        version, size = self.dst.profile.name, self.dst.machine.state.memory.size
        host = FakeHost(self.clock, self.src.host.world)
        self.dst = Vm(version, host, ram=size, inmigrate=True)
        self.listening = ""

    # -- what always holds -------------------------------------------------------------------

    @invariant()
    def replies_fit_and_states_agree(self) -> None:
        if not hasattr(self, "src"):
            return
        for vm in (self.src, self.dst):
            vm.command("query-migrate")
            vm.command("query-status")
            vm.command("query-yank")
        source, runstate = self.src.migration.outgoing.status, self.src.machine.runstate
        if source not in RUNNING:
            assert not runstate.check("finish-migrate")
            assert self.src.migration.outgoing.channel is None
        if source in ("postcopy-active", "postcopy-paused", "device", "pre-switchover"):
            assert runstate.check("finish-migrate")

    def teardown(self) -> None:
        """Whatever happened, it comes to rest within a minute.

        No longer: a source that waits for SWITCHOVER_ACK syncs, and says so, a thousand times a
        second.
        """
        if hasattr(self, "clock"):
            self.ask("src", "migrate-set-parameters", max_bandwidth=0, max_postcopy_bandwidth=0)
            self.clock.advance(60 * SECOND)
            assert self.src.migration.outgoing.status not in ("setup", "cancelling", "failing")


TestPair = Pair.TestCase
TestPair.settings = settings(max_examples=60, stateful_step_count=40)
