"""What lies in deploy/ starts the right shard."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from fakeqemu.testing.fleet.file import FleetFile, parse_shard

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_example_is_a_fleet() -> None:
    assert len(FleetFile.load(DEPLOY / "fleet.toml").members) == 1000


def test_the_set_has_as_many_shards_as_replicas(tmp_path: Path) -> None:
    text = (DEPLOY / "statefulset.yaml").read_text()
    replicas, shards = re.search(r"replicas: (\d+)", text), re.search(r'value: "(\d+)"', text)
    assert replicas and shards
    assert replicas[1] == shards[1]
    told = re.search(r"fleet\.toml: \|\n((?:    .*\n|\n)+)---", text)
    assert told
    file = tmp_path / "fleet.toml"
    file.write_text(re.sub(r"^    ", "", told[1], flags=re.M))
    assert len(FleetFile.load(file).shard(0, int(shards[1])).members) == 1000


@pytest.mark.parametrize(
    ("host", "shards", "wanted"),
    [("fleet-3", "4", "3/4"), ("fleet-0", "1", "0/1"), ("x", "2", "0/2")],
)
def test_a_pods_ordinal_is_its_shard(tmp_path: Path, host: str, shards: str, wanted: str) -> None:
    command = tmp_path / "fakeqemu"
    command.write_text('#!/bin/sh\necho "$@"\n')
    command.chmod(0o755)
    done = subprocess.run(
        [DEPLOY / "fleet-shard", "f.toml"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOSTNAME": host, "SHARDS": shards},
        capture_output=True, text=True, timeout=10, check=True,
    )  # fmt: skip
    words = done.stdout.split()
    assert words[:2] == ["fleet", "f.toml"]
    assert words[words.index("--shard") + 1] == wanted
    parse_shard(wanted)


def test_the_image_runs_one_machine_too(tmp_path: Path) -> None:
    command = tmp_path / "fakeqemu"
    command.write_text('#!/bin/sh\necho "$@"\n')
    command.chmod(0o755)
    done = subprocess.run(
        [DEPLOY / "fleet-shard", "run", "--profile", "10.0", "--", "-machine", "q35"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=10, check=True,
    )  # fmt: skip
    assert done.stdout == "run --profile 10.0 -- -machine q35\n"
    assert 'ENTRYPOINT ["/usr/local/bin/fleet-shard"]' in (DEPLOY / "Containerfile").read_text()


def test_the_unit_takes_its_instance() -> None:
    text = (DEPLOY / "fakeqemu-fleet@.service").read_text()
    assert "--shard %i/${SHARDS}" in text
    assert "Type=notify" in text
