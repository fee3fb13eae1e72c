"""`info pic`, `info irq` and `info lapic`; texts are those of real ones."""

from __future__ import annotations

import pytest

PICS = (
    "pic1: irr=00 imr=00 isr=00 hprio=0 irq_base=00 rr_sel=0 elcr=00 fnm=0\n"
    "pic0: irr=00 imr=00 isr=00 hprio=0 irq_base=00 rr_sel=0 elcr=00 fnm=0\n"
)
IOAPIC = "ioapic0: ver=0x20 id=0x00 sel=0x00\n"
PIN = "  pin 9  0x0000000000010000 dest=0 vec=0   active-hi edge  masked fixed  physical\n"


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
def test_registers_of_the_controllers(start, profile):
    text = start("-machine", "pc", "-S", profile=profile).hmp("info pic")
    assert text.startswith(IOAPIC)
    assert PIN in text
    assert text.endswith(f"  IRR      (none)\n  Remote IRR (none)\n{PICS}")


def test_a_board_without_io_apic(start):
    assert start("-machine", "isapc", "-S").hmp("info pic") == PICS


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        ("pc", "IRQ statistics for ioapic:\n 0: 1\nIRQ statistics for isa-i8259:\n 0: 1\n"),
        ("pc,hpet=off", "IRQ statistics for ioapic:\nIRQ statistics for isa-i8259:\n"),
        ("isapc", "IRQ statistics for isa-i8259:\n"),
        ("none", ""),
    ],
)
def test_how_often_lines_have_risen(start, machine, text):
    vm = start("-machine", machine, "-S")
    assert vm.hmp("info irq") == text
    assert vm.ask("x-query-irq")["human-readable-text"] == text


def test_a_cpus_own(start):
    vm = start("-machine", "q35", "-smp", "2", "-S")
    lines = vm.hmp("info lapic 1").split("\n")
    assert lines[:3] == [
        "dumping local APIC state for CPU 1 ",
        "",
        "LVT0\t 0x00010000 active-hi edge  masked                      Fixed  (vec 0)",
    ]
    timer = "LVTT\t 0x00010000 active-hi edge  masked         one-shot     Fixed  (vec 0)"
    assert lines[7] == timer
    assert lines[11] == "ICR2\t 0x00000000 cpu 0 (APIC ID)"
    assert vm.hmp("info lapic 7") == "No CPU available\n"


def test_cpus_without(start):
    assert start("-machine", "none").hmp("info lapic") == "No CPU available\n"
    old = start("-machine", "isapc", "-cpu", "486", "-S")
    assert old.hmp("info lapic") == "local apic state not available\n"


@pytest.mark.parametrize("command", ["info pic", "info irq", "info lapic"])
def test_what_was_programmed_is_not_known(start, command):
    vm = start("-machine", "pc", "-S")
    vm.hmp("o /b 0x21 0xff")
    said = "fakeqemu does not model 'interrupt controllers that were programmed'\n"
    assert vm.hmp(command) == said
    vm.hmp("system_reset")
    assert not vm.hmp(command).startswith("fakeqemu")
