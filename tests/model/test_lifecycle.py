import pytest

from fakeqemu.qapi.errors import QapiError


def status(machine):
    return machine.ask("query-status")["status"]


def test_start_stop_events_come_once(start):
    machine = start("-machine", "none", "-S")
    assert status(machine) == "prelaunch"
    machine.ask("stop")
    assert machine.names() == []
    machine.ask("cont")
    machine.ask("cont")
    assert machine.names() == ["RESUME"]
    machine.ask("stop")
    machine.ask("stop")
    assert machine.names() == ["STOP"]
    assert status(machine) == "paused"


def test_reset_of_a_paused_machine_is_prelaunch_again(q35):
    q35.ask("cont")
    q35.ask("stop")
    q35.ask("system_reset")
    assert q35.names() == ["RESUME", "STOP", "RESET"]
    assert status(q35) == "prelaunch"


def test_incoming_machine_remembers_stop_and_cont(start):
    machine = start("-machine", "none", "-incoming", "defer")
    assert status(machine) == "inmigrate"
    machine.ask("stop")
    assert machine.vm.lifecycle.autostart is False
    machine.ask("cont")
    assert machine.vm.lifecycle.autostart is True
    assert status(machine) == "inmigrate"
    assert machine.names() == []


@pytest.mark.parametrize(
    ("argv", "state", "code", "events"),
    [
        (["-no-reboot"], "running", 0, ["SHUTDOWN"]),
        (["-action", "reboot=shutdown,shutdown=pause"], "shutdown", None, ["SHUTDOWN", "STOP"]),
        ([], "running", None, ["RESET"]),
    ],
)
def test_reset_follows_the_actions(start, argv, state, code, events):
    machine = start("-machine", "q35", "-S", *argv)
    machine.ask("cont")
    machine.names()
    machine.ask("system_reset")
    assert machine.names() == events
    assert status(machine) == state
    assert machine.vm.process.exit_code == code


def test_quit_ends_even_with_no_shutdown(start):
    machine = start("-machine", "none", "-no-shutdown")
    left = []
    machine.vm.process.on_exit.append(left.append)
    machine.ask("quit")
    assert machine.events[-1] == ("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
    assert left == [0]


def test_cont_needs_a_reset_after_shutdown(start):
    machine = start("-machine", "q35", "-no-shutdown")
    machine.vm.lifecycle.shutdown("guest-shutdown")
    assert machine.events[-2] == ("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})
    assert status(machine) == "shutdown"
    assert machine.error("cont")[1] == "Resetting the Virtual Machine is required"
    machine.ask("system_reset")
    machine.ask("cont")
    assert status(machine) == "running"


def test_wakeup(start):
    machine = start("-machine", "q35")
    assert machine.error("system_wakeup")[1].startswith("Unable to wake up")
    machine.vm.lifecycle.suspend()
    machine.ask("system_wakeup")
    assert machine.names()[-2:] == ["SUSPEND", "WAKEUP"]
    none = start("-machine", "none")
    assert "not supported by this guest" in none.error("system_wakeup")[1]


@pytest.mark.parametrize(
    ("panic", "state", "code", "action"),
    [
        ("pause", "guest-panicked", None, "pause"),
        ("shutdown", "guest-panicked", 0, "poweroff"),
        ("exit-failure", "guest-panicked", 1, "poweroff"),
        ("none", "running", None, "run"),
    ],
)
def test_panic(start, panic, state, code, action):
    machine = start("-machine", "q35")
    machine.ask("set-action", panic=panic)
    machine.vm.lifecycle.guest_panicked()
    assert ("GUEST_PANICKED", {"action": action}) in machine.events
    assert (status(machine), machine.vm.process.exit_code) == (state, code)


def test_suspended_guest_stays_suspended_over_stop_and_cont(start):
    machine = start("-machine", "q35", profile="10.0")
    machine.vm.lifecycle.suspend()
    machine.ask("stop")
    assert status(machine) == "paused"
    machine.ask("cont")
    assert status(machine) == "suspended"


@pytest.mark.parametrize("verb", ["panic", "watchdog"])
def test_a_guest_that_sleeps_does_nothing(start, verb):
    """A real QEMU would abort: its run state has no such way out of sleep."""
    machine = start("-machine", "q35", profile="10.0")
    machine.ask("set-action", panic="pause", watchdog="pause")
    machine.vm.lifecycle.suspend()
    before = len(machine.events)
    act = {"panic": machine.vm.lifecycle.guest_panicked,
           "watchdog": machine.vm.lifecycle.watchdog_expired}[verb]  # fmt: skip
    with pytest.raises(QapiError, match="the guest sleeps"):
        act()
    assert len(machine.events) == before
    assert status(machine) == "suspended"
    machine.ask("system_wakeup")
    act()
    assert status(machine) in ("guest-panicked", "watchdog")
