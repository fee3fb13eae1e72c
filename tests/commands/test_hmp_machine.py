"""The human monitor about CPUs, devices and what a guestless machine has not, by version."""

import pytest

from fakeqemu.model.boards.x86_registers import CR0_PG
from tests.support.machines import Booted

VERSIONS = ("7.2", "10.0", "11.1")


def machine(version, *options):
    return Booted("-machine", "q35", "-S", *options, profile=version)


@pytest.mark.parametrize(
    ("version", "lines"),
    [
        ("7.2", {"$pc": "0xfffffff0", "$eip": "0xfff0", "$cs.base": "0xffff0000"}),
        ("10.0", {"$pc+1": "0xfffffff1", "$es.base": "0", "$cs.limit": "0xffff", "$fp": "0"}),
        ("11.1", {"$pc": "0xfffffffffffffff0", "$rip": "0xfff0", "$cr0": "0x60000010"}),
    ],
)
def test_registers_in_expressions(version, lines):
    vm = machine(version)
    for expression, value in lines.items():
        assert vm.hmp(f"print {expression}") == f"{value}\n"
    unknown = 'unknown register\nTry "help print" for more information\n'
    other = "$rax" if version != "11.1" else "$eax"
    assert vm.hmp(f"print {other}") == unknown
    assert vm.hmp("print $nosuch") == unknown


def test_registers_are_those_that_were_written():
    vm = machine("10.0")
    vm.vm.cpus.registers(vm.vm.cpus.get(0)).general[0] = 0x1234
    assert vm.hmp("print ($eax & 0xff) * 2") == "0x68\n"
    assert Booted("-machine", "none").hmp("print $pc").startswith("unknown register\n")


@pytest.mark.parametrize("version", VERSIONS)
def test_memory_of_a_cpu_that_does_not_page(version):
    vm = machine(version)
    assert vm.hmp("info mem") == vm.hmp("info tlb") == "PG disabled\n"
    assert vm.hmp("gva2gpa 0") == ("gpa: 0x0\n" if version == "11.1" else "gpa: 0\n")
    vm.vm.cpus.registers(vm.vm.cpus.get(0)).cr0 |= CR0_PG
    assert vm.hmp("info mem") == "fakeqemu does not model 'info mem of a CPU that pages'\n"
    assert Booted("-machine", "none", profile=version).hmp("info tlb") == "No CPU available\n"


def test_firmware_is_told_from_what_to_boot():
    vm = machine("10.0")

    def cmos(register):
        vm.hmp(f"o /b 0x70 {register}")
        return vm.hmp("i /b 0x71").split(" = ")[1]

    assert cmos(0x3D) == "0x12\n"  # disk, floppy
    assert vm.hmp("boot_set nc") == "boot device list now set to nc\n"
    assert cmos(0x3D) == "0x24\n"
    refused = {
        "q": "Invalid boot device 'q'",
        "cc": "Boot device 'c' was given twice",
        "abcd": "Too many boot devices for PC",
        "ce": "Invalid boot device for PC: 'e'",
    }
    for order, text in refused.items():
        assert vm.hmp(f"boot_set {order}") == f"{text}\n"
    assert cmos(0x3D) == "0x24\n"
    none = Booted("-machine", "none").hmp("boot_set c")
    assert none == "no function defined to set boot device list for this architecture\n"


def test_the_order_is_kept_for_a_clock_that_nobody_has_looked_at():
    vm = machine("10.0")
    vm.hmp("boot_set nc")
    vm.hmp("o /b 0x70 0x3d")
    assert vm.hmp("i /b 0x71").endswith(" = 0x24\n")


@pytest.mark.parametrize("version", VERSIONS)
def test_log(version):
    vm = machine(version)
    assert vm.hmp("log int,guest_errors") == vm.hmp("log none") == ""
    assert vm.hmp("log nope") == vm.hmp("help log")
    assert vm.hmp("log all") == "Filename template with '%d' required for 'tid'\n"
    event = "memory_region_ops_read"
    assert vm.hmp(f"info trace-events {event}") == f"{event} : state 0\n"
    assert vm.hmp(f"log trace:{event},trace:nosuch") == (
        "warning: trace event 'nosuch' does not exist\n"
    )
    assert vm.hmp(f"info trace-events {event}") == f"{event} : state 1\n"


def test_single_instructions():
    vm = machine("10.0")
    assert vm.hmp("one-insn-per-tb on") == vm.hmp("one-insn-per-tb") == ""
    assert vm.hmp("one-insn-per-tb x") == "unexpected option x\n"
    assert "single" not in vm.hmp("info status")


