"""What is accepted has an effect, or its reason to have none.

Plays the conformance records, the examples of the documentation and random input of one seed.
A member that shows up here as never read, only checked or only shown is new in that: give it its
effect, refuse it as not modelled, or say why in `scripts/effect_reasons.json`; then run
`scripts/find_unread --write` and `scripts/make_coverage`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from effect.account import Account, Reasons, measured  # noqa: E402
from effect.static import refused_options, unnamed_arguments, unread_options  # noqa: E402

from fakeqemu.profile import Profile  # noqa: E402
from fakeqemu.qapi.reads import CLASSES, EFFECT  # noqa: E402

VERSIONS = ("7.2", "10.0", "11.1")


@pytest.mark.skipif(
    "FAKEQEMU_MEASURE_EFFECTS" not in os.environ, reason="takes a minute of each version"
)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_accepted_member_has_an_effect_or_is_listed(version):
    account = Account.load()
    found = measured(Profile.load(version), rounds=4)
    assert sum(kind == EFFECT for kind in found.values()) > 500, "hardly anything was played"

    unlisted = {
        member: kind
        for member, kind in found.items()
        if kind != EFFECT
        and not any(
            CLASSES.index(listed) <= CLASSES.index(kind)
            for listed in account.members.get(member, ())
        )
    }
    assert not unlisted


def test_every_listed_member_has_its_reason():
    account, reasons = Account.load(), Reasons.load()
    assert account.members

    without = [
        (member, kind)
        for member, kinds in account.members.items()
        for kind in kinds
        if reasons.of(member, kind) is None
    ]
    assert not without


def test_every_reason_is_about_something():
    account, reasons = Account.load(), Reasons.load()

    assert not reasons.unused(account.members)


@pytest.mark.parametrize("version", VERSIONS)
def test_options_that_nobody_reads_are_listed(version):
    account = Account.load()

    assert [name for name in unread_options(Profile.load(version))
            if f"-{name}" not in account.members] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_arguments_that_no_function_names_are_listed(version):
    """Commands that refuse whatever is given have no use for their arguments."""
    reasons = Reasons.load()

    assert [name for name in unnamed_arguments(Profile.load(version))
            if reasons.of(name, "none") is None] == []


def test_options_that_are_judged_and_then_refused_are_found():
    assert refused_options() == {"chroot", "dump-vmstate", "plugin", "spice"}
