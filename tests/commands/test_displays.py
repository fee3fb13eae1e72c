"""Displays, saved memory, trace events, audio: what commands say of them."""

import errno
import os

import pytest

from fakeqemu.model.dump.output import MemoryOutput

VNC = ("-machine", "q35", "-S", "-vnc")


def test_a_display_is_told_by_its_first_address(start):
    running = start(*VNC, "127.0.0.1:7,password=on", "-vnc", "unix:/b,id=b", "-vnc", "none")
    assert running.ask("query-vnc") == {
        "enabled": True,
        "host": "127.0.0.1",
        "service": "5907",
        "family": "ipv4",
        "auth": "vnc",
        "clients": [],
    }
    found = running.ask("query-vnc-servers")
    assert [(info["id"], info["auth"], len(info["server"])) for info in found] == [
        ("vnc2", "none", 0),
        ("b", "none", 1),
        ("default", "vnc", 1),
    ]
    assert running.hmp("info vnc").startswith("vnc2:\n  Auth: none (Sub: none)\nb:\n  Server: :/b")


def test_without_a_display_there_is_none(start):
    running = start("-machine", "q35", "-S")
    assert running.ask("query-vnc") == {"enabled": False}
    assert running.ask("query-vnc-servers") == []
    assert running.hmp("info vnc") == "None\n"
    missing = ("GenericError", "Can not find vnc display")
    assert running.error("display-update", type="vnc") == missing
    assert running.error("display-reload", type="vnc", tls_certs=True) == missing


def test_a_password_needs_a_display_that_asks_for_one(start):
    running = start(*VNC, "unix:/a")
    for arguments, text in (
        ({}, "VNC password authentication is disabled"),
        ({"display": "no"}, "No VNC display is present"),
    ):
        error = running.error("set_password", protocol="vnc", password="x", **arguments)
        assert error == ("GenericError", text)
    assert running.hmp("change vnc password x").endswith("use '-vnc ...,password-secret=ID'")


def test_a_secret_is_the_password(start):
    running = start(
        "-object", "secret,id=s,data=aGVsbG8=,format=base64",
        *VNC, "unix:/a,password-secret=s",
    )  # fmt: skip
    assert running.ask("query-vnc")["auth"] == "vnc"
    assert running.vm.vnc.find().key() == b"hello\0\0\0"


def test_a_display_that_cannot_move_is_nowhere(start, monkeypatch):
    running = start(*VNC, "unix:/a")
    running.ask("display-update", type="vnc", addresses=[{"type": "unix", "path": "/b"}])
    assert running.ask("query-vnc")["service"] == "/b"
    running.ask("display-update", type="vnc", addresses=[])
    assert running.ask("query-vnc") == {"enabled": False}


@pytest.mark.parametrize("profile", ["7.2", "11.1"])
def test_heads_and_devices_of_screendump(start, profile):
    running = start(
        "-machine", "q35", "-S",
        "-device", "virtio-gpu-pci,id=g,max_outputs=2", "-device", "virtio-rng-pci,id=r",
        profile=profile,
    )  # fmt: skip
    running.ask("screendump", filename="x", device="g", head=1)
    for device, head in (("g", 2), ("r", 0)):
        assert running.error("screendump", filename="x", device=device, head=head) == (
            "GenericError",
            f"Device {device} (head {head}) is not bound to a QemuConsole",
        )
    assert running.hmp("screendump /x -f bmp") == "Error: invalid parameter value: bmp\n"


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("ppm", "Unable to write to file: No space left on device"),
        ("png", "PNG creation failed. Unable to close file: No space left on device"),
    ],
)
def test_half_a_picture_is_removed(start, monkeypatch, format, text):
    running = start("-machine", "q35", "-S", "-device", "VGA")

    def full(output, pieces):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(MemoryOutput, "write", full)
    assert running.error("screendump", filename="x", format=format) == ("GenericError", text)
    assert running.vm.host.files.names() == []


def test_no_console_no_picture(start):
    running = start("-machine", "q35", "-S")
    text = "There is no console to take a screendump from"
    assert running.error("screendump", filename="x") == ("GenericError", text)
    assert running.vm.host.files.names() == []


