"""The state of a TPM emulator goes along with a migration, into the emulator at the other end."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.testing import FakeQemu
from tests.support.tpm import GET_BLOB, INIT, LOCK, SET_BLOB, STOP, ScriptedTpm
from tests.support.waiting import until_elsewhere

BLOBS = {1: b"permanent" * 400, 2: b"volatile", 3: b""}
DELETE_VOLATILE = 1
DECRYPTED = 1
MACHINE = ("-machine", "q35", "-nodefaults")
DEVICE = ("-device", "tpm-tis,tpmdev=t,id=d")


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fq-", dir="/tmp") as made:
        yield Path(made)


@pytest.fixture
def emulator(folder: Path) -> Iterator[Callable[..., ScriptedTpm]]:
    """Makes emulators by name; they are closed in the end."""
    with contextlib.ExitStack() as made:

        def make(name: str, **options: Any) -> ScriptedTpm:
            (folder / name).mkdir()
            tpm = ScriptedTpm(folder / name, **options)
            made.callback(tpm.close)
            return tpm

        yield make


async def ended(vm: FakeQemu) -> str:
    """Status of a migration that is over."""
    over = ("completed", "failed")
    await until_elsewhere(
        lambda: any(entry.name in over for entry in vm.journal.of("migration")),
        "the migration's end",
    )
    status: str = (await vm.qmp("query-migrate"))["status"]
    return status


async def migrate(src: FakeQemu, uri: str) -> str:
    await src.qmp("migrate", uri=uri)
    return await ended(src)


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
async def test_it_arrives(folder: Path, emulator: Any, profile: str) -> None:
    there, here = emulator("src", blobs=BLOBS), emulator("dst")
    uri = f"unix:{folder}/m"
    argv = (*MACHINE, *here.argv, *DEVICE, "-incoming", uri)
    async with (
        FakeQemu(*argv, profile=profile) as dst,
        FakeQemu(*MACHINE, *there.argv, *DEVICE, profile=profile) as src,
    ):
        assert (INIT, 0) not in here.asked
        assert await migrate(src, uri) == "completed"
        assert await ended(dst) == "completed"
        assert [ask for ask in there.asked if ask[0] == GET_BLOB] == [
            (GET_BLOB, DECRYPTED, kind, 0) for kind in BLOBS
        ]
        assert here.asked[-4:] == [
            (STOP,),
            (SET_BLOB, 0, 1, len(BLOBS[1])),
            (SET_BLOB, 0, 2, len(BLOBS[2])),
            (INIT, DELETE_VOLATILE),
        ]
        assert here.blobs == {1: BLOBS[1], 2: BLOBS[2]}


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
async def test_the_stream_describes_it(folder: Path, emulator: Any, profile: str) -> None:
    there = emulator("src", blobs=BLOBS)
    async with FakeQemu(*MACHINE, *there.argv, *DEVICE, profile=profile) as src:
        assert await migrate(src, f"exec:cat >{folder}/m") == "completed"
    stream = (folder / "m").read_bytes()
    assert b"\x0ctpm-emulator" + bytes(8) + bytes(4) + len(BLOBS[1]).to_bytes(4, "big") in stream
    assert b'"state_blobs.permanent.buffer"' in stream


@pytest.mark.parametrize(("profile", "times"), [("7.2", 1), ("10.0", 2), ("11.1", 1)])
async def test_one_that_has_gone_fails_the_migration(
    folder: Path, emulator: Any, profile: str, times: int
) -> None:
    there = emulator("src", hangs_up_at=GET_BLOB)
    async with FakeQemu(*MACHINE, *there.argv, *DEVICE, profile=profile) as src:
        assert await migrate(src, "exec:cat >/dev/null") == "failed"
        shown = (await src.qmp("query-migrate")).get("error-desc")
        assert shown == (None if profile == "7.2" else "pre-save failed: tpm-emulator")
        assert (await src.qmp("query-status"))["status"] == "running"
        errors = src.stderr.getvalue()
    assert errors.count("pre-save failed: tpm-emulator") == times
    assert errors.count("tpm-emulator: could not get state blob type 1") == 1


async def test_a_guest_that_goes_on_has_its_storage_locked_again(
    folder: Path, emulator: Any
) -> None:
    there = emulator("src", blobs=BLOBS, capabilities=0x1FFFF)
    async with FakeQemu(*MACHINE, *there.argv, *DEVICE, profile="10.0") as src:
        assert await migrate(src, "exec:cat >/dev/null") == "completed"
        assert there.asked[-1] == (GET_BLOB, DECRYPTED, 3, 0)
        await src.qmp("cont")
        assert there.asked[-1] == (LOCK, 300)


WHERE = "error while loading state for instance 0x0 of device 'tpm-emulator'"
HOOK = "post load hook failed for: tpm-emulator, version_id: 0, minimum_version: 0"
SET_FAILED = (
    "tpm-emulator: Setting the stateblob (type 1) failed with a TPM error 0x9 operation failed"
)


@pytest.mark.parametrize(
    ("profile", "command", "said"),
    [
        ("7.2", SET_BLOB, [SET_FAILED, WHERE, "load of migration failed: Input/output error"]),
        ("11.1", SET_BLOB, [
            f"load of migration failed: Invalid argument: {WHERE}: {HOOK}: {SET_FAILED}"]),
        ("10.0", INIT, ["tpm-emulator: TPM result for CMD_INIT: 0x9 operation failed", WHERE,
                        "load of migration failed: Input/output error"]),
    ],
)  # fmt: skip
async def test_one_that_does_not_take_it_ends_the_destination(
    folder: Path,
    emulator: Any,
    profile: str,
    command: int,
    said: list[str],
) -> None:
    there = emulator("src", blobs=BLOBS)
    here = emulator("dst", results={command: 9})
    uri = f"unix:{folder}/m"
    dst = FakeQemu(*MACHINE, *here.argv, *DEVICE, "-incoming", uri, profile=profile)
    async with dst, FakeQemu(*MACHINE, *there.argv, *DEVICE, profile=profile) as src:
        await src.qmp("migrate", uri=uri)
        assert await dst.wait_exit() == 1
        errors = dst.stderr.getvalue().splitlines()
    assert [line.split(": ", 1)[1] for line in errors][: len(said)] == said
    here.close()
    assert here.asked[-1][0] == command


async def test_a_destination_without_one_refuses_it(folder: Path, emulator: Any) -> None:
    there = emulator("src", blobs=BLOBS)
    uri = f"unix:{folder}/m"
    dst = FakeQemu(*MACHINE, "-incoming", uri, profile="10.0")
    async with dst, FakeQemu(*MACHINE, *there.argv, profile="10.0") as src:
        await src.qmp("migrate", uri=uri)
        assert await dst.wait_exit() == 1
        assert "Unknown savevm section or instance 'tpm-emulator' 0" in dst.stderr.getvalue()