def test_virtio_devices_in_each_versions_order():
    options = (
        *("-device", "virtio-rng-pci,id=r", "-device", "virtio-balloon-pci,id=bal0"),
        *("-device", "virtio-keyboard-pci"),
    )
    rng, balloon, keyboard = (
        "/machine/peripheral/r/virtio-backend [virtio-rng]",
        "/machine/peripheral/bal0/virtio-backend [virtio-balloon]",
        "/machine/peripheral-anon/device[0]/virtio-backend [virtio-input]",
    )
    old, new = machine("7.2", *options), machine("10.0", *options)
    assert old.hmp("info virtio").splitlines() == [keyboard, balloon, rng]
    assert sorted(new.hmp("info virtio").splitlines()) == sorted([keyboard, balloon, rng])
    lines = [f"{each['path']} [{each['name']}]" for each in new.ask("x-query-virtio")]
    assert lines == new.hmp("info virtio").splitlines()


def test_no_virtio_device():
    old, new = machine("7.2"), machine("10.0")
    assert old.ask("x-query-virtio") == []
    assert old.hmp("info virtio") == "No VirtIO devices\n"
    assert new.hmp("info virtio") == "Error: No virtio devices found\n"
    assert new.hmp("info virtio-status x") == "Error: Path x is not a realized VirtIODevice\n"
    queue = old.hmp("info virtio-queue-status /machine 0")
    assert queue == "Error: Path /machine is not a VirtIODevice\n"


def test_cryptographic_backends():
    vm = machine("10.0")
    assert vm.hmp("info cryptodev") == ""
    vm.ask("object-add", **{"qom-type": "cryptodev-backend-builtin", "id": "cb"})
    assert vm.hmp("info cryptodev") == (
        "cb: service=[mac|hash|cipher]\n    queue 0: type=builtin\n"
    )
    client = [{"queue": 0, "type": "builtin"}]
    services = ["mac", "hash", "cipher"]
    found = vm.ask("query-cryptodev")
    assert found == [{"id": "cb", "service": services, "client": client}]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_never_there(version):
    vm = machine(version)
    lines = {
        "info replay": "Record/replay is not active",
        "replay_break 1": "setting the breakpoint is allowed only in play mode",
        "replay_delete_break": "replay breakpoints are allowed only in play mode",
        "replay_seek 1": "replay must be enabled to seek",
        "info sgx": "No EPC regions defined, SGX not available",
        "info sev": "SEV is not enabled",
        "info stats x": "invalid stats target x",
        "info stats vm * x": "invalid stats provider x",
    }
    for line, text in lines.items():
        assert vm.hmp(line) == f"{text}\n"
    assert vm.hmp("info stats vm") == ""
    deprecated = version == "11.1"
    for line in ("info capture", "stopcapture 0"):
        name = line.removesuffix(" 0")
        warning = f"warning: '{name}' is deprecated since v10.2, to be removed\n"
        assert vm.hmp(line) == (warning if deprecated else "")
    assert vm.hmp("dumpdtb x").startswith("Error: This machine doesn't have a")
    assert vm.hmp("dumpdtb x").count("\n") == (1 if version == "7.2" else 2)


def test_locks_that_nobody_waits_for():
    vm = machine("10.0")
    head, *rest = vm.hmp("info sync-profile -m 3").splitlines()
    assert head.startswith("Type               Object  Call site")
    assert rest == ["-" * len(head)] * 2
    vm.hmp("sync-profile on")
    assert vm.hmp("info sync-profile").startswith("fakeqemu does not model")


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("7.2", ["objects", "machine", "chardevs"]),
        ("10.0", ["backend", "machine", "objects", "chardevs"]),
        ("11.1", ["backend", "machine", "objects", "chardevs", "audiodevs"]),
    ],
)
def test_the_tree_is_listed_as_it_was_made(version, names):
    found = machine(version).ask("qom-list", path="/")
    assert [each["name"] for each in found] == ["type", *names]


def test_zero_is_printed_without_prefix():
    vm = machine("10.0")
    assert [vm.hmp(f"print/{format} 0") for format in "xodu"] == ["0\n"] * 4
    assert vm.hmp("print/x 10") == "0xa\n"


