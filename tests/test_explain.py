"""`fakeqemu explain`: what a command line would do, without doing it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from fakeqemu.boot.cmdline.options import PASSES
from fakeqemu.explain import explain, explain_boot, render
from fakeqemu.profile import Profile


def account(*argv: str, profile: str = "next", **settings: bool) -> dict:
    return explain_boot(argv, Profile.load(profile), **settings)


def test_each_parameter_tells_its_layers() -> None:
    told = account(
        "-machine", "pc-q35-8.2",
        "-global", "migration.multifd-channels=4",
        "-incoming", "defer", "-incoming", "config:max-bandwidth=1000",
    )  # fmt: skip
    assert (told["exit"], told["error"], told["machine"]) == (0, None, "pc-q35-8.2")
    parameters = {each["name"]: each for each in told["parameters"]}
    assert parameters["zero-page-detection"]["layer"] == "machine compat"
    assert parameters["zero-page-detection"]["value"] == "legacy"
    assert parameters["multifd-channels"]["layers"]["-global"] == 4
    assert parameters["max-bandwidth"]["value"] == 1000
    assert set(parameters["max-bandwidth"]["layers"]) >= {"default", "-incoming config"}
    assert [step["step"] for step in told["steps"]].index("chardevs") > 0
    assert any(step["phase"] for step in told["steps"])


def test_the_mode_of_a_cpr_channel_is_a_layer_of_its_own(tmp_path: Path) -> None:
    channel = json.dumps(
        {
            "channel-type": "cpr",
            "addr": {"transport": "socket", "type": "unix", "path": str(tmp_path / "c")},
        }
    )
    told = account(
        "-machine", "none", "-incoming", "defer", "-incoming", "config:mode=normal",
        "-incoming", channel,
    )  # fmt: skip
    (mode,) = (each for each in told["parameters"] if each["name"] == "mode")
    assert (mode["value"], mode["layer"]) == ("cpr-transfer", "implied")
    assert mode["layers"]["-incoming config"] == "normal"


def test_capabilities_tell_their_layers_too() -> None:
    told = account("-machine", "none", "-global", "migration.multifd=on", profile="11.1")
    assert "Property 'migration.multifd' not found" in told["error"]
    told = account("-machine", "none", "-global", "migration.x-multifd=on", profile="11.1")
    capabilities = {each["name"]: each for each in told["capabilities"]}
    assert capabilities["multifd"]["layers"] == {"default": False, "-global": True}
    assert capabilities["multifd"]["layer"] == "-global"
    assert capabilities["xbzrle"]["layers"] == {"default": False}


def test_a_step_shows_what_it_read_early() -> None:
    told = account(
        "-machine", "none", "-incoming", "config:local=on",
        "-netdev", "tap,id=n,ifname=tap0,script=no",
    )  # fmt: skip
    (step,) = (each for each in told["steps"] if each["step"] == "net backends")
    assert {"name": "local", "value": True} in step["early-reads"]
    assert "reads local early: on" in render(told)


@pytest.mark.parametrize(
    ("profile", "first", "late"),
    [
        ("7.2", "incoming option", False),
        ("11.1", "incoming option", True),
        ("next", "early parameters", True),
    ],
)
def test_only_steps_and_phases_of_the_version_are_named(
    profile: str, first: str, late: bool
) -> None:
    steps = account("-machine", "none", profile=profile)["steps"]
    assert steps[len(PASSES)]["step"] == first
    assert ("late-backends-created" in [step["phase"] for step in steps]) is late


def test_a_fault_in_an_option_has_the_passes_walked_until_then() -> None:
    assert [each["step"] for each in account("-m", "x")["steps"]] == ["option names", "options"]
    assert [each["step"] for each in account("-append", "x")["steps"]][-1] == "option validation"


@pytest.mark.parametrize(("profile", "waits"), [("7.2", False), ("10.0", True)])
def test_only_versions_that_wait_for_preallocation_have_the_step(
    profile: str, waits: bool
) -> None:
    steps = [each["step"] for each in account("-machine", "none", profile=profile)["steps"]]
    assert ("memory preallocation" in steps) is waits
    between = ["display options", "early objects", "spice", "chardevs"]
    at = steps.index(between[0])
    assert steps[at : at + len(between)] == between


def test_the_text_and_the_json_say_the_same() -> None:
    profile = Profile.load("10.0")
    out = io.StringIO()
    assert explain(["-machine", "none"], profile, json=True, as_posted=False, out=out) == 0
    told = json.loads(out.getvalue())
    assert told == account("-machine", "none", profile="10.0")
    text = render(told)
    assert text.startswith("QEMU 10.0.")
    for each in (*told["steps"], *told["parameters"]):
        assert each.get("step", each.get("name")) in text


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (("-machine", "nonsense"), 1, "unsupported machine type"),
        (("-chardev", "nonsense,id=c"), 1, "'nonsense' is not a valid char driver name"),
        (("-version",), 0, "prints help and leaves"),
    ],
)
def test_where_a_start_ends(argv: tuple[str, ...], status: int, said: str) -> None:
    told = account(*argv)
    assert told["exit"] == status
    assert said in told["error"]
    assert f"ends with exit status {status}: " in render(told)


def test_nothing_is_opened(tmp_path: Path) -> None:
    told = account(
        "-machine", "none", "-qmp", f"unix:{tmp_path}/qmp,server=on,wait=on",
        "-pidfile", str(tmp_path / "pid"),
        "-incoming", f"unix:{tmp_path}/migration",
    )  # fmt: skip
    assert told["error"] is None
    assert list(tmp_path.iterdir()) == []
