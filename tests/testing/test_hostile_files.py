"""Files that testers write: an error with its place."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from fakeqemu.testing.fleet.file import FleetFile, parse_fleet
from fakeqemu.testing.recording import format as record_format
from fakeqemu.testing.recording.format import RecordError
from fakeqemu.testing.scenarios.file import ScenarioError, ScenarioFile, parse

SETTINGS = settings(
    max_examples=80, derandomize=True, suppress_health_check=list(HealthCheck)
)
KEYS = [
    "faults", "stages", "guest", "options", "profile", "seed", "machines", "rules", "directory",
    "control", "name", "count", "first", "when", "then", "of", "pick", "skip", "times",
]  # fmt: skip
VALUES = st.recursive(
    st.sampled_from(
        [0, 1, -1, 1 << 70, 1.5, float("nan"), True, "", "x", "vm-*", "\0", "drop-connections",
         "unix:/x", datetime.date(2020, 1, 1), datetime.time(1)]
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=5,
)  # fmt: skip
FLEET = {"machines": [{"name": "vm-{}", "count": 2}], "rules": [{"machines": "vm-*"}]}


@SETTINGS
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3), st.booleans())
def test_values_of_any_type(data: dict[str, Any], fleet: bool) -> None:
    for read in (parse, parse_fleet):
        try:
            read({**FLEET, **data} if fleet else data, "file")
        except ScenarioError as error:
            assert str(error).startswith("file: ")


BAD = [b"\xff\xfe\0", b"a = " + b"[" * 100_000, b"a = " + b"9" * 5000, b"a = 1\na = 2", b"\0"]


@pytest.mark.parametrize("content", BAD)
@pytest.mark.parametrize("load", [ScenarioFile.load, FleetFile.load])
def test_what_is_no_toml(tmp_path: Path, content: bytes, load: Any) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(ScenarioError, match="^" + str(path)):
        load(path)


def test_a_file_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fakeqemu.testing.read_file._MOST", 1 << 20)
    with pytest.raises(ScenarioError, match=r"^/dev/zero: more than 1048576 bytes"):
        ScenarioFile.load("/dev/zero")
    with pytest.raises(RecordError, match=r"^/dev/zero: more than"):
        record_format.load("/dev/zero")


@pytest.mark.parametrize(
    "line", ["[" * 100_000, "1", "{", '{"connection": []}', '{"connection": 1, "message": 1}']
)
def test_what_is_no_line_of_a_recording(line: str) -> None:
    good = '{"connection": 1, "from": "client", "message": {"execute": "stop"}}'
    with pytest.raises(RecordError, match=r"^x:2: "):
        record_format.parse([good, line], "x")