def test_saved_memory_is_what_was_written(start):
    running = start("-machine", "q35", "-m", "64", "-S")
    running.vm.guest_memory.write(0x1FF8, b"over the edge of a page")
    running.ask("pmemsave", val=0x1000, size=0x3000, filename="p")
    running.ask("memsave", val=0x1FF8, size=23, filename="v")
    files = running.vm.host.files
    assert files.open("v", writable=False).read(0, 99) == b"over the edge of a page"
    saved = files.open("p", writable=False)
    assert saved.size() == 0x3000
    assert saved.read(0xFF8, 23) == b"over the edge of a page"


def test_virtual_memory_ends_where_nothing_is_mapped(start):
    running = start("-machine", "q35", "-m", "64", "-S")
    text = "Invalid addr 0x0000000003fffc00/size 4096 specified"
    assert running.error("memsave", val=0x3FFFC00, size=4096, filename="v") == (
        "GenericError", text
    )  # fmt: skip
    assert running.vm.host.files.open("v", writable=False).size() == 1024


def test_memory_is_printed_in_every_format(start):
    running = start("-machine", "q35", "-m", "64", "-S", profile="7.2")
    running.vm.guest_memory.write(0x1000, b"A\n\xff\x80" + bytes(4))
    assert running.hmp("x /1xg 0x1000") == "0000000000001000: 0x0000000080ff0a41\n"
    assert running.hmp("xp /4xb 0x1000") == "0000000000001000: 0x41 0x0a 0xff 0x80\n"
    assert running.hmp("xp /4c 0x1000") == r"0000000000001000: 'A' '\n' '\xff' '\x80'" + "\n"
    assert running.hmp("xp /1dw 0x1000") == "0000000000001000: 2164197953\n"
    assert running.hmp("xp /2ob 0x1000") == "0000000000001000: 0101 012\n"
    assert running.hmp("xp 0x1000") == "0000000000001000: 0101\n"
    assert running.hmp("xp /1xb 0xc0000000") == "00000000c0000000: Cannot access memory\n"


def test_trace_events_are_switched_by_pattern(start):
    running = start("-machine", "none", profile="10.0")
    running.ask("trace-event-set-state", name="vnc_client_*", enable=True)
    running.ask("trace-event-set-state", name="vnc_client_eof", enable=False)
    states = {e["name"]: e["state"] for e in running.ask("trace-event-get-state", name="vnc_*")}
    assert states["vnc_client_eof"] == "disabled"
    assert states["vnc_client_connect"] == "enabled"
    assert running.hmp("info trace-events vnc_client_eof") == "vnc_client_eof : state 0\n"
    assert running.ask("trace-event-get-state", name="nosuch*") == []
    for name in ("nosuch", "vnc_client_e?f"):
        error = running.error("trace-event-get-state", name=name)
        assert error == ("GenericError", f'unknown event "{name}"')


def test_trace_events_of_single_cpus(start):
    running = start("-machine", "q35", "-smp", "2", profile="7.2")
    running.ask("trace-event-set-state", name="guest_cpu_exit", enable=True, vcpu=1)
    on = [
        running.ask("trace-event-get-state", name="guest_cpu_exit", vcpu=cpu)[0]["state"]
        for cpu in (0, 1)
    ]
    assert on == ["disabled", "enabled"]
    assert running.error("trace-event-get-state", name="vnc_client_eof", vcpu=0) == (
        "GenericError", 'event "vnc_client_eof" is not vCPU-specific'
    )  # fmt: skip
    assert running.error("trace-event-get-state", name="*", vcpu=2) == (
        "GenericError", "invalid vCPU index 2"
    )  # fmt: skip
    huge = running.error("trace-event-get-state", name="*", vcpu=(1 << 63) - 1)[1]
    assert huge == "invalid vCPU index 4294967295"
    cut = running.ask("trace-event-get-state", name="guest_cpu_exit", vcpu=(1 << 32) + 1)
    assert cut[0]["state"] == "enabled"


def test_audio_devices_are_completed(start):
    running = start("-machine", "none", "-audiodev", "none,id=a,out.mixing-engine=off")
    (found,) = running.ask("query-audiodevs")
    assert found["timer-period"] == 10000
    assert found["in"]["voices"] == 1
    assert found["out"]["voices"] == 2147483647
    assert not found["out"]["fixed-settings"]
