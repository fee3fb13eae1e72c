"""What the host refuses where commands and objects read and write files."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fakeqemu.io.files import output
from fakeqemu.io.files.image_files import RealFiles
from fakeqemu.io.host import OsHost
from fakeqemu.testing import FakeQemu, QmpError

NOT_LONGER = "ftruncate: Invalid argument"
ARGV = ("-machine", "pc", "-m", "4", "-S", "-display", "none", "-nodefaults")


@pytest.fixture
def nearly_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems with room for two blocks of zeros."""
    room = SimpleNamespace(f_bavail=2, f_frsize=4096)
    monkeypatch.setattr(output.os, "fstatvfs", lambda _fd: room)


async def refusal(vm: FakeQemu, command: str, **arguments: Any) -> str:
    """What is answered; empty for success."""
    try:
        await vm.qmp(command, **arguments)
    except Exception as error:
        return str(error).partition("GenericError: ")[2]
    return ""


@pytest.mark.usefixtures("nearly_full")
def test_zeros_fill_the_room_that_there_is(tmp_path: Path) -> None:
    out = output.create_output(os.open, str(tmp_path / "x"), 0o600)
    with pytest.raises(OSError) as caught:
        out.write([b"head", output.Zeros(1 << 20)])
    out.close()
    assert caught.value.errno == errno.ENOSPC
    assert out.written == (tmp_path / "x").stat().st_size == 3 * 4096


@pytest.mark.usefixtures("nearly_full")
async def test_a_dump_into_a_full_disk_tells_how_far_it_came(tmp_path: Path) -> None:
    async with FakeQemu(*ARGV, profile="10.0") as vm:
        said = await refusal(
            vm, "dump-guest-memory", paging=False, protocol=f"file:{tmp_path / 'x'}"
        )
        found = await vm.qmp("query-dump")
    assert said == "dump: failed to save memory: No space left on device"
    assert (found["status"], found["completed"]) == ("failed", 2 * 4096)


@pytest.mark.parametrize(
    ("room", "text"),
    [
        (0, "dump: failed to write start flat header"),
        (4100, "dump: failed to write disk dump header"),
        (5600, "dump: failed to set dump_bitmap"),
    ],
)
async def test_each_part_of_a_compressed_dump_fails_with_its_own_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, text: str
) -> None:
    real, left = os.write, [room]

    def write(fd: int, data: bytes) -> int:
        if len(data) > left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= len(data)
        return real(fd, data)

    async with FakeQemu(*ARGV, profile="10.0") as vm:
        # of this module only: the loop writes elsewhere
        monkeypatch.setattr(output, "os", SimpleNamespace(**{**vars(os), "write": write}))
        said = await refusal(
            vm, "dump-guest-memory", paging=False, protocol=f"file:{tmp_path / 'x'}",
            format="kdump-zlib",
        )  # fmt: skip
    assert said == text


@pytest.mark.parametrize("command", ["pmemsave", "memsave"])
async def test_saved_memory_does_not_go_to_a_set_of_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def open_path(_host: OsHost, _path: str, flags: int, mode: int) -> int:
        return os.open(tmp_path / "of-the-set", flags, mode)

    monkeypatch.setattr(OsHost, "_open_path", open_path)
    async with FakeQemu(*ARGV, profile="10.0") as vm:
        said = await refusal(vm, command, val=0, size=4096, filename="/dev/fdset/1")
        assert said == "Could not open '/dev/fdset/1': No such file or directory"
        dumped = {"paging": False, "protocol": "file:/dev/fdset/1"}
        assert await refusal(vm, "dump-guest-memory", **dumped) == ""
    assert (tmp_path / "of-the-set").stat().st_size > 4096


@pytest.mark.parametrize(
    ("path", "more", "text"),
    [
        ("", {}, "can't open backing store  for guest RAM: No such file or directory"),
        ("dir/x/", {}, "can't open backing store {} for guest RAM: Is a directory"),
        (
            "dir", {"readonly": True},
            "can't open backing store {} for guest RAM: Is a directory",
        ),
        (
            "full", {"share": True, "prealloc": True},
            "qemu_prealloc_mem: preallocating memory failed: Bad address",
        ),
        ("full", {"prealloc": True}, ""),
    ],
)  # fmt: skip
async def test_files_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, more: Any, text: str
) -> None:
    (tmp_path / "dir").mkdir()
    where = f"{tmp_path}/{path}" if path else ""
    monkeypatch.setattr(RealFiles, "room", lambda _self, _path: 1 << 20)
    arguments = {"qom-type": "memory-backend-file", "id": "m", "size": 2 << 20, **more}
    async with FakeQemu(*ARGV, profile="10.0") as vm:
        said = await refusal(vm, "object-add", **{"mem-path": where, **arguments})
    assert said == text.format(where)


