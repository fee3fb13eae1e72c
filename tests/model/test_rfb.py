"""VNC clients: how they get in, what they see, who has to leave."""

import struct

import pytest

from fakeqemu.formats import des
from fakeqemu.formats.rfb_pixels import PixelFormat


class Client:
    """The other end of a connection to a display."""

    def __init__(self, running, id=None):
        self.got, self.closed = b"", False
        self.on_data = self.on_close = None
        display = running.vm.vnc.find(id)
        display.connect(self, {"type": "unix", "path": ""})

    def write(self, data):
        self.got += data

    def close(self):
        self.closed = True

    def say(self, data):
        """Send, and take what comes back."""
        self.got = b""
        for byte in data:
            if not self.closed:
                self.on_data(bytes([byte]))
        return self.got


def server(start, options="", *argv):
    return start("-machine", "q35", "-S", "-vnc", f"unix:/vnc{options}", *argv)


def enter(client, shared=1):
    client.say(b"RFB 003.008\n\x01")
    return client.say(bytes([shared]))


def test_the_handshake_of_3_8_ends_with_the_desktop(start):
    running = server(start, "", "-name", "guest=box", "-device", "VGA")
    client = Client(running)
    assert client.got == b"RFB 003.008\n"
    assert client.say(b"RFB 003.008\n") == b"\1\1"
    assert client.say(b"\1") == bytes(4)
    desktop = client.say(b"\1")
    assert struct.unpack_from(">HHBBBB", desktop) == (640, 480, 32, 24, 0, 1)
    assert desktop.endswith(b"\0\0\0\x0aQEMU (box)")
    assert running.names() == ["VNC_CONNECTED", "VNC_INITIALIZED"]
    client.on_close(None)
    assert running.names() == ["VNC_DISCONNECTED"]
    assert running.ask("query-vnc")["clients"] == []


@pytest.mark.parametrize(
    ("version", "answer"),
    [
        (b"RFB 003.003\n", b"\0\0\0\1"),
        (b"RFB 003.005\n", b"\0\0\0\1"),
        (b"RFB 003.007\n", b"\1\1"),
    ],
)
def test_older_versions(start, version, answer):
    client = Client(server(start))
    assert client.say(version) == answer
    assert not client.closed


@pytest.mark.parametrize("version", [b"RFB 003.099\n", b"RFB 004.008\n", b"hello world\n"])
def test_other_versions_are_hung_up_on(start, version):
    client = Client(server(start))
    assert client.say(version) in (b"", bytes(4))
    assert client.closed


def answer(client, password):
    challenge = client.say(b"RFB 003.008\n\x02")[2:]
    key = bytes(int(f"{c:08b}"[::-1], 2) for c in password.encode()[:8].ljust(8, b"\0"))
    return client.say(des.encrypt(key, challenge))


def test_a_password_counts_up_to_eight_letters_until_it_expires(start):
    running = server(start, ",password=on")
    refused = b"\0\0\0\1\0\0\0\x16Authentication failed\0"
    assert answer(Client(running), "") == refused
    running.ask("set_password", protocol="vnc", password="secret and more")
    assert answer(Client(running), "secret a") == bytes(4)
    wrong = Client(running)
    assert answer(wrong, "secret b") == refused
    assert wrong.closed
    running.ask("expire_password", protocol="vnc", time="now")
    assert answer(Client(running), "secret a") == refused
    running.ask("expire_password", protocol="vnc", time="+60")
    assert answer(Client(running), "secret a") == bytes(4)


def test_each_client_gets_another_challenge(start):
    running = server(start, ",password=on")
    challenges = {Client(running).say(b"RFB 003.008\n\x02") for _ in range(3)}
    assert len(challenges) == 3


def request(client, incremental=0):
    return client.say(struct.pack(">BBHHHH", 3, incremental, 0, 0, 640, 480))


