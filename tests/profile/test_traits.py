"""Traits of versions that are in no table: by the release in which each changed, else guessed."""

from __future__ import annotations

import pytest

from fakeqemu.traits import TRAITS, Traits, dates, traits_between, traits_of


def changed(older: str, newer: str) -> set[str]:
    names = Traits.__dataclass_fields__
    return {n for n in names if getattr(TRAITS[older], n) != getattr(TRAITS[newer], n)}


def test_of_the_table_and_beyond() -> None:
    assert traits_of("10.0", (10, 0)) is TRAITS["10.0"]
    assert traits_of("./mine", (10, 0)) is TRAITS["10.0"]
    assert traits_of("./mine", (5, 2)) is TRAITS["7.2"]
    assert traits_of("./mine", (12, 0)) is TRAITS["11.1"]


@pytest.mark.parametrize("name", dates.SINCE)
def test_every_date_is_of_a_change(name: str) -> None:
    """In the gap that the release is in."""
    release = dates.SINCE[name]
    older, newer = ("7.2", "10.0") if release <= (10, 0) else ("10.0", "11.1")
    assert name in changed(older, newer)


def test_in_between() -> None:
    older, newer = TRAITS["7.2"], TRAITS["10.0"]
    found = traits_between((8, 1))
    assert not isinstance(found, Traits)
    for name in changed("7.2", "10.0"):
        since = dates.SINCE.get(name, (10, 0))
        expected = newer if since <= (8, 1) else older
        assert getattr(found.traits, name) == getattr(expected, name)
    assert set(found.dated) == {n for n, since in dates.SINCE.items() if since <= (10, 0)}
    assert set(found.dated) | set(found.guessed) == changed("7.2", "10.0")


def test_a_date_is_of_one_change() -> None:
    """What changed before 10.0 and again after it is not known to have changed by 10.1."""
    assert "fd_to_file" in changed("7.2", "10.0") & changed("10.0", "11.1")
    found = traits_between((10, 1))
    assert not isinstance(found, Traits)
    assert found.traits.fd_to_file == TRAITS["10.0"].fd_to_file
    assert "fd_to_file" in found.guessed and "fd_to_file" not in found.dated


def test_what_a_real_8_2_showed() -> None:
    traits = traits_of("8.2", (8, 2))
    assert (traits.incoming_setup_state, traits.suspend_survives_stop) == (True, False)
    assert traits_of("./mine", (9, 0)).suspend_survives_stop
