"""Net clients without a network: -nic and -net, hubs, warnings, filters, what is announced when."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.model.net.announce import rarp_frame
from fakeqemu.model.net.slirp.options import Network
from fakeqemu.model.net.sockets.framing import MAX_FRAME, FrameReader, OversizedFrameError, pack
from fakeqemu.qapi.errors import QapiError, StartupError


def lines(machine: Any) -> list[str]:
    return machine.hmp("info network").splitlines()


def test_nic_of_the_command_line_is_on_the_board(start: Any) -> None:
    machine = start("-machine", "pc", "-nic", "user,model=virtio,id=u,mac=52:54:00:00:00:09")
    assert lines(machine) == [
        "virtio-net-pci.0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:00:00:09",
        " \\ u: index=0,type=user,net=10.0.2.0,restrict=off",
    ]
    assert machine.vm.host.warnings == []
    slots = [device["slot"] for device in machine.ask("query-pci")[0]["devices"]]
    assert slots == [0, 1, 1, 1, 2]


@pytest.mark.parametrize(("machine", "model"), [("pc", "e1000"), ("q35", "e1000e")])
def test_legacy_network_is_a_hub(start: Any, machine: str, model: str) -> None:
    running = start("-machine", machine, "-net", "nic", "-net", "user,id=u")
    assert lines(running) == [
        "hub 0",
        " \\ hub0port1: u: index=0,type=user,net=10.0.2.0,restrict=off",
        f" \\ hub0port0: {model}.0: index=0,type=nic,model={model},macaddr=52:54:00:12:34:56",
    ]
    with pytest.raises(QapiError, match="Device 'hub0port0' is not a netdev"):
        running.ask("netdev_del", id="hub0port0")


def test_nic_that_no_board_can_make_is_warned_of(start: Any) -> None:
    machine = start("-machine", "none", "-nic", "user,id=u,model=e1000")
    assert machine.vm.host.warnings == [
        "warning: netdev u has no peer",
        "warning: requested NIC (anonymous, model e1000) was not created"
        " (not supported by this machine?)",
    ]


def test_unknown_model_is_a_question_of_version(start: Any) -> None:
    machine = start("-machine", "pc", "-nic", "user,id=u,model=nope")
    assert any("model nope) was not created" in line for line in machine.vm.host.warnings)
    with pytest.raises(StartupError, match="Unsupported NIC model: nope"):
        start("-machine", "pc", "-nic", "user,id=u,model=nope", profile="7.2")


def test_hub_repeats_what_it_hears_to_the_others(start: Any) -> None:
    nics = [
        word
        for number in range(3)
        for word in (
            "-netdev", f"hubport,id=h{number},hubid=0",
            "-netdev", f"user,id=u{number}",
            "-netdev", f"hubport,id=p{number},hubid=0,netdev=u{number}",
            "-object", f"filter-dump,id=f{number},netdev=u{number},file=d{number}",
        )
    ]  # fmt: skip
    machine = start(
        "-machine", "pc", *nics, "-device", "virtio-net-pci,netdev=h0,mac=52:54:00:00:00:01"
    )
    machine.ask("announce-self", initial=50, max=100, rounds=1, step=10)
    frame = rarp_frame("52:54:00:00:00:01")
    for number in range(3):
        file = machine.vm.host.files.open(f"d{number}", writable=False)
        assert file.read(40, len(frame)) == frame


def test_nothing_moves_while_the_machine_is_stopped(start: Any) -> None:
    machine = start(
        "-machine", "pc", "-S", "-netdev", "user,id=u", "-device", "virtio-net-pci,netdev=u"
    )
    taken: list[bytes] = []
    user = machine.vm.net.backends["u"]
    user.receive = lambda frame: taken.append(frame) or len(frame)
    machine.ask("announce-self", initial=50, max=100, rounds=1, step=10)
    assert taken == []
    machine.ask("cont")
    assert len(taken) == 1


def test_frames_are_put_together_from_pieces() -> None:
    reader = FrameReader()
    data = pack(b"first") + pack(b"") + pack(b"x" * MAX_FRAME)
    pieces = [data[at : at + 3] for at in range(0, len(data), 3)]
    frames = [frame for piece in pieces for frame in reader.feed(piece)]
    assert frames == [b"first", b"", b"x" * MAX_FRAME]
    with pytest.raises(OversizedFrameError):
        list(reader.feed((1 << 20).to_bytes(4, "big") + bytes(MAX_FRAME + 1)))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"net": "1.2.3.4/x"}, r"Failed to parse netmask \(trailing chars\)"),
        ({"net": "1.2.3.4/3"}, "must be in range 4-32"),
        ({"host": "1.2.3.4"}, "Host doesn't belong to network"),
        ({"dns": "10.0.2.2"}, "DNS must be different from host"),
        ({"dns": "1.1.1.1", "restrict": True}, "DNS doesn't belong to network"),
        ({"dhcpstart": "10.0.2.3"}, "DHCP must be different from host and DNS"),
        ({"ipv6": True, "net": "10.0.0.0/8"}, "IPv4 disabled but netmask"),
        ({"ipv4": False, "ipv6": False}, "IPv4 and IPv6 disabled"),
        ({"ipv6-prefix": "fd00::", "ipv6-host": "fe00::1"}, "IPv6 Host doesn't belong"),
        ({"ipv6-prefixlen": 127}, "Invalid IPv6 prefix provided"),
        ({"domainname": ""}, "'domainname' parameter cannot be empty"),
        ({"hostname": "h" * 256}, "'vhostname' parameter cannot exceed 255 bytes"),
    ],
)
def test_user_network_is_judged(options: dict[str, Any], error: str) -> None:
    with pytest.raises(QapiError, match=error):
        Network.read(options)


def test_guest_forwarding_opens_its_device(start: Any) -> None:
    machine = start("-machine", "none", "-netdev", "user,id=u,guestfwd=tcp::7-null")
    assert "guestfwd.tcp.7" in machine.vm.chardevs
    machine.ask("netdev_del", id="u")
    assert "guestfwd.tcp.7" not in machine.vm.chardevs
    rule = {"str": "tcp:1.2.3.4:7-null"}
    assert "Conflicting/invalid host:port" in machine.error(
        "netdev_add", type="user", id="u", guestfwd=[rule]
    )[1]
    assert "guestfwd.tcp.7" not in machine.vm.chardevs


def test_ipv6_net_stands_for_two_options(start: Any) -> None:
    start("-machine", "none", "-netdev", "user,id=u,ipv6-net=fd00::/48")
    for profile, text in (("11.1", "'ipv6-net' expects"), ("7.2", "'ipv6-prefixlen' expects")):
        with pytest.raises(StartupError, match=text):
            start("-machine", "none", "-netdev", "user,id=u,ipv6-net=fd00::/x", profile=profile)


def test_names_count_as_bytes_whatever_they_are_made_of(start: Any) -> None:
    """A NUL of a client arrives as two bytes that are no character."""
    nul = "\udcc0\udc80"
    machine = start("-machine", "none", "-nodefaults")
    machine.ask("netdev_add", id="u", type="user", hostname=f"a{nul}")
    with pytest.raises(QapiError, match="'vhostname' parameter cannot exceed 255 bytes"):
        machine.ask("netdev_add", id="v", type="user", hostname=nul * 128)
    machine.vm.net.backends["u"].info = nul * 128
    assert len(machine.vm.net.backends["u"].info.encode("utf-8", "surrogateescape")) == 255
