"""qcow2 images encrypted by LUKS: the keys, what is written, and what is refused."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.formats import aes, luks
from fakeqemu.formats.qcow2.check import repair
from fakeqemu.model.block.drivers import base
from fakeqemu.qapi.errors import NotModelledError, QapiError
from tests.support.machines import BlockMachine

MB = 1 << 20
FAST = {"format": "luks", "key-secret": "s", "cipher-alg": "aes-128", "cipher-mode": "cbc",
        "hash-alg": "sha1", "iter-time": 10}  # fmt: skip
PLAIN = int("00112233445566778899aabbccddeeff", 16)


@pytest.mark.parametrize(
    ("length", "sealed"),
    [  # FIPS 197, appendix C
        (16, "69c4e0d86a7b0430d8cdb78070b4c55a"),
        (24, "dda97ca4864cdfe06eaf70a0ec0d7191"),
        (32, "8ea2b7ca516745bfeafc49904b496089"),
    ],
)
def test_one_block(length: int, sealed: str) -> None:
    cipher = aes.Aes(bytes(range(length)))
    assert f"{cipher.encrypt(PLAIN):032x}" == sealed
    assert cipher.decrypt(int(sealed, 16)) == PLAIN


def test_xts() -> None:
    # IEEE 1619, vector 2
    one, two = aes.Aes(b"\x11" * 16), aes.Aes(b"\x22" * 16)
    iv = int.from_bytes((0x3333333333).to_bytes(16, "little"), "big")
    sealed = aes.xts(two, one.encrypt, iv, b"\x44" * 32)
    assert sealed.hex() == "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0"
    assert aes.xts(two, one.decrypt, iv, sealed) == b"\x44" * 32


@pytest.mark.parametrize(
    "options",
    [{}, {"cipher-alg": "aes-128", "cipher-mode": "cbc", "ivgen-alg": "plain"},
     {"cipher-alg": "aes-192", "cipher-mode": "cbc", "hash-alg": "sha512"}],
)  # fmt: skip
def test_a_passphrase_opens_what_was_made_with_it(options: dict[str, Any]) -> None:
    made = luks.create({"iter-time": 10, **options}, "word", "u" * 36, random.Random(1).randbytes)

    def read(at: int, count: int) -> bytes:
        return made[at : at + count]

    header = luks.parse(read)
    assert header.cipher == options.get("cipher-alg", "aes-256")
    assert header.payload * 512 == len(made)
    cipher = luks.unlock(header, read, "word")
    sealed = cipher.encrypt(5, b"\1" * 1024)
    assert luks.unlock(header, read, "word").decrypt(5, sealed) == b"\1" * 1024
    assert cipher.decrypt(6, sealed[512:]) == b"\1" * 512 != cipher.decrypt(5, sealed[512:])
    with pytest.raises(QapiError, match="Invalid password, cannot unlock any keyslot"):
        luks.unlock(header, read, "other")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"payload": 7}, "LUKS payload is overlapping with the header"),
        ({"iterations": 0}, "LUKS key iteration count is zero"),
        ({"slot": {"iterations": 0}}, "Keyslot 0 iteration count is zero"),
        ({"slot": {"offset": 7}}, "Keyslot 0 is overlapping with the LUKS header"),
        ({"payload": 500}, "Keyslot 3 is overlapping with the encrypted payload"),
        ({"slot": {"offset": 9}}, "Keyslots 0 and 1 are overlapping in the header"),
        ({"slot": {"stripes": 1}}, r"Keyslot 0 is corrupted \(stripes 1 != 4000\)"),
        ({"slot": {"iterations": 1 << 31}}, "LUKS with 2147483648 iterations"),
    ],
)
def test_headers_that_cannot_be(change: dict[str, Any], text: str) -> None:
    options = {"cipher-alg": "aes-128", "cipher-mode": "cbc", "iter-time": 10}
    made = luks.create(options, "word", "u" * 36, random.Random(1).randbytes)
    header = luks.parse(lambda at, count: made[at : at + count])
    for name, value in change.items():
        for inner, number in value.items() if name == "slot" else ():
            setattr(header.slots[0], inner, number)
        if name != "slot":
            setattr(header, name, value)
    changed = header.pack() + made[len(header.pack()) :]

    def read(at: int, count: int) -> bytes:
        return changed[at : at + count]

    with pytest.raises(QapiError, match=text):
        luks.unlock(luks.parse(read), read, "word")


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (-5, "PBKDF iterations [0-9]+ too large to scale: Numerical result out of range"),
        (1 << 62, "PBKDF iterations [0-9]+ too large to scale: Numerical result out of range"),
        (1 << 28, "PBKDF iterations [0-9]+ larger than 4294967295: Numerical result out of range"),
    ],
)
def test_times_that_are_too_long(machine: Any, time: int, text: str) -> None:
    assert re.fullmatch(text, made(machine, **{"iter-time": time}) or "")


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(QapiError, match="Volume is not in LUKS format"):
        luks.parse(lambda _at, count: bytes(count))
    for wrong in ({"cipher-alg": "twofish-128"}, {"ivgen-alg": "essiv"}, {"hash-alg": "md5"}):
        with pytest.raises(NotModelledError):
            luks.check_options({"key-secret": "s", **wrong})


def made(machine: Any, **encrypt: Any) -> str | None:
    """An encrypted image /f in node `f`; what went wrong."""
    machine.ask("object-add", qom_type="secret", id="s", data="word")
    machine.ask("object-add", qom_type="secret", id="w", data="wrong")
    machine.vm.host.files.put("/f", b"")
    machine.add("file", "f", filename="/f")
    options = {"driver": "qcow2", "file": "f", "size": MB, "encrypt": {**FAST, **encrypt}}
    machine.ask("blockdev-create", job_id="j", options=options)
    (job,) = machine.ask("query-jobs")
    machine.ask("job-dismiss", id="j")
    error: str | None = job.get("error")
    return error


def opened(machine: Any, secret: str = "s") -> Any:
    machine.add("qcow2", "q", file="f", encrypt={"format": "luks", "key-secret": secret})
    return machine.vm.block.graph.nodes["q"]


def test_data_are_encrypted_in_the_file_and_read_again(machine: Any) -> None:
    assert made(machine) is None
    q = opened(machine)
    base.write(q, 1000, b"secret" * 100)
    base.write(q, 65536 - 3, b"border")
    assert base.read(q, 1000, 600) == b"secret" * 100
    file = machine.vm.host.files.open("/f", writable=False)
    assert b"secret" not in file.read(0, file.size())
    repair(q.driver.image)
    machine.ask("blockdev-del", node_name="q")
    q = opened(machine)
    assert base.read(q, 999, 602) == b"\0" + b"secret" * 100 + b"\0"
    assert base.read(q, 65536 - 4, 8) == b"\0border\0"
    shown = machine.node("q")
    told = shown["image"]["format-specific"]["data"]["encrypt"]
    assert shown["encrypted"]
    assert (told["format"], told["cipher-alg"], told["payload-offset"]) == (
        "luks", "aes-128", 528384,
    )  # fmt: skip
    assert [slot["active"] for slot in told["slots"]] == [True] + [False] * 7


def test_the_key_is_needed(machine: Any) -> None:
    assert made(machine) is None
    text = machine.refusal_of_add("qcow2", "q", file="f")
    assert text == "Parameter 'encrypt.key-secret' is required for cipher"
    with pytest.raises(QapiError, match="Invalid password, cannot unlock any keyslot"):
        opened(machine, "w")
    with pytest.raises(QapiError, match="No secret with id 'none'"):
        opened(machine, "none")


def test_it_stays_open_when_another_process_had_it(machine: Any) -> None:
    assert made(machine) is None
    q = opened(machine)
    base.write(q, 0, b"abc")
    for active in (False, True):
        machine.ask("blockdev-set-active", node_name="q", active=active)
    assert base.read(q, 0, 3) == b"abc"


@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="needs qemu-io")
def test_qemu_reads_what_was_written(tmp_path: Path) -> None:
    from fakeqemu.io.files.image_files import RealFiles

    path = tmp_path / "f"
    path.write_bytes(b"")
    machine = BlockMachine(RealFiles())
    machine.ask("object-add", qom_type="secret", id="s", data="word")
    machine.add("file", "f", filename=str(path))
    encrypt = {"format": "luks", "key-secret": "s", "iter-time": 10}
    options = {"driver": "qcow2", "file": "f", "size": MB, "encrypt": encrypt}
    machine.ask("blockdev-create", job_id="j", options=options)
    base.write(opened(machine), 1000, b"\7" * 600)
    machine.ask("blockdev-del", node_name="q")
    machine.ask("blockdev-del", node_name="f")
    image = f"driver=qcow2,encrypt.key-secret=s,file.filename={path}"
    said = subprocess.run(
        ["qemu-io", "--object", "secret,id=s,data=word", "--image-opts", image,
         "-c", "read -P 7 1000 600", "-c", "read -P 0 2k 100k"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "read 600/600" in said.stdout
    assert "failed" not in said.stdout + said.stderr
