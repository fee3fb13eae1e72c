"""Host forwarding rules: their grammar, and the human monitor commands that set them."""

import pytest

from fakeqemu.model.net.slirp import hostfwd as hostforward
from fakeqemu.qapi.errors import QapiError
from fakeqemu.traits import TRAITS, Traits

_NEWEST = Traits()


@pytest.mark.parametrize(
    ("rule", "place", "guest"),
    [
        ("tcp::2222-:22", (False, 0, 2222), (0, 22)),
        (":127.1:0x10-:010", (False, 0x7F000001, 16), (0, 8)),
        ("udp:10.0.0.1:0-10.0.2.15:65535", (True, 0x0A000001, 0), (0x0A00020F, 65535)),
    ],
)
def test_rule_is_read(rule, place, guest):
    assert hostforward.parse(rule, _NEWEST) == hostforward.Forward(place, guest)


def test_empty_host_port_is_a_question_of_version():
    with pytest.raises(QapiError, match="Bad host port"):
        hostforward.parse("tcp::-:22", _NEWEST)
    assert hostforward.parse("tcp::-:22", TRAITS["7.2"]).place == (False, 0, 0)


def hmp(machine, line):
    return machine.ask("human-monitor-command", command_line=line)


def test_rule_of_the_command_line_can_be_removed_once(start):
    machine = start("-machine", "none", "-netdev", "user,id=u,hostfwd=tcp::2222-:22")
    assert "Could not set up" in hmp(machine, "hostfwd_add u tcp::2222-:23")
    assert hmp(machine, "hostfwd_remove u tcp::2222").endswith("removed\r\n")
    assert hmp(machine, "hostfwd_remove u tcp::2222").endswith("not found\r\n")
    assert hmp(machine, "hostfwd_add tcp::2222-:23") == ""


def test_backend_is_chosen_by_id_or_is_the_oldest(start):
    machine = start("-machine", "none")
    assert hmp(machine, "hostfwd_add tcp::1-:2") == "user mode network stack not in use\r\n"
    machine.ask("netdev_add", type="hubport", id="h", hubid=0)
    assert hmp(machine, "hostfwd_add h tcp::1-:2") == "invalid device specified\r\n"
    machine.ask("netdev_add", type="user", id="first")
    machine.ask("netdev_add", type="user", id="second")
    assert hmp(machine, "hostfwd_add tcp::1-:2") == ""
    assert hmp(machine, "hostfwd_remove second tcp::1").endswith("not found\r\n")
    assert hmp(machine, "hostfwd_remove first tcp::1").endswith("removed\r\n")


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        ("zz", "Failed to parse netmask (trailing chars)"),
        ("24x", "Failed to parse netmask (trailing chars)"),
        ("", "Invalid netmask provided (must be in range 4-32)"),
        ("-1", "Invalid netmask provided (must be in range 4-32)"),
        ("33", "Invalid netmask provided (must be in range 4-32)"),
        ("9" * 5000, "Invalid netmask provided (must be in range 4-32)"),
    ],
)
def test_netmasks_are_lengths_or_addresses(start, mask, text):
    machine = start("-machine", "none")
    assert machine.error("netdev_add", type="user", id="n", net=f"10.0.2.0/{mask}")[1] == text
    for good in (" 8", "255.0.0.0", "0xff000000"):
        machine.ask("netdev_add", type="user", id="n", net=f"10.0.2.0/{good}")
        machine.ask("netdev_del", id="n")
