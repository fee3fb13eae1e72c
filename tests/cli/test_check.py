"""`fakeqemu check`: what somebody who writes a command line should be told."""

import io
import os
import subprocess
import sys

import pytest

from fakeqemu.check import check, findings
from fakeqemu.io.net_taps import TapInterfaces
from fakeqemu.profile import Profile

NONE = ("-machine", "none")


def found(*options, profile="next", **settings):
    return list(findings([*NONE, *options], Profile.load(profile), **settings))


def tap(options=""):
    return ("-netdev", f"tap,id=n,ifname=tap0,script=no,downscript=no{options}")


def test_nothing_to_say():
    out = io.StringIO()
    assert check(NONE, Profile.load("10.0"), interfaces=None, as_posted=False, out=out) == 0
    assert out.getvalue() == ""


def test_warnings_and_what_has_no_effect_are_told_and_do_not_matter():
    options = [*NONE, *tap(",sndbuf=5")]
    out = io.StringIO()
    assert check(options, Profile.load("10.0"), interfaces=None, as_posted=False, out=out) == 0
    assert out.getvalue().splitlines() == [
        "message: warning: netdev n has no peer",
        "without effect: netdev_add {tap}.sndbuf",
    ]


@pytest.mark.parametrize(
    ("options", "finding"),
    [
        (
            ("-device", "nosuch"),
            ("refused", "-device nosuch: 'nosuch' is not a valid device model name"),
        ),
        (
            ("-incoming", "config:nosuch=1"),
            ("refused", "-incoming config:nosuch=1: Parameter 'nosuch' is unexpected"),
        ),
        (
            ("-netdev", "vde,id=n"),
            ("not modelled", "-netdev vde,id=n: fakeqemu does not model 'netdev vde'"),
        ),
    ],
)
def test_where_a_start_ends(options, finding, monkeypatch):
    # a switch of VDE is there
    monkeypatch.setattr("fakeqemu.check.LookingHost.file_error", lambda *_: None)
    assert found(*options) == [finding]


def test_files_of_this_host_are_looked_at(tmp_path):
    options = ("-machine", "q35", "-kernel", str(tmp_path / "k"))
    text = f"qemu: could not open kernel file '{tmp_path / 'k'}': No such file or directory"
    assert found(*options) == [("refused", text)]


def test_an_interface_that_another_has_open(tmp_path):
    interfaces = TapInterfaces(tmp_path)
    assert found(*tap(), interfaces=interfaces)[1:] == []
    assert list(tmp_path.iterdir()) == []  # nothing is taken
    held = interfaces.open("tap0", multi_queue=False, given=False)
    ((kind, text),) = found(*tap(), interfaces=interfaces)
    assert (kind, text.endswith("Device or resource busy")) == ("refused", True)
    os.close(held.fd)
    assert found(*tap(), interfaces=interfaces)[1:] == []
    held = interfaces.open("tap0", multi_queue=True, given=False)
    hazard = ("hazard", "netdev n, interface tap0: opened an interface that others have open")
    assert hazard in found(*tap(",queues=2"), interfaces=interfaces)
    os.close(held.fd)
    # what was looked at is free for whoever wants it alone
    assert not interfaces.open("tap0", multi_queue=False, given=False).shared


def test_a_target_that_reads_local_opens_nothing(tmp_path):
    interfaces = TapInterfaces(tmp_path)
    held = interfaces.open("tap0", multi_queue=False, given=False)
    early = ("-incoming", "defer", "-incoming", "config:local=on")
    assert found(*early, *tap(), interfaces=interfaces)[1:] == []
    os.close(held.fd)


@pytest.mark.parametrize(("profile", "kind"), [("10.0", "hazard"), ("11.1", "refused")])
def test_a_descriptor_that_is_not_open(profile, kind):
    ((_, warning), *_), (last, _) = found("-incoming", "fd:999", profile=profile), found(
        "-incoming", "fd:999", profile=profile
    )[-1]
    assert last == kind
    assert "fd: migration to a file is" in warning


def test_a_parent_that_waits_for_ever():
    hazard = ("hazard", "-daemonize with mode cpr-exec: the parent waits for ever")
    mode = ("-incoming", "defer", "-incoming", "config:mode=cpr-exec")
    assert found("-daemonize", *mode) == [hazard]
    assert found(*mode) == []


def test_the_command():
    done = subprocess.run(
        [*(sys.executable, "-m", "fakeqemu", "check", "--profile", "10.0", "--"), "-device", "x"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "refused: -device x: 'x' is not a valid device model name\n"
    assert done.returncode == 1
