"""Interrupt controllers of other targets: those that options ask for, for as many CPUs."""

from __future__ import annotations

import re

import pytest

from fakeqemu.qapi.errors import StartupError

ARM, RISCV = "10.0/aarch64", "10.0/riscv64"


def printed(machine, type):
    """What `info qtree` prints of each device of a type."""
    parts = re.split(r"^ *dev: ", machine.hmp("info qtree"), flags=re.M)
    return [
        [line.strip() for line in part.splitlines()[1:]]
        for part in parts
        if part.startswith(f"{type},")
    ]


def test_each_hart_has_a_controller_for_messages_of_either_mode(start):
    argv = ("-machine", "virt,aia=aplic-imsic", "-smp", "3", "-nodefaults", "-S")
    machine = start(*argv, profile=RISCV)
    types = {
        entry["name"]: entry["type"]
        for entry in machine.ask("qom-list", path="/machine/unattached")
    }
    order = [types[f"device[{number}]"] for number in range(2, 10)]
    assert order == 6 * ["child<riscv.imsic>"] + 2 * ["child<riscv.aplic>"]
    imsic = "/machine/unattached/device[4]"
    assert machine.ask("qom-get", path=imsic, property="hartid") == 2
    out = machine.ask("qom-get", path=imsic, property="unnamed-gpio-out[0]")
    assert out.startswith("/machine/soc0/harts[2]/")
    assert "mmio 0000000024002000/0000000000001000" in printed(machine, "riscv.imsic")[3]
    with pytest.raises(StartupError, match=r"riscv\.imsic of several sockets"):
        memory = [f"memory-backend-ram,id=m{node},size=64M" for node in (0, 1)]
        nodes = [("-object", each, "-numa", f"node,memdev=m{n}") for n, each in enumerate(memory)]
        start(*argv, *nodes[0], *nodes[1], profile=RISCV)


def test_lines_of_devices_lead_to_the_controller_of_machine_mode(start):
    argv = ("-machine", "virt,aia=aplic", "-smp", "3", "-nodefaults", "-S")
    supervisor, machine_mode = printed(start(*argv, profile=RISCV), "riscv.aplic")
    assert 'gpio-out "" 3' in supervisor and 'gpio-in "" 97' not in supervisor
    assert {'gpio-in "" 97', 'gpio-out "" 3', "num-harts = 3 (0x3)"} <= {*machine_mode}


@pytest.mark.parametrize(
    ("board", "cpu", "lines"),
    [
        (
            "virt,gic-version=3",
            "cortex-a57",
            ["redist-region-count = 3 (0x3)", "mmio 00000000080a0000/0000000000060000"],
        ),
        ("virt-9.0,gic-version=3", "cortex-a57", ['gpio-out "sysbus-irq" 18', "has-nmi = false"]),
        ("virt,gic-version=max", "max", ["has-nmi = true", 'gpio-in "" 352']),
    ],
)
def test_a_newer_gic_is_printed(start, board, cpu, lines):
    argv = ("-machine", board, "-cpu", cpu, "-smp", "3", "-nodefaults", "-S")
    (found,) = printed(start(*argv, profile=ARM), "arm-gicv3")
    assert {*lines} <= {*found}
