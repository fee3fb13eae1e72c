"""Files that options name, logs and trace events: what QEMU says of each, beside a real QEMU."""

from __future__ import annotations

import asyncio
import io
import os
import shlex
from pathlib import Path

import pytest

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.error_report import EarlyExit
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import VirtualClock
from fakeqemu.commands.hmp.registry import run_hmp
from fakeqemu.io.host import OsHost
from fakeqemu.io.loop import Loop
from fakeqemu.io.process.error_prefix import report, write_lines
from fakeqemu.model.machine import Machine
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import StartupError

USAGE = "Log items"
EVENTS = "# comment\nqmp_job_*\nnosuch\n\n-blk_co_preadv\nbad\n"
FILES = {
    "one": b"x", "k20": bytes(20000), "k64": bytes(65536), "events": EVENTS.encode(),
    "jpg": b"\xff\xd8" + bytes(40),
}  # fmt: skip
#: machine type, further options, and what a 7.2 prints about them ("" where it says nothing)
CASES = [
    # with machine type pc
    ("pc", "-fw_cfg name=opt/a,file=/nosuch",
     "QEMU: -fw_cfg name=opt/a,file=/nosuch: can't load /nosuch: Failed to open "
     "file “/nosuch”: No such file or directory"),
    ("pc", "-fw_cfg name=opt/a,file=.",
     "QEMU: -fw_cfg name=opt/a,file=.: can't load .: Error reading file “.”: Is "
     "a directory"),
    ("pc", "-fw_cfg name=opt/a,gen_id=nosuch",
     "QEMU: -fw_cfg name=opt/a,gen_id=nosuch: Cannot find object ID 'nosuch'"),
    ("pc", "-fw_cfg name=opt/a,string=x -fw_cfg name=opt/a,string=y",
     "QEMU: -fw_cfg name=opt/a,string=y: duplicate fw_cfg file name: opt/a"),
    ("pc", "-option-rom /nosuch", "Could not open option rom '/nosuch': No such file or directory"),
    ("pc", "-device e1000,romfile=/nosuch",
     "QEMU: -device e1000,romfile=/nosuch: failed to find romfile \"/nosuch\""),
    ("pc", "-device e1000,romfile=/dev/null",
     "QEMU: -device e1000,romfile=/dev/null: romfile \"/dev/null\" is empty"),
    ("pc", "-device e1000,romfile=k20,romsize=16384",
     "QEMU: -device e1000,romfile=k20,romsize=16384: romfile \"k20\" (20000 "
     "bytes) is too large for ROM size 16384"),
    ("pc", "-smbios file=/nosuch", "QEMU: -smbios file=/nosuch: Cannot read SMBIOS file /nosuch"),
    ("pc", "-smbios file=one", "QEMU: -smbios file=one: Cannot read SMBIOS file one"),
    ("pc", "-smbios type=99",
     "QEMU: -smbios type=99: Don't know how to build fields for SMBIOS type 99"),
    ("pc", "-smbios type=1,uuid=x", "QEMU: -smbios type=1,uuid=x: Invalid UUID"),
    ("pc", "-smbios type=4,max-speed=70000",
     "QEMU: -smbios type=4,max-speed=70000: SMBIOS CPU speed is too large (> "
     "65535)"),
    ("pc", "-smbios type=11,path=/nosuch",
     "QEMU: -smbios type=11,path=/nosuch: Could not open '/nosuch': No such "
     "file or directory"),
    ("pc", "-acpitable file=/nosuch",
     "QEMU: -acpitable file=/nosuch: can't open file /nosuch: No such file or "
     "directory"),
    ("pc", "-acpitable data=.", "QEMU: -acpitable data=.: can't read file .: Is a directory"),
    ("pc", "-acpitable file=one",
     "QEMU: -acpitable file=one: ACPI table claiming to have header is too "
     "short, available: 1, expected: 36"),
    ("pc", "-acpitable data=one",
     "QEMU: -acpitable data=one: warning: ACPI table: no headers are specified"),
    ("pc", "-acpitable data=k64",
     "QEMU: -acpitable data=k64: ACPI table too big, requested: 65572, max: "
     "65535"),
    ("pc", "-acpitable sig=ABCD",
     "QEMU: -acpitable sig=ABCD: '-acpitable' requires one of 'data' or 'file'"),
    ("pc", "-acpitable file=k20",
     "QEMU: -acpitable file=k20: warning: ACPI table has wrong length, header "
     "says 0, actual size 20000 bytes"),
    ("pc", "-acpitable data=one,rev=300",
     "QEMU: -acpitable data=one,rev=300: Parameter 'rev' expects uint8_t"),
    ("pc", "-kernel /nosuch",
     "qemu: could not open kernel file '/nosuch': No such file or directory"),
    ("pc", "-kernel one", "qemu: invalid kernel header"),
    ("pc", "-kernel k20 -initrd /nosuch", "qemu: linux kernel too old to load a ram disk"),
    ("pc", "-kernel k20 -dtb /nosuch", "qemu: Linux kernel too old to load a dtb"),
    ("pc", "-bios /nosuch", "qemu: could not load PC BIOS '/nosuch'"),
    ("pc", "-bios ''", "qemu: could not load PC BIOS ''"),
    ("pc", "-kernel ''", "qemu: could not open kernel file '': No such file or directory"),
    ("none", "-bios '' -plugin ''", ""),
    ("none", "-readconfig ''", "QEMU: -readconfig : Could not open '': No such file or directory"),
    ("pc", "-bios one", "qemu: could not load PC BIOS 'one'"),
    ("pc", "-bios k20", "qemu: could not load PC BIOS 'k20'"),
    ("pc", "-drive if=pflash,file=one,format=raw",
     "QEMU: system firmware block device pflash0 has invalid size 512\nQEMU: "
     "info: its size must be a non-zero multiple of 0x1000"),
    ("pc", "-drive if=pflash,file=k20,format=raw", ""),
    ("pc", "-drive if=pflash,unit=1,file=k64,format=raw", "QEMU: pflash1 requires pflash0"),
    ("pc", "-virtfs local,path=/nosuch,mount_tag=t,security_model=none",
     "QEMU: -virtfs local,path=/nosuch,mount_tag=t,security_model=none: cannot "
     "initialize fsdev 't': failed to open '/nosuch': No such file or directory"),
    ("pc", "-virtfs local,path=one,mount_tag=t,security_model=none",
     "QEMU: -virtfs local,path=one,mount_tag=t,security_model=none: cannot "
     "initialize fsdev 't': failed to open 'one': Not a directory"),
    ("pc", "-virtfs local,path=.",
     "QEMU: -virtfs local,path=.: Usage: -virtfs fsdriver,mount_tag=tag"),
    ("pc", "-boot splash=/nosuch", "QEMU: failed to find file '/nosuch'"),
    ("pc", "-boot splash=events",
     "QEMU: splash file 'events' format not recognized; must be JPEG or 24 bit "
     "BMP"),
    ("pc", "-boot splash=.",
     "QEMU: failed to read splash file '.': Error reading file “.”: Is a "
     "directory"),
    ("pc", "-boot splash=jpg", ""),
    ("pc", "-boot splash=k20 -kernel /nosuch",
     "QEMU: splash file 'k20' format not recognized; must be JPEG or 24 bit "
     "BMP\nqemu: could not open kernel file '/nosuch': No such file or directory"),
    # with machine type none
    ("none", "-plugin /nosuch.so",
     "QEMU: Could not load plugin /nosuch.so: /nosuch.so: cannot open shared "
     "object file: No such file or directory"),
    ("none", "-plugin arg=1", "QEMU: -plugin arg=1: missing earlier '-plugin file=' option"),
    ("none", "-echr x", "Bad argument to echr"),
    ("none", "-dump-vmstate /nosuch/x",
     "QEMU: -dump-vmstate /nosuch/x: open /nosuch/x: No such file or directory"),
    ("none", "-d nosuch", "Log items"),
    ("none", "-icount rr=x", "QEMU: -icount rr=x: Invalid icount rr option: x"),
    ("none", "-icount rr=record", "QEMU: -icount rr=record: File name not specified for replay"),
    ("none", "-icount rr=replay,rrfile=/nosuch", "Replay: open /nosuch: No such file or directory"),
    ("none", "-icount shift=99,rr=x", "QEMU: -icount shift=99,rr=x: Invalid icount rr option: x"),
    ("none", "-icount rrfile=events", ""),
    ("none", "-boot splash=events", ""),
    ("none", "-trace nosuch", "QEMU: -trace nosuch: warning: trace event 'nosuch' does not exist"),
    ("none", "-trace eventsents=/nosuch",
     "QEMU: -trace eventsents=/nosuch: Invalid parameter 'eventsents'"),
    ("none", "-trace eventsents=events",
     "QEMU: -trace eventsents=events: Invalid parameter 'eventsents'"),
    ("none", "-d nosuch", "Log items"),
    ("none", "-d trace:nosuch", "QEMU: warning: trace event 'nosuch' does not exist"),
    ("none", "-d trace:", "Log items"),
    ("none", "-D %d.log", ""),
    ("none", "-D a%x", "QEMU: Bad logfile template: a%x"),
    ("none", "-D a%d%d", "QEMU: Bad logfile template: a%d%d"),
    ("none", "-d guest_errors -D g.log", ""),
    ("none", "-trace file=tf.log", ""),
    ("none", "-trace file=/nosuch/x",
     "QEMU: Error opening logfile /nosuch/x: No such file or directory"),
    ("none", "-trace file=%q", "QEMU: Bad logfile template: %q"),
    ("none", "-d nosuch,help", "Log items"),
    ("none", "-d help", "Log items"),
    ("none", "-d tid", "QEMU: Filename template with '%d' required for 'tid'"),
    ("none", "-d tid -D x%d.y", ""),
    ("none", "-trace enable=nosuch,events=/nosuch",
     "QEMU: -trace enable=nosuch,events=/nosuch: warning: trace event 'nosuch' "
     "does not exist\nQEMU:/nosuch: No such file or directory"),
    ("none", "-d all", "QEMU: Filename template with '%d' required for 'tid'"),
    ("none", "-d all,nosuch", "Log items"),
    ("none", "-d ''", "Log items"),
    ("none", "-D ''", "QEMU: Error opening logfile : No such file or directory"),
    ("none", "-d in_asm,", "Log items"),
    ("none", "-trace nosuch*", ""),
    ("none", "-trace ''", ""),
    ("none", "-trace x -trace y",
     "QEMU: -trace x: warning: trace event 'x' does not exist\nQEMU: -trace y: "
     "warning: trace event 'y' does not exist"),
    ("none", "-trace -nosuch",
     "QEMU: -trace -nosuch: warning: trace event 'nosuch' does not exist"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(machine: str, options: str, version: str = "7.2") -> tuple[Machine | None, str]:
    """The machine, None if it refuses to start, and what was printed."""
    loop = asyncio.new_event_loop()
    stderr = io.StringIO()
    host = OsHost(Loop(loop), program="QEMU", stderr=stderr)
    profile = Profile.load(version)
    argv = ["-display", "none", "-nodefaults", "-S", "-machine", machine, *shlex.split(options)]
    boot = None
    try:
        configuration = parse_command_line(argv, profile)
        stderr.write("".join(configuration.printed))
        boot = Boot.of(configuration, profile, VirtualClock(), host)
        host.serve(boot.vm)
        for _ in boot.run():
            pass
    except EarlyExit as leave:
        return None, leave.stdout.rstrip("\n")
    except StartupError as error:
        for line in error.earlier if error.own_line else error.lines:
            report("QEMU", line, None, stderr)
        if error.own_line:
            write_lines(error.message, stderr)
        return None, stderr.getvalue().rstrip("\n")
    finally:
        if boot is not None:
            host.close()
        loop.close()
    return boot.vm, stderr.getvalue().rstrip("\n")


@pytest.mark.parametrize(("machine", "options", "said"), CASES)
def test_what_is_said(machine: str, options: str, said: str) -> None:
    _, printed = start(machine, options)

    assert (USAGE if printed.startswith(USAGE) else printed) == said


def test_the_log_file_is_made_anew_and_named_after_the_process(folder: Path) -> None:
    (folder / "old").write_text("of the last run")
    start("none", "-D old")
    start("none", "-D log.%d -trace file=traced")

    assert (folder / "old").read_bytes() == b""
    assert (folder / f"log.{os.getpid()}").read_bytes() == b""
    assert (folder / "traced").read_bytes() == b""


def test_threads_make_their_own_log_files(folder: Path) -> None:
    assert start("none", "-d tid -D log.%d")[1] == ""
    assert not list(folder.glob("log.*"))


def test_events_are_on_that_were_asked_for() -> None:
    vm, _ = start("none", "-trace qmp_job_* -trace -qmp_job_pause -d trace:blk_co_preadv")

    assert vm is not None
    assert {name for name, _, on in vm.trace_events.get("qmp_job_*") if on} >= {"qmp_job_cancel"}
    assert [on for _, _, on in vm.trace_events.get("qmp_job_pause")] == [False]
    assert [on for _, _, on in vm.trace_events.get("blk_co_preadv")] == [True]


def test_help_lists_the_events() -> None:
    _, printed = start("none", "-trace help")

    assert printed.splitlines()[-2:] == ["module_load_module", "module_lookup_object_type"]


def test_firmware_finds_the_picture_and_how_long_to_show_it() -> None:
    vm, said = start("pc", "-boot splash=jpg,splash-time=300")

    assert said == ""
    assert vm is not None
    assert vm.state.boot_splash == ("bootsplash.jpg", FILES["jpg"])


def test_the_human_monitor_moves_the_log(folder: Path) -> None:
    """Beside a real 7.2, 10.0 and 11.1."""
    vm, _ = start("none", "-D first")
    assert vm is not None

    def said(line: str) -> str:
        return run_hmp(vm, None, line)

    (folder / "moved").write_text("of the last run")
    assert said("logfile moved") == said("log int") == said("log int,tid") == ""
    assert (folder / "moved").read_bytes() == b""
    assert said("logfile log.%d") == ""
    assert (folder / f"log.{os.getpid()}").is_file()
    assert said("logfile a%d%d") == "Bad logfile template: a%d%d\n"
    nowhere = "Error opening logfile nowhere/x: No such file or directory\n"
    assert said("logfile nowhere/x") == said("log none") == nowhere
    (folder / "nowhere").mkdir()
    assert said("log none") == ""
    assert (folder / "nowhere" / "x").is_file()


def test_threads_logs_stay_where_they_are() -> None:
    vm, _ = start("none", "-d tid -D log.%d")
    assert vm is not None
    assert run_hmp(vm, None, "logfile x") == "Cannot change log filename after setting 'tid'\n"


@pytest.mark.parametrize("mode", ["record", "replay"])
def test_a_guest_is_not_replayed(mode: str, folder: Path) -> None:
    start("none", "-icount rr=record,rrfile=run")
    assert start("none", f"-icount shift=1,rr={mode},rrfile=run")[1] == (
        f"QEMU: fakeqemu does not model '-icount rr={mode}'"
    )


@pytest.mark.parametrize(
    ("version", "cpus", "number"),
    [
        ("7.2", "Record/replay feature is not supported for 'smp'", "00e0200c"),
        ("10.0", "Record/replay is not supported with multiple CPUs", "00e0200c"),
        ("11.1", "Record/replay is not supported with multiple CPUs", "00e0200e"),
    ],
)
def test_a_run_without_a_clock_of_instructions(
    version: str, cpus: str, number: str, folder: Path
) -> None:
    """Beside real ones; the file is one of 10.0 and 11.1."""
    record = "-icount rr=record,rrfile=run"
    off = "QEMU: Please enable icount to use record/replay"
    assert start("none", record, version)[1] == off
    assert (folder / "run").read_bytes() == bytes.fromhex(number + "00" * 8 + "250e27")
    assert start("none", "-icount rr=replay,rrfile=run", version)[1] == off
    (folder / "run").write_bytes(bytes(12))
    wrong = start("none", "-icount rr=replay,rrfile=run", version)[1]
    assert wrong == "Replay: invalid input log file version"
    (folder / "run").write_bytes(b"abc")
    short = start("none", "-icount rr=replay,rrfile=run", version)[1]
    assert short == "QEMU: -icount rr=replay,rrfile=run: error reading the replay data"
    blocked = f"{record} -smp 2 -snapshot -rtc base=localtime"
    assert start("pc", blocked, version)[1] == f"QEMU: Record/replay: {cpus}"
    blocked = f"{record} -snapshot -rtc base=localtime"
    assert "-rtc base=localtime" in start("pc", blocked, version)[1]
    assert "-snapshot" in start("pc", f"{record} -snapshot", version)[1]
