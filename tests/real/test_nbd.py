"""Real NBD clients at our server, and what a real server says to the same client."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fakeqemu.profile import Profile
from tests.support.nbd import (
    CACHE,
    EXTENDED_HEADERS,
    FLUSH,
    GO,
    INFO,
    LIST,
    LIST_META,
    READ,
    SET_META,
    STATUS,
    STRUCTURED_REPLY,
    TRIM,
    WRITE,
    ZEROES,
    Server,
    go,
    meta,
)
from tests.support.processes import fake
from tests.support.real import RealQemu

KB, MB = 1 << 10, 1 << 20


def prepare(server: Server, folder: Path) -> Path:
    """An image over another, with bitmaps, exported; the socket."""
    image = folder / "top.qcow2"
    file = {"driver": "file", "filename": str(image)}
    made = server.ask("blockdev-add", driver="qcow2", node_name="t", file=file)
    assert made == {"return": {}}
    for name, granularity in (("b1", 64 * KB), ("b2", 32 * KB)):
        server.ask("block-dirty-bitmap-add", node="t", name=name, granularity=granularity)
    path = folder / "nbd"
    server.ask("nbd-server-start", addr={"type": "unix", "data": {"path": str(path)}})
    added = server.ask(
        "block-export-add", type="nbd", id="t", node_name="t", name="top", writable=True,
        bitmaps=["b1", {"node": "t", "name": "b2"}], allocation_depth=True, description="it",
    )  # fmt: skip
    assert added == {"return": {}}
    return path


def images(folder: Path, qemu_img: Path) -> None:
    base, top = folder / "base.qcow2", folder / "top.qcow2"
    base.unlink(missing_ok=True)
    top.unlink(missing_ok=True)
    run = [str(qemu_img), "create", "-q", "-f", "qcow2"]
    subprocess.run([*run, str(base), "4M"], check=True)
    io = ["qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", "-c", "write -z 3M 128k"]
    subprocess.run([*io, str(base)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*run, "-b", str(base), "-F", "qcow2", str(top), "6M"], check=True)


def test_a_real_client_maps_a_bitmap_and_copies(
    qemu_img: Path, folder: Path, program: Callable[[str], str]
) -> None:
    for each in ("nbdinfo", "nbdcopy"):
        program(each)
    images(folder, qemu_img)
    server = Server(fake("10.0"), folder)
    try:
        path = prepare(server, folder)
        uri = f"nbd+unix:///top?socket={path}"
        talk = server.talk(path)
        talk.option(GO, go("top"))
        talk.request(WRITE, 2 * MB, 4, 0, b"data")

        def mapped(context: str) -> list[tuple[int, int, int]]:
            done = subprocess.run(
                ["nbdinfo", "--json", f"--map={context}", uri],
                check=True, capture_output=True, timeout=60,
            )  # fmt: skip
            found = json.loads(done.stdout)
            return [(each["offset"], each["length"], each["type"]) for each in found]

        assert mapped("qemu:dirty-bitmap:b2") == [
            (0, 2 * MB, 0), (2 * MB, 32 * KB, 1), (2 * MB + 32 * KB, 4 * MB - 32 * KB, 0)
        ]  # fmt: skip
        assert (2 * MB, 64 * KB, 1) in mapped("qemu:allocation-depth")
        subprocess.run(["nbdcopy", uri, str(folder / "copy")], check=True, timeout=60)
        copied = (folder / "copy").read_bytes()
        assert copied[: 2 * MB + 4] == b"\1" * MB + bytes(MB) + b"data"
        done = subprocess.run(
            [qemu_img, "map", "--output=json", "--image-opts",
             f"driver=nbd,server.type=unix,server.path={path},export=top,"
             "x-dirty-bitmap=qemu:dirty-bitmap:b1"],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        dirty = [each for each in json.loads(done.stdout) if not each["data"]]
        assert [(each["start"], each["length"]) for each in dirty] == [(2 * MB, 64 * KB)]
    finally:
        server.stop()


def test_a_real_server_says_the_same(
    real_qemu: RealQemu, profile: Profile, qemu_img: Path, folder: Path
) -> None:
    said = []
    for command in ([real_qemu.binary], fake(profile.name)):
        images(folder, qemu_img)
        server = Server(command, folder)
        try:
            said.append(conversation(server, folder))
        finally:
            server.stop()
    assert said[1] == said[0]


def conversation(server: Server, folder: Path) -> list[Any]:
    """What a server says to a client that asks for all there is, and for some that is not."""
    path = prepare(server, folder)
    everything = [
        "base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b1", "qemu:dirty-bitmap:b2"
    ]  # fmt: skip
    said: list[Any] = []
    for extended in (False, True):
        talk = server.talk(path)
        said.append(talk.greeting)
        agreed = False
        for option, data in (
            (LIST, b"x"), (LIST, b""), (5, b""), (4, b""), (99, b"zz"), (INFO, go("nope")),
            (INFO, go("x" * 100)), (INFO, b""), (INFO, go("top", 1, 2, 3, 9)),
            (INFO, go("top") + b"x"), (LIST_META, meta("top")),
            (LIST_META, meta("top", "base:", "qemu:dirty-bitmap:")),
            (SET_META, meta("top", "base:allocation")), (LIST_META, meta("nope")),
            (EXTENDED_HEADERS if extended else STRUCTURED_REPLY, b""), (STRUCTURED_REPLY, b""),
            (SET_META, meta("top", "base:", "qemu:")), (SET_META, meta("top", *everything)),
            (SET_META, b"\0\0\0\3top\0\0\0\5"), (SET_META, b"\0\0\0\3t\0p\0\0\0\5"),
            (SET_META, meta("top", *everything)), (GO, go("top", 3, 1)),
        ):  # fmt: skip
            said.append((option, data, talk.option(option, data)))
            agreed = agreed or (option == EXTENDED_HEADERS and said[-1][2] == [(1, b"")])
        for request in (
            (STATUS, 0, 6 * MB), (STATUS, 0, 6 * MB, 8), (STATUS, 600000, 100000), (STATUS, 0, 0),
            (STATUS, 0, 7 * MB), (READ, 0, 64 * KB), (READ, 0, 6 * MB), (READ, 500000, 200000, 4),
            (READ, 0, 0), (READ, 6 * MB, 1), (READ, 0, 512, 16), (WRITE, 65536, 4, 0, b"abcd"),
            (WRITE, 6 * MB - 1, 2, 0, b"ab"), (WRITE, 0, 2, 8, b"ab"), (STATUS, 0, 6 * MB),
            (ZEROES, 2 * MB, 64 * KB), (ZEROES, 2 * MB, 64 * KB, 16), (TRIM, 0, 64 * KB),
            (FLUSH,), (CACHE, 2 * MB, 64 * KB), (9,), (STATUS, 0, 6 * MB), (READ, 0, 33 * MB),
            (STATUS, 5, 10, 9), (ZEROES, 0, 7 * MB),
        ):  # fmt: skip
            said.append((request, talk.request(*request, extended=agreed)))
    said.append(server.ask("block-export-del", id="t"))
    said.append(server.ask("nbd-server-stop"))
    said.append(server.events)
    return said