def test_an_update_has_every_pixel(start):
    running = server(start, "", "-device", "VGA")
    client = Client(running)
    enter(client)
    update = request(client)
    assert struct.unpack_from(">BxHHHHHi", update) == (0, 1, 0, 0, 640, 480, 0)
    assert len(update) == 16 + 640 * 480 * 4
    assert request(client, incremental=1) == b""


def test_a_changed_screen_is_sent_to_who_waits(start):
    running = server(start, "", "-device", "VGA")
    client = Client(running)
    enter(client)
    client.say(struct.pack(">BxHii", 2, 2, 0, -223))
    request(client)
    request(client, incremental=1)
    running.vm.lifecycle.cont()
    running.vm.clock.advance(1)
    assert struct.unpack_from(">BxHHHHHi", client.got) == (0, 2, 0, 0, 720, 400, -223)
    assert len(client.got) == 4 + 12 + 12 + 720 * 400 * 4


def test_pixels_come_as_the_client_wants_them(start):
    running = server(start, "", "-device", "VGA")
    client = Client(running)
    enter(client)
    client.say(struct.pack(">BxxxBBBBHHHBBBxxx", 0, 16, 16, 1, 1, 31, 63, 31, 11, 5, 0))
    pixels = request(client)[16:]
    assert len(pixels) == 640 * 480 * 2
    assert {pixels[at : at + 2] for at in range(0, len(pixels), 2)} == {b"\0\0", b"\xad\x55"}


def test_no_true_colours_means_a_colour_map():
    format = PixelFormat.parse(struct.pack(">BBBBHHHBBB3x", 8, 8, 0, 0, 0, 0, 0, 0, 0, 0))
    assert format is not None
    assert format.colour_map.startswith(b"\1\0\0\0\1\0")
    assert len(format.colour_map) == 6 + 256 * 6
    assert format.converted(b"\xff\xff\xff\0\0\0") == b"\xff\0"


@pytest.mark.parametrize(
    ("sharing", "first_stays", "second_enters"),
    [("allow-exclusive", False, True), ("ignore", True, True), ("force-shared", True, False)],
)
def test_a_client_that_wants_the_display_alone(start, sharing, first_stays, second_enters):
    running = server(start, f",share={sharing}")
    first, second = Client(running), Client(running)
    assert enter(first)
    assert bool(enter(second, shared=0)) == second_enters
    assert first.closed != first_stays
    assert second.closed != second_enters


def test_a_client_switches_the_machine_off(start):
    """The messages of xvp: a version and what is to be done."""
    running = server(start, ",power-control=on", "-device", "VGA")
    client = Client(running)
    enter(client)
    encodings = struct.pack(">BxHii", 2, 2, 0, -309)
    assert client.say(encodings) == b"\xfa\0\1\1"
    running.names()
    assert client.say(b"\xfa\0\1\2") == b""
    assert running.names() == ["POWERDOWN"]
    assert client.say(b"\xfa\0\1\4") == b""
    assert running.names() == ["RESET"]
    assert client.say(b"\xfa\0\1\3") == b"\xfa\0\1\0"
    assert not client.closed
    client.say(b"\xfa\0\2\2")
    assert client.closed


def test_nobody_switches_it_off_who_may_not(start):
    for options in ("", ",power-control=on"):
        client = Client(server(start, options))
        enter(client)
        assert client.say(struct.pack(">BxHi", 2, 1, 0 if options else -309)) == b""
        client.say(b"\xfa\0\1\2")
        assert client.closed


def test_keys_are_noted(start):
    running = server(start)
    client = Client(running)
    enter(client)
    client.say(struct.pack(">BBxxI", 4, 1, 0xFF0D))
    assert [entry.name for entry in running.vm.journal.of("input")] == ["vnc-key"]


def test_des_agrees_with_the_standard():
    key, data = bytes.fromhex("133457799bbcdff1"), bytes.fromhex("0123456789abcdef")
    assert des.encrypt(key, data).hex() == "85e813540f0ab405"
