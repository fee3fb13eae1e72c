"""What the host refuses: a full file system, a length that no file can have."""

from __future__ import annotations

import errno
import os

import pytest

from fakeqemu.model.block.files import MemoryFile, MemoryFiles


class FullFile(MemoryFile):
    """A file in which nothing has room beyond the first `room` bytes, at `path`."""

    room = 1 << 62
    #: what the host says
    error = errno.ENOSPC

    def _fits(self, end: int) -> None:
        if end > FullFile.room:
            raise OSError(FullFile.error, os.strerror(FullFile.error))

    def write(self, offset: int, data: bytes) -> None:
        """Write, or fail."""
        self._fits(offset + len(data))
        super().write(offset, data)

    def allocate(self, offset: int, count: int) -> None:
        """Have room, or fail."""
        self._fits(offset + count)
        super().allocate(offset, count)


class FullFiles(MemoryFiles):
    """Files in memory of which those called `/full...` have little room."""

    def open(self, path: str, *, writable: bool, create: bool = False) -> MemoryFile:
        """Open a file."""
        file = super().open(path, writable=writable, create=create)
        assert isinstance(file, MemoryFile)
        return FullFile(file._content, writable) if path.startswith("/full") else file


@pytest.fixture
def full(monkeypatch):
    """Sets how much room there is, and what the host says when there is none."""

    def set_room(room: int, error: int = errno.ENOSPC) -> None:
        monkeypatch.setattr(FullFile, "room", room)
        monkeypatch.setattr(FullFile, "error", error)

    return set_room


@pytest.fixture
def files():
    """Where the machine's images are."""
    return FullFiles()


@pytest.fixture
def machine(start, files):
    """A machine over `FullFiles`, with a node of data that is no zeros."""
    files.put("/data", bytes(range(1, 129)) * 8192)
    running = start()
    running.add("raw", "data", file={"driver": "file", "filename": "/data"})
    return running


@pytest.mark.parametrize(
    ("mode", "room", "text"),
    [
        ("falloc", 0, "Could not preallocate new data: No space left on device"),
        ("full", 1 << 19, "Could not write zeros for preallocation: No space left on device"),
        ("metadata", 0, "Unsupported preallocation mode: metadata"),
    ],
)
def test_a_file_that_cannot_be_preallocated_is_empty(machine, full, mode, room, text):
    full(room)
    options = {"driver": "file", "filename": "/full", "size": 1 << 20, "preallocation": mode}
    machine.ask("blockdev-create", job_id="j", options=options)
    (job,) = machine.ask("query-jobs")
    assert (job["status"], job["error"]) == ("concluded", text)
    assert machine.vm.host.files.open("/full", writable=False).size() == 0


@pytest.mark.parametrize(
    ("room", "text"),
    [
        (0, "Could not write qcow2 header: No space left on device"),
        (1 << 16, "Could not write refcount table: No space left on device"),
        (
            3 << 16,
            "Could not resize image: Failed to grow the L1 table: No space left on device",
        ),
    ],
)
def test_half_an_image_is_removed(machine, full, room, text):
    full(room)
    assert machine.desc(
        "drive-backup", device="data", target="/full", format="qcow2", sync="full", job_id="k"
    ) == text
    assert "/full" not in machine.vm.host.files.names()
    assert machine.ask("query-jobs") == []


def test_a_job_pauses_for_want_of_room_and_goes_on(machine, full):
    full(1 << 19)
    machine.ask(
        "drive-backup", device="data", target="/full", format="raw", sync="full", job_id="k",
        on_target_error="enospc",
    )  # fmt: skip
    (job,) = machine.ask("query-block-jobs")
    assert (job["io-status"], job["paused"]) == ("nospace", True)
    assert ("BLOCK_JOB_ERROR", {"device": "k", "operation": "write", "action": "stop"}) in (
        machine.events
    )
    full(1 << 20)
    machine.ask("block-job-resume", device="k")
    files = machine.vm.host.files
    assert files.open("/full", writable=False).read(0, 1 << 20) == (
        files.open("/data", writable=False).read(0, 1 << 20)
    )


def test_an_error_that_is_no_want_of_room_ends_the_job(machine, full):
    full(1 << 19, errno.EFBIG)
    machine.ask(
        "drive-backup", device="data", target="/full", format="raw", sync="full", job_id="k",
        on_target_error="enospc",
    )  # fmt: skip
    ended = [data for name, data in machine.events if name == "BLOCK_JOB_COMPLETED"]
    assert [data["error"] for data in ended] == ["File too large"]


