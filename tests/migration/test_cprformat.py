"""CPR state as bytes: what real QEMUs send is read, and what is sent is as theirs."""

from __future__ import annotations

import pytest

from fakeqemu.migration.cpr_state import CprReader, encode
from fakeqemu.model.fds.cpr_fds import SavedFd, SavedFds
from fakeqemu.qapi.errors import QapiError
from fakeqemu.traits import TRAITS

#: sent by 10.0.13 and 11.1.3 for one memory backend, cut where the descriptor goes along
OLD = [b"QCPR\0\0\0\1\1\0\0\0\5ram0\0\0\0\0\0 ", b"\0"]
VFIO = b"\5\x15CprState/vfio devices\0\0\0\1\0"
#: left by 11.1.3 for what it executes
LEFT = b"QCPR\0\0\0\1\1\0\0\0\5ram0\0\0\0\0\0\0\0\0\n\0" + VFIO
SAVED = [SavedFd("ram0", 0, 10)]


def reader(version="11.1", *, numbers=False):
    return CprReader(TRAITS[version], numbers=numbers)


@pytest.mark.parametrize(("version", "end"), [("10.0", b""), ("11.1", VFIO)])
def test_what_is_sent_is_what_real_ones_send(version, end):
    pieces = encode(SAVED, TRAITS[version], numbers=False)
    assert pieces == [(OLD[0], 10), (OLD[1] + end, None)]


def test_what_is_left_by_exec_is_what_real_ones_leave():
    assert b"".join(data for data, _ in encode(SAVED, TRAITS["11.1"], numbers=True)) == LEFT
    assert reader(numbers=True).feed(LEFT) is None
    one = reader(numbers=True)
    one.feed(LEFT)
    assert one.feed_eof() == SAVED


def test_a_state_comes_in_any_pieces():
    one = reader()
    data = OLD[0] + OLD[1] + VFIO
    for number in range(len(data)):
        fds = [7] if number == len(OLD[0]) - 1 else []
        assert one.feed(data[number : number + 1], fds) is None
    assert one.feed_eof() == [SavedFd("ram0", 0, 7)]


def test_the_byte_after_the_list_ends_it():
    assert reader().feed(b"QCPR\0\0\0\1\0zzz") == []


@pytest.mark.parametrize(
    ("version", "data", "text"),
    [
        ("11.1", b"", "Not a migration stream (bad magic 0)"),
        ("11.1", b"ab", "Not a migration stream (bad magic 61620000)"),
        ("10.0", b"QCPR\0\0\0\2", "Unsupported migration stream version 2"),
        ("10.0", b"QCPR\xff\0\0\2", "Unsupported migration stream version -16777214"),
        ("10.0", b"QCPR\0\0\0\1", "vmstate_load_state error -5"),
        ("11.1", b"QCPR\0\0\0\1", "Failed to load CprState state: stream error: -5"),
        ("11.1", b"QCPR\0\0\0\1\2", "Failed to load cpr fd state: stream error: -5"),
        ("10.0", b"QCPR\0\0\0\1\0" + VFIO, "vmstate_load_state error -2"),
        (
            "11.1",
            b"QCPR\0\0\0\1\0\5\x0bCprState/xx\0\0\0\1\0",
            "VM subsection 'CprState/xx' in 'CprState' does not exist",
        ),
    ],
)
def test_what_is_no_state_is_refused_as_real_ones_do(version, data, text):
    one = reader(version)
    with pytest.raises(QapiError) as caught:
        if one.feed(data) is None:
            one.feed_eof()
    assert caught.value.desc == text


def test_10_0_says_which_field_broke():
    one = reader("10.0")
    with pytest.raises(QapiError):
        one.feed(b"QCPR\0\0\0\1\1\0\0\0\5ra") or one.feed_eof()
    assert one.complaints == [
        "Failed to load cpr fd:name",
        "fds: failed to load cpr fd (-5)",
        "Failed to load CprState:fds",
    ]


def test_a_descriptor_that_did_not_come_is_complained_of():
    one = reader()
    one.feed(OLD[0] + OLD[1] + VFIO)
    assert one.feed_eof() == [SavedFd("ram0", 0, -1)]
    assert one.complaints == ["cpr-in no FD come with service byte"]


def test_saved_descriptors_are_found_by_name_and_number():
    saved = SavedFds()
    saved.save("a", 3)
    saved.save("a", 4, 1)
    assert [each.fd for each in saved] == [4, 3]
    assert (saved.find("a"), saved.find("a", 1), saved.find("b")) == (3, 4, None)
    saved.forget("a")
    with pytest.raises(QapiError) as caught:
        saved.take("a", "net")
    assert caught.value.desc == "cannot find saved value for fd net"