@pytest.mark.parametrize(
    ("type", "path", "text"),
    [
        ("tls-creds-anon", "f", "Unable to access credentials {}/dh-params.pem: Not a directory"),
        ("tls-creds-anon", "missing", ""),
        ("tls-creds-psk", "f", "Unable to access credentials {}/dh-params.pem: Not a directory"),
        (
            "tls-creds-psk", "missing",
            "Unable to access credentials {}/keys.psk: No such file or directory",
        ),
    ],
)  # fmt: skip
async def test_credentials_of_a_server(tmp_path: Path, type: str, path: str, text: str) -> None:
    (tmp_path / "f").write_bytes(b"")
    where = str(tmp_path / path)
    arguments = {"qom-type": type, "id": "t", "dir": where, "endpoint": "server"}
    async with FakeQemu(*ARGV, profile="10.0") as vm:
        assert await refusal(vm, "object-add", **arguments) == text.format(where)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("", "Unable to read : Failed to open file “”: No such file or directory"),
        ("/", "Unable to read /: Error reading file “/”: Is a directory"),
    ],
)
async def test_secrets_of_files(path: str, text: str) -> None:
    async with FakeQemu(*ARGV, profile="10.0") as vm:
        said = await refusal(vm, "object-add", **{"qom-type": "secret", "id": "s", "file": path})
    # GLib says whether opening or reading failed, which the host decides for folders
    assert said == text


async def test_a_socket_whose_name_cannot_be_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlink(path: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    async with FakeQemu(*ARGV, profile="10.0") as vm:
        monkeypatch.setattr(os, "unlink", unlink)
        address = {"type": "unix", "data": {"path": f"{tmp_path}/s"}}
        said = await refusal(vm, "nbd-server-start", addr=address)
        monkeypatch.undo()
    assert said == f"Failed to unlink socket {tmp_path}/s: Read-only file system"


async def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p")
    async with FakeQemu("-machine", "none", profile="10.0") as vm:
        options = {"driver": "file", "filename": f"{tmp_path}/p", "size": 512}
        await vm.qmp("blockdev-create", {"job-id": "j", "options": options})
        await vm.wait_event("JOB_STATUS_CHANGE", status="concluded")
        (job,) = await vm.qmp("query-jobs")
        assert job["error"] == "Could not resize file: Invalid argument"


@pytest.mark.parametrize(("name", "said"), [("p", ""), ("/dev/null", NOT_LONGER)])
async def test_memory_in_what_cannot_be_mapped(tmp_path: Path, name: str, said: str) -> None:
    os.mkfifo(tmp_path / "p")
    async with FakeQemu("-machine", "none", profile="10.0") as vm:
        memory = {"qom-type": "memory-backend-file", "id": "m", "size": 1 << 20}
        with pytest.raises(QmpError, match="to map backing store for guest RAM: No such device"):
            await vm.qmp("object-add", {**memory, "mem-path": str(tmp_path / name)})
        assert vm.stderr.getvalue().splitlines() == ([said] if said else [])


@pytest.mark.parametrize(
    ("version", "text"),
    [("7.2", "unable to map .*: No such device"), ("10.0", "can't open .*: Is a directory")],
)
async def test_memory_that_is_read_from_a_folder(tmp_path: Path, version: str, text: str) -> None:
    async with FakeQemu("-machine", "none", profile=version) as vm:
        memory = {"qom-type": "memory-backend-file", "id": "m", "size": 1 << 20, "readonly": True}
        with pytest.raises(QmpError, match=text):
            await vm.qmp("object-add", {**memory, "mem-path": str(tmp_path)})


async def test_a_socket_without_a_name() -> None:
    async with FakeQemu("-machine", "none", profile="7.2") as vm:
        address = {"type": "unix", "data": {"path": ""}}
        backend = {"type": "socket", "data": {"addr": address, "server": False}}
        with pytest.raises(QmpError, match="Failed to connect to '': Connection refused"):
            await vm.qmp("chardev-add", {"id": "c", "backend": backend})


async def test_how_long_a_path_of_gdbs_server_may_be() -> None:
    async with FakeQemu("-machine", "pc", profile="10.0") as vm:
        line = f"gdbserver unix:{'n' * 200}"
        text = await vm.qmp("human-monitor-command", {"command-line": line})
        assert text.splitlines()[1] == "Path must be less than 108 bytes"
