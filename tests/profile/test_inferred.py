"""Names that introspection hides, carried over to a version that is not described."""

from __future__ import annotations

import pytest

from fakeqemu.profile import Profile, inferred, store

#: a version -> how many names and widths may be wrong or missing: those that QEMU has renamed
DESCRIBED = {"7.2": (9, 11), "10.0": (10, 3), "11.1": (8, 33)}


@pytest.mark.parametrize("version", DESCRIBED)
def test_as_good_as_described(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each described version from the others."""
    described = dict(store.read_overlay_data(inferred.NAMES))
    real = described.pop(version)
    others = {inferred.NAMES: described, "event-limits": {"7.2": 1, "11.1": 2}}
    monkeypatch.setattr(store, "read_overlay_data", lambda name: others.get(name, {}))
    major, minor = version.split(".")
    found = inferred.infer(Profile.load(version).part("schema"), (int(major), int(minor)))
    naming = found[inferred.NAMES]
    names, widths = DESCRIBED[version]
    assert len(set(real["names"].items()) - set(naming["names"].items())) <= names
    known, carried = (
        {(owner, *each) for owner, members in of["integers"].items() for each in members.items()}
        for of in (real, naming)
    )
    assert len(known - carried) <= widths
    assert naming["unchecked"] == real["unchecked"]
    assert found["event-limits"] == (2 if version == "7.2" else 1)
    assert "keymaps" not in found


def test_nearest() -> None:
    known = ["10.0", "7.2", "11.1", "8.2"]
    assert inferred.nearest(known, (9, 1)) == ["8.2", "7.2", "10.0", "11.1"]
    assert inferred.nearest(known, (6, 2)) == ["7.2", "8.2", "10.0", "11.1"]