#: of the second CPU, as 7.2 to 11.1 print it
RESET = """
CPU#1
EAX=00000000 EBX=00000000 ECX=00000000 EDX=00060fb1
ESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000
EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1
ES =0000 00000000 0000ffff 00009300
CS =f000 ffff0000 0000ffff 00009b00
SS =0000 00000000 0000ffff 00009300
DS =0000 00000000 0000ffff 00009300
FS =0000 00000000 0000ffff 00009300
GS =0000 00000000 0000ffff 00009300
LDT=0000 00000000 0000ffff 00008200
TR =0000 00000000 0000ffff 00008b00
GDT=     00000000 0000ffff
IDT=     00000000 0000ffff
CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000
DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000 
DR6=00000000ffff0ff0 DR7=0000000000000400
EFER=0000000000000000
FCW=037f FSW=0000 [ST=0] FTW=00 MXCSR=00001f80
FPR0=0000000000000000 0000 FPR1=0000000000000000 0000
FPR2=0000000000000000 0000 FPR3=0000000000000000 0000
FPR4=0000000000000000 0000 FPR5=0000000000000000 0000
FPR6=0000000000000000 0000 FPR7=0000000000000000 0000
XMM00=0000000000000000 0000000000000000 XMM01=0000000000000000 0000000000000000
XMM02=0000000000000000 0000000000000000 XMM03=0000000000000000 0000000000000000
XMM04=0000000000000000 0000000000000000 XMM05=0000000000000000 0000000000000000
XMM06=0000000000000000 0000000000000000 XMM07=0000000000000000 0000000000000000
"""  # noqa: W291


@pytest.mark.parametrize("version", VERSIONS)
def test_registers_after_a_reset(version):
    vm = machine(version, "-smp", "2")
    assert vm.hmp("info registers 1") == RESET
    first = RESET.replace("CPU#1", "CPU#0").replace("HLT=1", "HLT=0")
    assert vm.hmp("info registers") == first
    assert vm.hmp("info registers -a") == first + RESET
    assert vm.hmp("cpu 1") == ""
    assert vm.hmp("info registers") == RESET
    assert vm.hmp("info registers 2") == "CPU#2 not available\n"
    none = Booted("-machine", "none", profile=version)
    assert none.hmp("info registers") == "No CPU available\n"


def test_registers_that_were_written():
    vm = machine("10.0")
    held = vm.vm.cpus.registers(vm.vm.cpus.get(0))
    held.flags, held.cr0 = 0xC95, 0x6000_0011
    held.segments["cs"].flags = 0xC0FB00
    held.segments["ss"].flags = 0xC0F300
    held.fpu[1] = bytes.fromhex("01020304050607080910")
    held.xmm[0] = bytes(range(16))
    shown = vm.hmp("info registers")
    assert "EFL=00000c95 [DOSZAPC] CPL=3" not in shown  # zero is not set
    assert "EFL=00000c95 [DOS-APC] CPL=3" in shown
    assert "CS =f000 ffff0000 0000ffff 00c0fb00 DPL=3 CS32 [-RA]\n" in shown
    assert "SS =0000 00000000 0000ffff 00c0f300 DPL=3 DS   [-WA]\n" in shown
    assert "TR =0000 00000000 0000ffff 00008b00 DPL=0 TSS32-busy\n" in shown
    assert "FPR1=0807060504030201 1009\n" in shown
    assert "XMM00=0f0e0d0c0b0a0908 0706050403020100 " in shown
    held.efer, held.segments["cs"].flags = 0x500, 0x20FB00
    shown = vm.hmp("info registers")
    assert "RIP=000000000000fff0 RFL=00000c95" in shown
    assert "R8 =0000000000000000 R9 =0000000000000000" in shown
    assert "DPL=3 CS64 [-RA]\n" in shown
    assert "XMM15=" in shown


def test_commands_of_other_targets_are_said_to_come_too_early(start):
    """As the human monitor of 11.1, which has those of all targets."""
    machine = start("-machine", "q35")
    early = "Command 'info skeys' not available until machine initialization has completed.\n"
    assert machine.hmp("info skeys 1") == early
    assert "unknown command" in start("-machine", "q35", profile="10.0").hmp("info skeys")


def test_zeros_are_shown_as_the_instructions_of_a_cpu_that_was_reset(start):
    machine = start("-machine", "pc", "-m", "8", "-S")
    add = "00 00                    addb     %al, (%bx, %si)\n"
    assert machine.hmp("x /2i 0") == f"0x00000000:  {add}0x00000002:  {add}"
    assert machine.hmp("xp /1i 0x7fffffff") == "0x7fffffff: unable to read memory\n"
    machine.vm.guest_memory.write(0x100, b"\x90")
    assert "does not model" in machine.hmp("x /1i 0x100")
    assert "does not model" in machine.hmp("x /1i 0xffff0")