def test_writes_that_failed_are_reported(machine, full):
    machine.ask("blockdev-create", job_id="j", options={
        "driver": "file", "filename": "/full", "size": 1 << 20,
    })  # fmt: skip
    machine.add("raw", "target", file={"driver": "file", "filename": "/full"})
    full(0)
    machine.hmp('qemu-io target "write 0 4k"')
    assert "write failed: No space left on device" in machine.vm.host.printed


LONGEST = 9223372035781033984


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (LONGEST + 512, f"offset({LONGEST + 512}) exceeds maximum({LONGEST})"),
        (1 << 63, "Image size cannot be negative"),
        (LONGEST, "Failed to grow the L1 table: File too large"),
    ],
)
def test_images_have_a_longest_length(machine, size, text):
    machine.ask("blockdev-create", job_id="j", options={
        "driver": "qcow2", "file": "data", "size": size,
    })  # fmt: skip
    (job,) = machine.ask("query-jobs")
    assert job["error"] == f"Could not resize image: {text}"


def test_a_node_longer_than_any_image(machine):
    text = "Could not refresh total sector count: File too large"
    for size in (LONGEST + 1, (1 << 63) - 1):
        assert machine.desc(
            "blockdev-add", driver="null-co", node_name="n", size=size
        ) == text
    assert machine.desc("block_resize", node_name="data", size=LONGEST + 1) == (
        f"offset({LONGEST + 1}) exceeds maximum({LONGEST})"
    )


@pytest.mark.parametrize("driver", ["host_device", "host_cdrom", "quorum", "nvme", "null-co"])
def test_drivers_without_create_options_cannot_create(machine, driver):
    text = "Driver does not support blockdev-create"
    assert machine.desc("blockdev-create", job_id="j", options={"driver": driver}) == text


def test_drivers_that_the_program_has_not_cannot_create(machine):
    text = "Block driver 'ftp' not found or not supported"
    assert machine.desc("blockdev-create", job_id="j", options={"driver": "ftp"}) == text


@pytest.mark.parametrize(
    ("driver", "more", "flags"),
    [
        ("file", {}, "2"),
        ("file", {"read_only": True}, "0"),
        ("file", {"auto_read_only": True}, "0"),
        ("file", {"cache": {"direct": True}}, "4002"),
        ("host_cdrom", {}, "802"),
    ],
)
def test_a_set_of_descriptors_that_is_not_there(start, driver, more, flags):
    machine = start()
    text = machine.refusal_of_add(driver, "n", filename="/dev/fdset/7", **more)
    assert text == "Failed to find fdset /dev/fdset/7"
    machine = start(profile="7.2")
    assert machine.refusal_of_add(driver, "n", filename="/dev/fdset/7", **more) == (
        f"Could not dup FD for /dev/fdset/7 flags {flags}: No such file or directory"
    )
    assert machine.refusal_of_add(driver, "n", filename="/dev/fdset/x", **more) == (
        "Could not parse fdset /dev/fdset/x"
    )


def test_a_file_is_not_made_in_a_set_of_descriptors_that_is_not_there(machine):
    options = {"driver": "file", "filename": "/dev/fdset/7", "size": 0}
    machine.ask("blockdev-create", job_id="j", options=options)
    (job,) = machine.ask("query-jobs")
    assert job["error"] == (
        "Failed to find fdset /dev/fdset/7"
    )


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("falloc", "Could not preallocate new data"),
        ("full", "Could not write zeros for preallocation"),
    ],
)
def test_an_image_that_cannot_be_preallocated_is_empty(machine, full, mode, text):
    full(6 << 16)
    machine.vm.host.files.put("/full", b"")
    machine.add("file", "f", filename="/full")
    options = {"driver": "qcow2", "file": "f", "size": 1 << 20, "preallocation": mode}
    machine.ask("blockdev-create", job_id="j", options=options)
    (job,) = machine.ask("query-jobs")
    assert job["error"] == (
        f"Could not resize image: Failed to resize underlying file: {text}:"
        " No space left on device"
    )
    machine.add("qcow2", "q", file="f")
    assert machine.node("q")["image"]["virtual-size"] == 0
