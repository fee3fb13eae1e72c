"""What libvirt said to real QEMUs, said again to the fake: it must answer as they did.

The conversations are in `transcripts`, named after the version of libvirt. An answer must have
the recorded shape, and the recorded values but for what the host or the guest decides.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pytest

from replay import transcript  # isort: skip
from replay.play import Play, emulator_command  # isort: skip

HERE = Path(__file__).parent
NAMES = (path.name.removesuffix(".jsonl.gz") for path in (HERE / "transcripts").iterdir())
TRANSCRIPTS = sorted(NAMES)

#: differences that stay, each with the reason; a transcript in which one is found no more fails
KNOWN: dict[str, tuple[str, ...]] = {
    # the QEMU of the recording had the module for SPICE installed, the profile's has not
    "9.0-probe": ("query-command-line-options.return: no spice",),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_conversation(name: str) -> None:
    said = transcript.read(HERE / "transcripts" / f"{name}.jsonl.gz")
    with tempfile.TemporaryDirectory(prefix="replay-") as directory:
        play = Play(said, Path(directory), emulator_command(said.profile))
        play.run()

    found = Counter(difference.partition(": ")[2] for difference in play.found)
    assert found.keys() == set(KNOWN.get(name, ()))
    assert play.answers > 10
