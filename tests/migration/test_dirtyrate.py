"""calc-dirty-rate: its bounds, its time, what it finds."""

from __future__ import annotations

import pytest

from fakeqemu.clock import MILLISECOND, SECOND
from fakeqemu.commands.hmp.registry import run_hmp
from fakeqemu.model.guest.workload import Workload
from fakeqemu.qapi.errors import QapiError


@pytest.mark.parametrize(
    ("version", "arguments", "text"),
    [
        ("7.2", {"calc-time": 61}, "calc-time is out of range[1, 60]."),
        ("10.0", {"calc-time": 61}, "Calculation time is out of range [50ms, 60000ms]."),
        (
            "11.1",
            {"calc-time": 49, "calc-time-unit": "millisecond"},
            "Calculation time is out of range [50ms, 60000ms].",
        ),
        (
            "11.1",
            {"calc-time": 1, "sample-pages": 127},
            "sample-pages is out of range[128, 16384].",
        ),
        (
            "11.1",
            {"calc-time": 1, "sample-pages": 1, "mode": "dirty-bitmap"},
            "sample-pages is used only in page-sampling mode",
        ),
        (
            "7.2",
            {"calc-time": 1, "sample-pages": 1, "mode": "dirty-ring"},
            "either sample-pages or dirty-ring can be specified.",
        ),
        (
            "10.0",
            {"calc-time": 1, "mode": "dirty-ring"},
            "mode dirty-ring is not enabled, use other method instead.",
        ),
    ],
)
def test_refusals(make, version, arguments, text):
    with pytest.raises(QapiError) as caught:
        make(version).command("calc-dirty-rate", **arguments)
    assert caught.value.desc == text


def test_a_measurement_takes_its_time(make):
    vm = make("11.1")
    unit = {"calc-time-unit": "millisecond"}
    vm.command("calc-dirty-rate", **{"calc-time": 100, **unit})
    with pytest.raises(QapiError, match="the dirty rate is already being measured"):
        vm.command("calc-dirty-rate", **{"calc-time": 1})
    vm.machine.clock.advance(100 * MILLISECOND - 1)
    measuring = vm.command("query-dirty-rate", **unit)
    assert (measuring["status"], measuring["calc-time"]) == ("measuring", 100)
    assert "dirty-rate" not in measuring
    vm.machine.clock.advance(1)
    measured = vm.command("query-dirty-rate")
    assert (measured["status"], measured["dirty-rate"]) == ("measured", 0)
    # less than a second
    assert (measured["calc-time"], measured["sample-pages"]) == (0, 512)


def test_what_the_guest_dirties_is_measured(make):
    vm = make("11.1")
    vm.machine.guest_workload = Workload(dirty_rate=50 << 20)
    vm.machine.runstate.set("running")
    vm.command("calc-dirty-rate", **{"calc-time": 1})
    vm.machine.clock.advance(SECOND)
    assert vm.command("query-dirty-rate")["dirty-rate"] == 50


def test_7_2_has_no_units_and_counts_from_its_own_start(make):
    vm = make("7.2")
    vm.machine.clock.advance(7 * SECOND)
    vm.command("calc-dirty-rate", **{"calc-time": 1})
    info = vm.command("query-dirty-rate")
    assert info["start-time"] == 7
    assert "calc-time-unit" not in info


def test_the_human_monitor(make):
    vm = make("11.1").machine
    assert run_hmp(vm, None, "calc_dirty_rate 0") == "Incorrect period length specified!\n"
    both = "Either dirty ring or dirty bitmap can be specified!\n"
    assert run_hmp(vm, None, "calc_dirty_rate -r -b 1") == both
    assert "with period 1 seconds" in run_hmp(vm, None, "calc_dirty_rate -b 1")
    vm.clock.advance(SECOND)
    shown = run_hmp(vm, None, "info dirty_rate").splitlines()
    assert shown[0] == "Status: measured"
    assert shown[2:] == ["Period: 1 (sec)", "Mode: dirty-bitmap", "Dirty rate: 0 (MB/s)"]
    assert run_hmp(vm, None, "set_vcpu_dirty_limit -1") == (
        "Error: invalid dirty page limit -1\n"
    )
