"""`fakeqemu explain`: what a command line would do, without doing it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

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
