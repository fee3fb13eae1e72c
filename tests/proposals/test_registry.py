"""Proposals by name: what goes together, what a profile with them is, and who may name one."""

from __future__ import annotations

import dataclasses
import json
from itertools import combinations

import pytest

from fakeqemu.cli import main
from fakeqemu.profile import Profile
from fakeqemu.profile.store import schemas_dir
from fakeqemu.proposals import NAMES, ProposalError, combine, parse, proposal_of
from fakeqemu.testing import FakeQemu
from fakeqemu.traits import Traits


def alone(name: str) -> list[str]:
    """The least set of proposals that has `name` in it."""
    proposal = proposal_of(name)
    needed = [each for need in proposal.requires for each in alone(need)]
    if proposal.needs is not None:
        needed.append("own-option")
    return [*needed, name]


def allowed(names: list[str]) -> bool:
    """Whether these go together."""
    try:
        combine(parse(",".join(names)))
    except ProposalError:
        return False
    return True


PAIRS = [
    [*alone(one), *alone(other)]
    for one, other in combinations(NAMES, 2)
    if allowed([*alone(one), *alone(other)])
]


@pytest.mark.parametrize("version", ["10.0", "11.1", "next"])
@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_had_alone(name, version):
    try:
        profile = Profile.load(version, alone(name))
    except ProposalError as error:
        # what `next` has already contradicts it
        assert version == "next" and "exclude each other" in str(error)
        return
    assert name in [each.proposal.name for each in profile.proposals]
    for part in ("schema", "options", "commands", "option-groups"):
        profile.part(part)
    assert profile.schema.commands
    # next has two of them, and early-reads does by default what is done without it
    if version != "next" and name != "early-reads":
        parts = ("schema", "options", "commands")
        base = Profile.load(version, [each for each in alone(name) if each != name])
        assert dataclasses.asdict(profile.traits) != dataclasses.asdict(base.traits) or any(
            profile.part(part) != base.part(part) for part in parts
        )


@pytest.mark.parametrize("names", PAIRS, ids="+".join)
def test_every_allowed_pair_can_be_had(names):
    profile = Profile.load("11.1", names)
    for part in ("schema", "options", "commands", "option-groups"):
        profile.part(part)
    assert all(info.arg_type for info in profile.schema.commands.values())


def test_order_and_repetition_make_no_other_profile():
    one = Profile.load("11.1", ["local", "incoming-config"])
    assert one is Profile.load("11.1+incoming-config", ["local,local"])
    assert one.name == "11.1+incoming-config+local"
    assert Profile.load("next", ["local"]) is Profile.load("next")


def test_next_is_a_version_with_proposals():
    names = [each.proposal.name for each in Profile.load("next").proposals]
    assert names == ["incoming-config", "local"]
    assert Profile.load("11.1").proposals == ()
    assert not Profile.load("11.1").traits.early_parameters


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("7.2+local", "no proposals for profile '7.2'"),
        ("11.1+loca", "no proposal 'loca', did you mean 'local'?"),
        ("11.1+local:x=1", "proposal 'local': no switch 'x'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(name, text, capsys):
    with pytest.raises(ProposalError, match=text):
        Profile.load(name)
    assert main(["run", "--profile", name, "--", "-version"]) == 2
    assert text in capsys.readouterr().err


def test_each_is_described_and_sets_traits_that_exist():
    known = set(Traits.__dataclass_fields__)
    for name in NAMES:
        proposal = proposal_of(name)
        assert proposal.name == name
        assert proposal.summary
        assert proposal.status in ("posted", "described")
        choices = {switch: about.values[0] for switch, about in proposal.switches.items()}
        assert set(proposal.traits(choices)) <= known
        assert {*proposal.requires, *proposal.excludes} <= set(NAMES)
        for reason in proposal.excludes.values():
            assert reason


def test_no_file_without_a_proposal():
    files = sorted((schemas_dir() / "proposals").glob("*.json"))
    assert files
    for file in files:
        assert file.stem in NAMES
        for rule in json.loads(file.read_text("utf-8"))["rules"]:
            switches = proposal_of(file.stem).switches
            assert all(v in switches[k].values for k, v in rule.get("with", {}).items())


def test_the_command_lists_them(capsys):
    assert main(["proposals"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{out}" for name in NAMES)


@pytest.mark.parametrize("runner", ["loop", "thread", "process", "fork"])
async def test_every_runner_has_them(runner):
    async with FakeQemu(
        "-machine", "none", profile="11.1", proposals=["local"], runner=runner, deadline=60
    ) as vm:
        assert (await vm.qmp("query-migrate-parameters"))["local"] is False


def test_an_emulator_is_written_with_them(tmp_path):
    assert main(["emulator", str(tmp_path), "--profile", "11.1", "--proposal", "local"]) == 0
    assert "11.1+local" in (tmp_path / "qemu-system-x86_64").read_text("utf-8")


async def test_files_name_them_with_the_profile(tmp_path):
    scenario = tmp_path / "s.toml"
    scenario.write_text('profile = "11.1+local"\noptions = ["-machine", "none"]\n')
    async with FakeQemu(scenario=scenario) as vm:
        assert (await vm.qmp("query-migrate-parameters"))["local"] is False
    scenario.write_text('profile = "11.1+locl"\n')
    with pytest.raises(ValueError, match="did you mean 'local'"):
        FakeQemu(scenario=scenario)
